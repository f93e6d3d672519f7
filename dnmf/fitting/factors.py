"""H as a pass uses it: the plain H of the last pass, extrapolated, rows of unit norm."""

from __future__ import annotations

import numpy as np

from dnmf.fitting.context import refs
from dnmf.fitting.state import ModelState
from dnmf.losses.base import Factor, Loss
from dnmf.runs.base import RunStore

__all__ = ["load_factor", "load_rows", "read_H"]


def read_H(store: RunStore, pieces: list[list[str]]) -> np.ndarray:
    """Put column slabs together, a fresh (k, d) array."""
    return np.concatenate([store.get(ref) for ref in refs(pieces)], axis=1)


def load_factor(
    store: RunStore, state: ModelState, loss: Loss, sparse: bool
) -> tuple[Factor, np.ndarray]:
    """H of the next pass, and what the rows' rescaling means for a warm W.

    Returns
    -------
    factor : Factor
        Rows of H have unit norm (zero rows stay zero).
    W_scale : (k,) float64 array
        The committed W times this is the warm start; 0 for components to be revived.
    """
    H = read_H(store, state.plain)
    scale = _normalize(H)
    if state.beta and state.previous:
        before = read_H(store, state.previous)
        _normalize(before)
        for j in range(H.shape[0]):  # row by row: no third k x d
            row = H[j].astype(np.float64)
            row += state.beta * (row - before[j])
            H[j] = np.maximum(row, 0.0)
        del before
        scale *= _normalize(H)
    scale[state.revive] = 0.0
    return loss.prepare(H, sparse), scale


def _normalize(H: np.ndarray) -> np.ndarray:
    """Scale rows of H to unit norm in place; returns the norms (1 for a zero row)."""
    norms = np.ones(H.shape[0])
    for j in range(H.shape[0]):
        row = H[j].astype(np.float64)
        peak = row.max(initial=0.0)
        if peak > 0:  # by the peak first: squares of tiny or huge numbers leave the range
            norms[j] = peak * np.sqrt(np.sum((row / peak) ** 2))
            H[j] = row / norms[j]
    return norms


def load_rows(
    store: RunStore,
    pieces: list[list[str]] | None,
    segment: int,
    shape: tuple[int, int],
    scale: np.ndarray,
    dtype: str,
) -> np.ndarray:
    """The warm start of W for a segment, a fresh (rows, k) array; zeros before the first pass."""
    if not pieces:
        return np.zeros(shape, dtype)
    W = store.get(refs([pieces[segment]])[0])
    return (W * scale).astype(dtype)
