"""Fits and peers as courses: the best objective so far, after how many reads of V."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

import dnmf
from benchmarks.clocks import Clock
from dnmf.linalg.blas import one_thread
from dnmf.planning.advice import decoded_again
from dnmf.sources import open_source
from dnmf.steps.events import Committed, Event, Progress
from dnmf.steps.serial import Serial

__all__ = ["Course", "Fitted", "components_found", "first_below", "fit_course", "fitted",
           "peer_course"]  # fmt: skip

ALIKE = 0.8
"""Cosine of a component and the planted one that it tells."""


@dataclass(frozen=True)
class Course:
    """What a fit had reached after how many reads of V.

    Attributes
    ----------
    reads : list of float
        Bytes read over the size of V, scan included, after each pass.
    values : list of float
        The best relative error (or objective) so far.
    """

    reads: list[float]
    values: list[float]

    @property
    def stopped(self) -> float:
        """Reads until the fit ended."""
        return self.reads[-1]

    @property
    def end(self) -> float:
        """The best value of all."""
        return self.values[-1]


def first_below(course: Course, target: float) -> float:
    """Reads until the target was reached; infinite where it never was."""
    pairs = zip(course.reads, course.values, strict=True)
    return next((reads for reads, value in pairs if value <= target), math.inf)


@dataclass
class _Meter:
    """A listener that counts what steps read of V, the scan as its progress tells."""

    clock: Clock = field(default_factory=Clock)
    scanned: int = 0
    running: int = 0

    def __call__(self, event: Event) -> None:
        self.clock(event)
        if isinstance(event, Progress) and event.kind == "scan":
            self.running = event.bytes_done
        elif isinstance(event, Committed) and event.kind == "scan":
            self.scanned += self.running

    def course(self, size: int, again: float, value: str) -> Course:
        """The passes, of a V of so many bytes of which a share is decoded once more."""
        nbytes, best = self.scanned, math.inf
        made = Course([], [])
        for step in self.clock.of("pass"):
            nbytes += step.row["bytes_read"]
            best = min(best, step.row[value]) if step.row["accepted"] else best
            made.reads.append(round(nbytes / size * (1 + again), 3))
            made.values.append(best)
        return made


@dataclass(frozen=True)
class Fitted:
    """A fit that has ended: its course, why it stopped, its components.

    Attributes
    ----------
    course : Course
    kind, sentence : str
        Of the end.
    objective : float
    H : (k, d) array
    """

    course: Course
    kind: str
    sentence: str
    objective: float
    H: np.ndarray


def fitted(path: Path, k: int, seed: int, options: dict[str, Any], value: str) -> Fitted:
    """Fit without a cluster, so that nothing but the sample is resident."""
    meter = _Meter()
    plan = dnmf.plan(str(path), k, **options).plan
    # segments of CSR decode the chunks that they share each for itself
    again = decoded_again(plan) / plan.bytes_per_read
    fit = dnmf.fit(str(path), k, seed=seed, executor=Serial(), on_event=meter, **options)
    course = meter.course(plan.bytes_per_read, again, value)
    kind = str(fit.details["stop_kind"])
    return Fitted(course, kind, fit.stop_reason or "", float(fit.objective or 0), np.asarray(fit.H))


def fit_course(path: Path, k: int, seed: int, options: dict[str, Any], value: str) -> Course:
    """The course alone."""
    return fitted(path, k, seed, options, value).course


def components_found(H: np.ndarray, planted: np.ndarray) -> int:
    """How many planted components have one of their own in H."""
    from scipy.optimize import linear_sum_assignment

    unit = [X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-300) for X in (planted, H)]
    cosines = unit[0] @ unit[1].T
    return int(np.sum(cosines[linear_sum_assignment(-cosines)] >= ALIKE))


def peer_course(path: Path, k: int, seed: int, iterations: int) -> Course:
    """scikit-learn's coordinate descent in float64 from a random start; an iteration reads V twice.

    It is run a few iterations at a time, from the W and H before; they are counted from its start.
    """
    from sklearn.decomposition import NMF, non_negative_factorization
    from sklearn.exceptions import ConvergenceWarning

    source = open_source(str(path))
    (V,) = source.read_blocks([0, source.shape[0]])
    V = V.astype(np.float64)
    course = Course([], [])
    with warnings.catch_warnings(), one_thread():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = NMF(k, init="random", tol=0, max_iter=1, random_state=seed)
        W, H = model.fit_transform(V), model.components_
        for before, after in _stretches(iterations):
            if after > 1:
                W, H, _ = non_negative_factorization(
                    V, W=W, H=H, n_components=k, init="custom", tol=0, max_iter=after - before
                )
            course.reads.append(2.0 * after)
            course.values.append(_objective(V, W, H))
    return course


def _stretches(iterations: int) -> Sequence[tuple[int, int]]:
    """Numbers of iterations at which to look, and the ones before: ever further apart."""
    looks = [1]
    while looks[-1] < iterations:
        looks.append(min(iterations, looks[-1] + max(1, looks[-1] // 4)))
    return list(zip([0, *looks], looks, strict=False))


def _objective(V: Any, W: np.ndarray, H: np.ndarray) -> float:
    """Half the squared error; in float64 what cancels is far below what is looked at."""
    data = V.data if sp.issparse(V) else V.ravel()
    VHt = V @ H.T
    return float(0.5 * (data @ data) - np.sum(W * VHt) + 0.5 * np.sum((W.T @ W) * (H @ H.T)))
