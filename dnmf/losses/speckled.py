"""A block of which single entries are left out: fitted to the others, measured on them.

By the losses that know unobserved entries, which take every observed entry one by one: dear next
to leaving out whole rows and columns, and for data of any loss and shape the same question.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import scipy

from dnmf.linalg.matrix import places
from dnmf.losses.base import Factor, Loss, Matrix, SmallStats
from dnmf.losses.held_out import MIXED, HeldOutStats
from dnmf.losses.kullback_leibler import KullbackLeibler

__all__ = ["SpeckledFactor", "update_speckled"]

Mask: TypeAlias = Callable[[int, int], np.ndarray]
TILE = 1 << 20
"""Entries that are taken apart at once, zeros too."""


class SpeckledFactor:
    """H' as entries that are left out are predicted: for Kullback-Leibler without zeros."""

    def __init__(self, loss: Loss, H: np.ndarray) -> None:
        self.kl = isinstance(loss, KullbackLeibler)
        if self.kl:
            even = 0.5 * (H.mean(axis=0) + H.mean(axis=1, keepdims=True))
            H = (1 - MIXED) * H + MIXED * even
        self.Ht = np.ascontiguousarray(H.T)

    def measure(self, v: np.ndarray, w: np.ndarray, columns: np.ndarray) -> tuple[float, float]:
        """The loss of entries, and its scale; ``w`` are the rows of W of each."""
        v = v.astype(np.float64)
        fitted = np.einsum("ij,ij->i", w, self.Ht[columns], dtype=np.float64)
        if not self.kl:
            return 0.5 * float(np.sum((v - fitted) ** 2)), 0.5 * float(np.sum(v * v))
        seen = fitted > 0  # a row or column without an observed count says nothing
        v, fitted = v[seen], fitted[seen]
        some = v > 0
        logs = float(np.sum(v[some] * np.log(v[some] / fitted[some])))
        return max(logs + float(np.sum(fitted - v)), 0.0), float(v.sum())


def update_speckled(
    loss: Loss,
    V: Matrix,
    start: int,
    W: np.ndarray,
    factor: Factor,
    score: SpeckledFactor,
    out: Mask,
    rows: np.ndarray,
    stats: tuple[SmallStats, np.ndarray],
    *,
    tau: float,
) -> HeldOutStats:
    """W of a block in place, statistics of the entries that are seen.

    Parameters
    ----------
    loss : Loss
        One that knows unobserved entries.
    out : callable
        From first and last row of the block's part to a (rows, d) bool array: what is left out.
    """
    total = HeldOutStats()
    m, d = V.shape
    height = max(1, TILE // d)
    for a in range(0, m, height):
        b = min(a + height, m)
        tile = V[a:b] if isinstance(V, np.ndarray) else V[a:b].toarray()
        left = out(a, b)
        part = np.ascontiguousarray(W[a:b])
        seen = _observed(tile, ~left)
        loss.update_block(
            seen, start + a, part, factor, rows[:, a:b], stats, tau=tau, residual=False
        )
        W[a:b] = part
        i, columns = np.nonzero(left)
        error, scale = score.measure(tile[i, columns], part[i], columns)
        values = seen.data.astype(np.float64)
        total.add(
            HeldOutStats(error, scale, i.size, float(values.sum()), float(values @ values), b - a)
        )
    return total


def _observed(tile: np.ndarray, seen: np.ndarray) -> scipy.sparse.csr_array:
    """Some entries of a dense tile, zeros among them too."""
    return scipy.sparse.csr_array((tile[seen], *places(seen)), shape=tile.shape, copy=False)
