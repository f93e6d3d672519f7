"""Systems that factorize a matrix, run with a given effort, and judged by one measure."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import scipy.sparse as sp

import dnmf
from benchmarks import machine
from benchmarks.clocks import Clock
from benchmarks.clusters import TINY_LIMIT, cluster
from dnmf.steps.serial import Serial

__all__ = [
    "SYSTEMS",
    "Attempt",
    "Least",
    "System",
    "Task",
    "converge",
    "known_effort",
    "least_effort",
    "objective",
]

ROWS = 4096
GROWTH = 1.5
FINE = 1.1
FEW, IN_VAIN = 5, 1e-3
OTHER_BITS = 3


@dataclass(frozen=True)
class Attempt:
    """One run of a system.

    Attributes
    ----------
    seconds : float
        Wall time, from V in memory to W and H in memory.
    W, H : arrays
    course : list of float
        The objective after every unit of effort, where the system tells.
    """

    seconds: float
    W: np.ndarray
    H: np.ndarray
    course: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Task:
    """What is to be factorized, and where files may go."""

    V: Any
    k: int
    seed: int
    folder: Path
    tiny: bool = False


Run = Callable[[Task, int | None], Attempt]
"""Runs with that many iterations (epochs, passes); None is until its own rule stops it."""


@dataclass(frozen=True)
class System:
    """Attributes
    ----------
    name : str
    run : callable
    most : int
        Effort at which it is given up.
    rule : bool
        Whether its own rule stops it where it has converged. (MiniBatchNMF's stopped at an
        objective 22% above what more epochs reach.)
    needs : str
        A package that may be absent; empty for none.
    """

    name: str
    run: Run
    most: int
    rule: bool = True
    needs: str = ""

    @property
    def absent(self) -> str:
        """Why it cannot run; empty where it can."""
        if self.needs and machine.installed(self.needs) is None:
            return f"{self.needs} is not installed (pip install '.[bench]')"
        return ""


def converge(system: System, task: Task, patience: float) -> tuple[Attempt, float]:
    """A converged run, and its objective: by its own rule, or when twice the effort is in vain.

    A single run that takes more seconds than ``patience`` is the last one.
    """
    if system.rule:
        attempt = system.run(task, None)
        return attempt, objective(task.V, attempt.W, attempt.H)
    effort, best = FEW, math.inf
    while True:
        attempt = system.run(task, effort)
        value = objective(task.V, attempt.W, attempt.H)
        spent = effort >= system.most or attempt.seconds > patience
        if value > (1 - IN_VAIN) * best or spent:
            return attempt, min(value, best)
        effort, best = min(2 * effort, system.most), value


def objective(V: Any, W: np.ndarray, H: np.ndarray) -> float:
    """1/2 |V - W H|^2, sums in float64."""
    W, H = np.asarray(W, np.float32), np.asarray(H, np.float32)
    sumsq = cross = 0.0
    for start in range(0, V.shape[0], ROWS):
        rows = slice(start, start + ROWS)
        part = V[rows]
        values = (part.data if sp.issparse(part) else part.ravel()).astype(np.float64)
        sumsq += float(values @ values)
        product = np.asarray(part @ H.T, np.float64)
        cross += float(np.sum(product * W[rows]))
    W64, H64 = W.astype(np.float64), H.astype(np.float64)
    return 0.5 * (sumsq - 2 * cross + float(np.sum((W64.T @ W64) * (H64 @ H64.T))))


@dataclass(frozen=True)
class Least:
    """Attributes
    ----------
    seconds : float
        Of the run with about the least effort that reaches a target; infinite where none does.
    effort : int or None
        None where no run reached it, be it that patience ended: ``seconds`` is then a bound.
    """

    seconds: float
    effort: int | None


def least_effort(system: System, task: Task, target: float, patience: float) -> Least:
    """Effort grows by half until the target is reached, and is then narrowed down to a tenth.

    It grows no further where a single run took more seconds than ``patience``.
    """
    low, effort = 0, 2
    found = None
    while found is None:
        attempt = system.run(task, effort)
        if objective(task.V, attempt.W, attempt.H) <= target:
            found = Least(attempt.seconds, effort)
        elif effort == system.most:
            return Least(math.inf, None)
        elif attempt.seconds > patience:
            return Least(attempt.seconds, None)
        else:
            low, effort = effort, min(system.most, math.ceil(effort * GROWTH))
    high = effort
    while high > max(low + 1, FINE * low):
        middle = (low + high) // 2
        attempt = system.run(task, middle)
        if objective(task.V, attempt.W, attempt.H) <= target:
            high, found = middle, Least(attempt.seconds, middle)
        else:
            low = middle
    return found


def known_effort(system: System, task: Task, target: float, course: Sequence[float]) -> Least:
    """The same where the course of such a fit is known: one run, or some more with other bits."""
    effort = next((i + 1 for i, value in enumerate(course) if value <= target), None)
    if effort is None:
        return Least(math.inf, None)
    for more in range(OTHER_BITS):
        attempt = system.run(task, effort + more)
        if objective(task.V, attempt.W, attempt.H) <= target:
            return Least(attempt.seconds, effort + more)
    return Least(math.inf, None)


def _dnmf_serial(task: Task, effort: int | None) -> Attempt:
    return _dnmf(task, effort, executor=Serial())


def _dnmf_threads(task: Task, effort: int | None) -> Attempt:
    """As `dnmf.fit` does for V in memory where no cluster is given."""
    return _dnmf(task, effort)


def _dnmf_one_start(task: Task, effort: int | None) -> Attempt:
    """One start, as scikit-learn has and as `dnmf.NMF` takes by default, in one thread."""
    return _dnmf(task, effort, executor=Serial(), n_init=1)


def _dnmf_cluster(task: Task, effort: int | None) -> Attempt:
    """With the start-up of a cluster of two workers."""
    began = perf_counter()
    with cluster(2, memory=TINY_LIMIT if task.tiny else None) as client:
        started = perf_counter() - began
        done = _dnmf(task, effort, client=client, out=task.folder / "fit.zarr", overwrite=True)
    return Attempt(started + done.seconds, done.W, done.H, done.course)


def _dnmf(task: Task, effort: int | None, **options: Any) -> Attempt:
    clock = Clock()
    if effort is not None:
        options["max_passes"] = effort
    began = perf_counter()
    result = dnmf.fit(task.V, task.k, seed=task.seed, on_event=clock, **options)
    W, H = np.asarray(result.W), np.asarray(result.H)
    seconds = perf_counter() - began
    steps = [step.row for step in clock.of("pass")]
    course = [row["objective"] if row["accepted"] else math.inf for row in steps]
    return Attempt(seconds, W, H, course)


def _sklearn(init: str) -> Run:
    def run(task: Task, effort: int | None) -> Attempt:
        from sklearn.decomposition import NMF

        rule = {"max_iter": 500} if effort is None else {"max_iter": effort, "tol": 0.0}
        return _fit_transform(NMF(task.k, init=init, random_state=task.seed, **rule), task.V)

    return run


def _mini_batch(task: Task, effort: int | None) -> Attempt:
    """Epochs in full; its W as its own default finds it from the last H."""
    from sklearn.decomposition import MiniBatchNMF

    model = MiniBatchNMF(
        task.k,
        init="random",
        random_state=task.seed,
        max_iter=effort,
        tol=0.0,
        max_no_improvement=None,
    )
    began = perf_counter()
    model.fit(task.V)
    model.set_params(tol=1e-4, transform_max_iter=200)
    W = model.transform(task.V)
    return Attempt(perf_counter() - began, W, model.components_)


def _fit_transform(model: Any, V: Any) -> Attempt:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        began = perf_counter()
        W = model.fit_transform(V)
        seconds = perf_counter() - began
    return Attempt(seconds, W, model.components_)


def _gensim(task: Task, effort: int | None) -> Attempt:
    """Training only; its W is the best one for its H, and costs it nothing."""
    from gensim.models.nmf import Nmf

    V = sp.csr_array(task.V)
    columns = sp.csc_matrix((V.data, V.indices, V.indptr), shape=V.shape[::-1])
    words = {j: str(j) for j in range(V.shape[1])}
    began = perf_counter()
    model = Nmf(
        columns, num_topics=task.k, id2word=words, passes=effort, random_state=task.seed,
        eval_every=None,
    )  # fmt: skip
    seconds = perf_counter() - began
    H = np.ascontiguousarray(model._W.T, np.float32)
    return Attempt(seconds, np.asarray(dnmf.transform(V, H, executor=Serial())), H)


SYSTEMS = {
    "dnmf": System("dnmf, 2 workers", _dnmf_cluster, 200),
    "serial": System("dnmf, serial", _dnmf_serial, 200),
    "threads": System("dnmf, threads of this process", _dnmf_threads, 200),
    "one-start": System("dnmf, serial, one start", _dnmf_one_start, 200),
    "cd": System("scikit-learn cd, random", _sklearn("random"), 500),
    "cd-nndsvda": System("scikit-learn cd, nndsvda", _sklearn("nndsvda"), 500),
    "mini-batch": System("scikit-learn MiniBatchNMF", _mini_batch, 160, rule=False),
    "gensim": System("gensim Nmf", _gensim, 80, rule=False, needs="gensim"),
}
