"""Past poor local optima: begin with too many components, merge; add a few, merge again.

A start with exactly k components often tells one part of the data by two components and another
by none; alternating steps never leave such a point. With half as many components again nearly
every part is found, and the pairs that cost least to merge are the ones told twice. Adding a few
random components and merging as many again mends what is left (the idea of breathing k-means,
Fritzke 2020, for factors).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from dnmf.linalg.merge import merge_components

__all__ = ["Draw", "Fitted", "as_large", "search"]

FIRST_PASSES = 10
"""Passes with too many components."""

ADDED_PASSES = 8
MERGED_PASSES = 4
GAIN = 2e-4
"""A cycle that lowers the objective by less, relative to it, is a failure."""

SAME = 5e-5
"""A cycle that changes it by less has come back to one solution: the search is over."""

FAILURES = 2
CYCLES = 5
"""Most cycles."""


@dataclass(frozen=True)
class Fitted:
    """The result of some passes.

    Attributes
    ----------
    objective : float
    H : (k, d) array
        After the last H-step.
    WtW : (k, k) float64 array
        Gram matrix of the W before that step.
    W_sums : sequence of float or None
        Sums of the columns of W, where the loss counts them.
    passes : int
        All that the search has taken so far.
    """

    objective: float
    H: np.ndarray
    WtW: np.ndarray
    W_sums: Sequence[float] | None
    passes: int


class Fit(Protocol):
    """Fit from a given H; a tolerance of 0 means exactly so many passes."""

    def __call__(self, H: np.ndarray, passes: int, tol: float) -> Fitted: ...


Draw = Callable[[int, int], np.ndarray]
"""Draws random rows of H: (stream, number of rows) -> rows."""


def search(
    fit: Fit, draw: Draw, k: int, most: int, tol: float, passes: int, cycles: int = CYCLES
) -> Fitted:
    """Return the best fit of k components that one start leads to.

    Parameters
    ----------
    fit : callable
    draw : callable
        Stream 0 is the start.
    k : int
    most : int
        Components that the data can tell apart, e.g. the smaller side of V; no more are tried.
    tol : float
        When the passes between cycles stop.
    passes : int
        Most passes to convergence.
    cycles : int
        Most times that components are added and merged afterwards.
    """
    extra = min(k // 2, most - k)
    start = draw(0, k + max(extra, 0))
    if extra <= 0:
        return fit(start, passes, tol)
    first = fit(start, FIRST_PASSES, 0.0)
    best = fit(merge_components(first.H, first.WtW, k), passes, tol)
    best = replace(best, passes=first.passes + best.passes)
    return _breathe(best, fit, draw, min(max(1, k // 5), most - k), cycles)


def _breathe(best: Fitted, fit: Fit, draw: Draw, more: int, cycles: int) -> Fitted:
    """Add components and merge as many, until that has failed twice in a row."""
    k, failures = len(best.H), 0
    for cycle in range(1, cycles + 1):
        added = np.concatenate([best.H, as_large(draw(cycle, more), best.H)])
        wide = fit(added, ADDED_PASSES, 0.0)
        found = fit(merge_components(wide.H, wide.WtW, k), MERGED_PASSES, 0.0)
        spent = best.passes + wide.passes + found.passes
        gain = best.objective - found.objective
        best = replace(found if gain > 0 else best, passes=spent)
        if gain > GAIN * best.objective:
            failures = 0
            continue
        failures, more = failures + 1, more // 2
        if failures == FAILURES or not more or abs(gain) < SAME * best.objective:
            break
    return best


def as_large(rows: np.ndarray, H: np.ndarray) -> np.ndarray:
    """Return the rows scaled to the typical norm of H's, so that penalties treat them alike."""
    norms = np.linalg.norm(H.astype(np.float64), axis=1)
    own = np.linalg.norm(rows.astype(np.float64), axis=1)
    typical = float(np.median(norms[norms > 0])) if norms.any() else 1.0
    scale = np.divide(typical, own, out=np.zeros_like(own), where=own > 0)
    return (rows * scale[:, None]).astype(H.dtype)
