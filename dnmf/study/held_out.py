"""Held-out errors by k and fold."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy

from dnmf.linalg.own_state import own_state

__all__ = ["HeldOut", "empty_folds", "folds_without_entries", "held_out_by_k"]


PER_TOL = 10
"""Held-out errors are uncertain by some times what fits stop at, a share tol of the objective or of
what is explained: on planted Poisson
data with tol = 1e-4, models of too many components differed by 0.03% among each other, and one of
them by 0.05% from the true number."""

FLOOR = 0.001
"""Held-out errors below this times tol count as this: W H predicts V there to the precision of
the fits."""

APART = 0.3
"""A standard error above which folds tell where fits ended, not how well they describe V. Of exact
products of k = 2 to 6 (20 of 200 x 40, tol = 1e-4), models of k and more components had errors of
1e-20 to 1e-3 in single folds, in no order, and standard errors of 0.3 to 8; of data with noise of
a thousandth and more they were below 0.1. From so few folds one standard error is then too little:
by Student's t the true k was within it for 20 of 20, by one standard error for 15."""

TAIL = 0.975
"""The quantile of Student's t that counts there."""


@dataclass(frozen=True)
class HeldOut:
    """The loss on the entries that models did not see, over the size of V in those entries.

    Attributes
    ----------
    ks : list of int
        Ascending; only those for which every fold has an error.
    resolution : float
        Relative differences below it say nothing: the fits did not converge that far.
    errors : (ks, folds) array
        Loss on the left-out block over 1/2 |V|^2 there (least squares) or the sum of V there.
    floor : float
        Errors below it count as this: W H predicts V there to the precision of the fits.
    empty : list of int
        Folds that do not count: what they left out is nothing but zeros, or nothing at all.
    no_entries : list of int
        Those of them that left out no entry, as where there are more folds than rows.
    """

    ks: list[int]
    errors: np.ndarray
    resolution: float = 0.0
    floor: float = 0.0
    empty: list[int] = field(default_factory=list)
    no_entries: list[int] = field(default_factory=list)

    @property
    @own_state()
    def mean(self) -> np.ndarray:
        """Geometric mean over folds, (ks,), so that every fold counts alike, easy or hard."""
        return np.asarray(np.exp(self._logs.mean(axis=1)))

    @property
    def _logs(self) -> np.ndarray:
        return np.asarray(np.log(np.maximum(self.errors, max(self.floor, np.finfo(float).tiny))))

    @property
    def best(self) -> int:
        """The k with the smallest mean."""
        return self.ks[int(np.argmin(self.mean))]

    @property
    @own_state()
    def excess(self) -> np.ndarray:
        """Excess of each k's mean over the best one's, as a share of that (ks,)."""
        return np.asarray(self.mean / self.mean.min() - 1)

    @property
    @own_state()
    def standard_error(self) -> np.ndarray:
        """Standard error of `excess`, (ks,): from the ratios to the best k's errors, fold by fold.

        Folds differ in how hard they are, for every k alike; what counts is by how much one k is
        worse than another on the same fold.
        """
        ratios = self._logs - self._logs[int(np.argmin(self.mean))]
        folds = self.errors.shape[1]
        if folds < 2:
            return np.zeros(len(self.ks))
        return np.asarray(ratios.std(axis=1, ddof=1) / np.sqrt(folds))

    @property
    def within_one_error(self) -> list[int]:
        """The k whose mean is at most one standard error, or `resolution`, above the best.

        Where folds are far apart, as many standard errors as Student's t has for so few of them.
        """
        many = scipy.special.stdtrit(max(1, self.errors.shape[1] - 1), TAIL)
        errors = [error * (many if error > APART else 1) for error in self.standard_error]
        both = zip(self.ks, np.log1p(self.excess), errors, strict=True)
        return [k for k, excess, error in both if excess <= max(error, self.resolution)]


def held_out_by_k(models: list[dict[str, Any]], tol: float = 0.0) -> HeldOut | None:
    """Make the table from the lines of a study's models."""
    found: dict[int, dict[int, float]] = {}
    lines = [line for line in models if line["fold"] is not None]
    for line in lines:
        if _known(line["held_out"]):
            found.setdefault(line["k"], {})[line["fold"]] = line["held_out"]
    empty = empty_folds(models)
    folds = sorted({line["fold"] for line in lines} - set(empty))
    whole = sorted(k for k, errors in found.items() if sorted(errors) == folds)
    if not whole:
        return None
    errors = np.array([[found[k][f] for f in folds] for k in whole])
    none = [fold for fold in empty if fold in folds_without_entries(models)]
    table = HeldOut(whole, errors, 0.0, FLOOR * tol, empty, none)
    share = _explained([line for line in lines if line["k"] == table.best])
    return replace(table, resolution=PER_TOL * tol * share)


def _explained(lines: list[dict[str, Any]]) -> float:
    """Return what the tol of these models is a share of, as a share of their objectives."""
    known = [(line.get("worth"), line["objective"]) for line in lines]  # none in older results
    shares = [worth / f for worth, f in known if worth is not None and f > 0]
    return min(1.0, float(np.mean(shares))) if shares else 1.0


def empty_folds(models: list[dict[str, Any]]) -> list[int]:
    """Find folds whose models made a pass and have no error.

    They left out nothing but zeros, or no entry.
    """
    by_fold: dict[int, list[dict[str, Any]]] = {}
    for line in models:
        if line["fold"] is not None:
            by_fold.setdefault(line["fold"], []).append(line)
    return sorted(
        fold
        for fold, lines in by_fold.items()
        if all(line["objective"] is not None and not _known(line["held_out"]) for line in lines)
    )


def folds_without_entries(models: list[dict[str, Any]]) -> set[int]:
    """Find folds that left out no entry."""
    return {line["fold"] for line in models if line.get("held_entries") == 0}


def _known(error: float | None) -> bool:
    return error is not None and math.isfinite(error)
