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
from dnmf.planning.limits import SearchLimits

__all__ = ["Draw", "Fitted", "as_large", "search"]


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
    of_means : float or None
        Divergence of the rows from their column means, where it is known.
    """

    objective: float
    H: np.ndarray
    WtW: np.ndarray
    W_sums: Sequence[float] | None
    passes: int
    of_means: float | None = None


class Fit(Protocol):
    """Fit from a given H; a tolerance of 0 means exactly so many passes."""

    def __call__(self, H: np.ndarray, passes: int, tol: float) -> Fitted: ...


Draw = Callable[[int, int], np.ndarray]
"""Draws random rows of H: (stream, number of rows) -> rows."""


def search(
    fit: Fit, draw: Draw, k: int, most: int, tol: float, passes: int, limits: SearchLimits
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
    limits : SearchLimits
    """
    extra = min(k // 2, most - k)
    start = draw(0, k + max(extra, 0))
    if extra <= 0:
        return fit(start, passes, tol)
    first = fit(start, limits.first_passes, 0.0)
    best = fit(merge_components(first.H, first.WtW, k), passes, tol)
    best = replace(best, passes=first.passes + best.passes)
    return _breathe(best, fit, draw, min(max(1, k // 5), most - k), limits)


def _breathe(best: Fitted, fit: Fit, draw: Draw, more: int, limits: SearchLimits) -> Fitted:
    """Add components and merge as many, until that has failed twice in a row."""
    k, failures = len(best.H), 0
    for cycle in range(1, limits.cycles + 1):
        added = np.concatenate([best.H, as_large(draw(cycle, more), best.H)])
        wide = fit(added, limits.added_passes, 0.0)
        found = fit(merge_components(wide.H, wide.WtW, k), limits.merged_passes, 0.0)
        spent = best.passes + wide.passes + found.passes
        gain = best.objective - found.objective
        best = replace(found if gain > 0 else best, passes=spent)
        if gain > limits.gain * best.objective:
            failures = 0
            continue
        failures, more = failures + 1, more // 2
        came_back = abs(gain) < limits.same * best.objective
        if failures == limits.failures or not more or came_back:
            break
    return best


def as_large(rows: np.ndarray, H: np.ndarray) -> np.ndarray:
    """Return the rows scaled to the typical norm of H's, so that penalties treat them alike."""
    norms = np.linalg.norm(H.astype(np.float64), axis=1)
    own = np.linalg.norm(rows.astype(np.float64), axis=1)
    typical = float(np.median(norms[norms > 0])) if norms.any() else 1.0
    scale = np.divide(typical, own, out=np.zeros_like(own), where=own > 0)
    return (rows * scale[:, None]).astype(H.dtype)
