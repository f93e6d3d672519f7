"""H as a pass uses it: what the last pass made of it, extrapolated, rows of unit norm."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from dnmf.fitting.model_state import ModelState, Pair
from dnmf.fitting.models.objective import tall_and_wide
from dnmf.losses.base import Loss
from dnmf.losses.values import Penalties
from dnmf.planning.plan import Plan
from dnmf.runs.base import Reader, Refs

FEW_ENTRIES = 1 << 15
"""Entries of H that are rescaled at once."""

__all__ = ["load_H", "load_rows", "normalize", "read_H", "read_rows", "start_row"]


def read_H(store: Reader, slabs: Refs) -> np.ndarray:
    """Put column slabs together, a fresh (k, d) array."""
    return np.concatenate([store.get(ref) for ref in slabs], axis=1)


def read_rows(
    store: Reader, stored: Refs, starts: Sequence[int], start: int, stop: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Read rows ``start`` to ``stop`` of a tall factor, a segment at a time.

    Parameters
    ----------
    store : Reader
    stored : tuple of ObjectRef
        The rows of each segment.
    starts : sequence of int
        First row of each segment, then the number of rows.
    start, stop : int

    Yields
    ------
    above : int
        How many of the rows stand before these.
    rows : (m, k) array
    """
    segment = int(np.searchsorted(starts, start, side="right")) - 1
    while segment < len(stored) and starts[segment] < stop:
        first = starts[segment]
        rows = store.get(stored[segment])[max(start - first, 0) : stop - first]
        yield max(first - start, 0), rows
        segment += 1


def load_H(
    store: Reader, state: ModelState, loss: Loss, column_sums: np.ndarray, unit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Load H of the next pass, and what the rescaling of its rows means for the start of W.

    Parameters
    ----------
    column_sums : (d,) float64 array
        Sums of the columns over the rows of the pass.
    unit : float
        The size of V's nonzero entries.

    Returns
    -------
    H : (k, d) array
        Rows of H have unit norm (zero rows stay zero), unless penalties fix their scale, or they
        are fixed.
    W_scale : (k,) float64 array
        The committed W times this is the start of W; 0 for components to be revived.
    """
    H, count = read_H(store, state.extrapolated or state.next_H), loss.fixed
    if state.weights is not None:
        fixed = H[:count].copy()
        H = np.array(loss.from_sample(H, np.array(state.weights), column_sums, unit))
        H[:count] = fixed
    free = loss.gauge_free
    scale = normalize(H, count) if free else _balance(H, state.pair, loss.penalties, count)
    if state.beta and state.previous_H:
        before = read_H(store, state.previous_H)
        if free:
            normalize(before, count)
        else:
            before = (before / scale[:, None]).astype(H.dtype)
        for rows in _few_rows(H, count):
            part = H[rows].astype(np.float64)
            part += state.beta * (part - before[rows])
            H[rows] = np.maximum(part, 0.0)
        del before
        if free:
            scale *= normalize(H, count)
    scale[list(state.revive)] = 0.0
    return H, scale


def normalize(H: np.ndarray, fixed: int = 0) -> np.ndarray:
    """Scale rows of H to unit norm in place, but the first ``fixed``.

    Returns the norms (1 for a row that is zero or fixed).
    """
    norms = np.ones(H.shape[0])
    for rows in _few_rows(H, fixed):
        part = H[rows].astype(np.float64)
        peaks = part.max(axis=1, initial=0.0, keepdims=True)
        peaks[peaks == 0] = 1.0
        part /= peaks  # first: squares of tiny or huge numbers leave the range
        sizes = np.sqrt(np.sum(part * part, axis=1, keepdims=True))
        sizes[sizes == 0] = 1.0
        H[rows] = part / sizes
        norms[rows] = (peaks * sizes)[:, 0]
    return norms


def _few_rows(H: np.ndarray, fixed: int) -> Iterator[slice]:
    """Yield rows of H except the first ``fixed``, some at a time: no third k x d."""
    height = max(1, FEW_ENTRIES // max(H.shape[1], 1))
    for start in range(fixed, H.shape[0], height):
        yield slice(start, start + height)


def _balance(H: np.ndarray, pair: Pair | None, penalties: Penalties, fixed: int) -> np.ndarray:
    """Move scale between W_j and H_j to where the penalties are least; returns what H lost.

    With W_j s and H_j / s the penalties are a sum of exponentials in log s, convex: bisection.
    Without it the scales drift for dozens of passes (60 were not enough on Poisson data).
    """
    scale = np.ones(H.shape[0])
    both = (penalties.l1_W or penalties.l2_W) and (penalties.l1_H or penalties.l2_H)
    if pair is None or pair.W_sums is None or not both:
        return scale
    for j in range(fixed, H.shape[0]):
        row = H[j].astype(np.float64)
        rising = penalties.l1_W * pair.W_sums[j], penalties.l2_W * pair.W_norms[j] ** 2
        falling = penalties.l1_H * float(row.sum()), penalties.l2_H * float(row @ row)
        if sum(rising) > 0 and sum(falling) > 0:
            scale[j] = _least(rising, falling)
            H[j] = row / scale[j]
    return scale


def start_row(plan: Plan, profile: np.ndarray, rows: int, k: int) -> np.ndarray:
    """Return the row that random starts of k components vary, at the scale penalties allow.

    Without them rows of H get unit norm. With them nobody rescales H before its first step, and
    from one of the size of V's column sums W is about 1 / n: then W'V is below l1_H, and the
    first H-step leaves nothing (a Kullback-Leibler fit of 300 x 40 ended 20% too high).

    Parameters
    ----------
    profile : (d,) float64 array
        Sums of the columns over so many ``rows``, or their means and 1.
    rows, k : int

    Returns
    -------
    (d,) float64 array
        All entries of W and H being alike, k products of them are V's mean and the penalties,
        as far as scales matter to them, are least.
    """
    mean = float(profile.mean()) / rows
    if not (plan.config.penalized and mean > 0):
        return profile
    size, l1 = math.sqrt(mean / k), plan.config.l1_ratio
    costs = [(alpha * l1 * size, alpha * (1 - l1) * size**2) for alpha in tall_and_wide(plan)]
    share = _least(*costs) if all(sum(cost) > 0 for cost in costs) else 1.0
    return np.asarray(profile * (size / share / (rows * mean)))


def _least(rising: tuple[float, float], falling: tuple[float, float]) -> float:
    """Return the s that minimises a s + b s^2 / 2 + c / s + d / s^2 / 2."""
    low, high = -100.0, 100.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        s = math.exp(middle)
        slope = rising[0] * s + rising[1] * s * s - falling[0] / s - falling[1] / s / s
        low, high = (low, middle) if slope > 0 else (middle, high)
    return math.exp(0.5 * (low + high))


def load_rows(
    store: Reader,
    stored: Refs | None,
    segment: int,
    shape: tuple[int, int],
    scale: np.ndarray,
    dtype: str,
) -> np.ndarray:
    """Read the start of W for a segment, a fresh (rows, k) array; zeros before the first pass."""
    if not stored:
        return np.zeros(shape, dtype)
    return (store.get(stored[segment]) * scale).astype(dtype)
