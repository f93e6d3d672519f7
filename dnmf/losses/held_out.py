"""A block of which some rows and columns are left out: fitted without them, measured on them.

Left-out rows keep no part in the statistics, but their W is solved on the columns that are seen.
Left-out columns keep no part in W, but in the statistics, so that the H-step folds them in.
Where both are left out, the loss is summed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from dnmf.linalg.hals import cold_start, solve_rows
from dnmf.linalg.products import gram, residual_sumsq
from dnmf.losses.base import Factor, Matrix, SmallStats, worst_row
from dnmf.losses.frobenius import Frobenius, ridged
from dnmf.losses.kullback_leibler import KullbackLeibler, tiles

__all__ = ["HELD", "HeldOutFactor", "HeldOutStats", "update_held_out_kl", "update_held_out_rows"]

HELD = (Frobenius, KullbackLeibler)
"""The losses (exactly these classes) that can leave out."""


MIXED = 1e-3
"""Share of the prediction that is the mean over components and over columns: a count where the
model expects none would otherwise cost infinitely much."""


@dataclass
class HeldOutStats:
    """Sums over the part that is left out, and over the one that is fitted.

    Attributes
    ----------
    error : float
        The loss where rows and columns are left out.
    scale : float
        The same loss of the best constant prediction's stand-in: 1/2 |V|^2, or the sum of V.
    entries : int
    total, sumsq : float
        Sum of V and of its squares where it is fitted.
    rows : int
        Rows that are fitted.
    """

    error: float = 0.0
    scale: float = 0.0
    entries: int = 0
    total: float = 0.0
    sumsq: float = 0.0
    rows: int = 0

    def add(self, other: HeldOutStats) -> None:
        """Add ``other``."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass(frozen=True)
class HeldOutFactor:
    """The columns that are left out of one model.

    Attributes
    ----------
    columns : (d,) bool array
    places : (c,) int array
        Their numbers.
    factor : Factor
        H with nothing but these columns.
    score : Factor
        The same without zeros, for the divergence that zeros make infinite.
    """

    columns: np.ndarray
    places: np.ndarray
    factor: Factor
    score: Factor

    @classmethod
    def make(cls, loss: Any, H: np.ndarray, columns: np.ndarray, sparse: bool) -> HeldOutFactor:
        """From all of H."""
        places = np.flatnonzero(columns)
        only = np.zeros_like(H)
        only[:, places] = H[:, places]
        factor = loss.prepare(only, sparse)
        if isinstance(loss, Frobenius):
            return cls(columns, places, factor, factor)
        even = 0.5 * (H.mean(axis=0) + H.mean(axis=1, keepdims=True))
        mixed = (1 - MIXED) * H + MIXED * even
        only[:, places] = mixed[:, places]
        return cls(columns, places, factor, loss.prepare(only, sparse))


def _sums_of_rows(V: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Sums and sums of squares of rows in float64, without a float64 copy of a dense block."""
    if isinstance(V, np.ndarray):
        squares = np.einsum("ij,ij->i", V, V, dtype=np.float64)
        return np.asarray(np.sum(V, axis=1, dtype=np.float64)), squares
    rows, values = np.repeat(np.arange(V.shape[0]), np.diff(V.indptr)), V.data.astype(np.float64)
    sums = np.bincount(rows, values, V.shape[0])
    return sums, np.bincount(rows, values * values, V.shape[0])


def update_held_out_rows(
    loss: Frobenius,
    V: Matrix,
    start: int,
    W: np.ndarray,
    VHt: np.ndarray,
    factor: Factor,
    held: HeldOutFactor,
    out: np.ndarray,
    rows: np.ndarray,
    small: SmallStats,
    *,
    tau: float,
    residual: bool,
) -> tuple[np.ndarray, HeldOutStats]:
    """Least squares: W of a block in place, and statistics of the rows that are seen.

    Parameters
    ----------
    VHt : (m, k) array
        V H' with the H of ``factor``, whose left-out columns are zero.
    out : (m,) bool array
        Rows that are left out.

    Returns
    -------
    W : (m, k) array
        With zeros for the rows that are left out: what W' V is to be summed from.
    HeldOutStats
    """
    l1, G = loss.penalties.l1_W, ridged(factor.G, loss.penalties.l2_W)
    if not W.any():
        W[:] = cold_start(VHt - W.dtype.type(l1) if l1 else VHt, G)
    hidden = V[:, held.places]
    hidden_sums, hidden_sumsq = _sums_of_rows(hidden)
    sumsq = np.maximum(rows[1] - hidden_sumsq, 0)
    seen, unseen = np.flatnonzero(~out), np.flatnonzero(out)
    solved = {}
    for name, which in (("seen", seen), ("unseen", unseen)):
        some = W[which]
        solved[name] = solve_rows(some, VHt[which], G.astype(W.dtype), sumsq[which], tau=tau, l1=l1)
        W[which] = some
    counted = W.copy()
    counted[unseen] = 0
    found = solved["seen"]
    part = SmallStats(
        gram(counted),
        np.sum(counted, axis=0, dtype=np.float64),
        cross=found.cross,
        total=found.total,
        sumsq=found.sumsq,
        kkt=found.kkt,
        sweeps=found.sweeps,
    )
    both = hidden[unseen] if isinstance(hidden, np.ndarray) else hidden[unseen].toarray()
    del hidden
    here = _measure(W[unseen] @ held.factor.H[:, held.places], both)
    totals = rows[0] - hidden_sums
    here.rows, here.total = seen.size, float(totals[seen].sum())
    here.sumsq = float(sumsq[seen].sum())
    small.residual = small.residual or 0.0 if residual else None
    if residual:  # what is not fitted counts as if by zero, and is taken off again
        everything = residual_sumsq(V, counted, factor.H, factor.Ht, factor.G)
        part.residual = max(everything - (float(rows[1].sum()) - here.sumsq), 0.0)
    of_rows = np.full(W.shape[0], -np.inf)
    of_rows[seen] = found.residual_sumsq
    if seen.size:
        part.candidates = worst_row(loss.residual_of, V, start, W, factor.H, of_rows, small)
    small.add(part)
    return counted, here


def _measure(fitted: np.ndarray, V: np.ndarray) -> HeldOutStats:
    """Least squares of a dense block that was left out."""
    difference = V.astype(np.float64) - fitted
    scale = 0.5 * float(np.sum(np.square(V, dtype=np.float64)))
    return HeldOutStats(0.5 * float(np.sum(difference * difference)), scale, V.size)


def update_held_out_kl(
    loss: KullbackLeibler,
    V: Matrix,
    start: int,
    W: np.ndarray,
    factor: Factor,
    held: HeldOutFactor,
    out: np.ndarray,
    rows: np.ndarray,
    stats: tuple[SmallStats, Any],
    *,
    tau: float,
) -> HeldOutStats:
    """Kullback-Leibler: W of a block in place, statistics of the rows that are seen."""
    total = HeldOutStats()
    frozen = loss.frozen()
    k = W.shape[1]
    none = loss.plain_sums(k, V.shape[1], W.dtype)  # no curvature: these sums are not wanted
    for a, tile in tiles(V):
        b = a + tile.shape[0]
        hidden = held.columns[tile.indices]
        visible, dark = _entries(tile, ~hidden), _entries(tile, hidden)
        for which, counts in ((~out[a:b], True), (out[a:b], False)):
            places = np.flatnonzero(which)
            if not places.size:
                continue
            part = np.ascontiguousarray(W[a:b][places])
            light = _rows(visible, places)
            sums = stats if counts else (SmallStats(np.zeros((k, k)), np.zeros(k)), none)
            of_rows = rows[:, a:b][:, places]
            loss.update_block(
                light, start + a, part, factor, of_rows, sums, tau=tau, residual=False
            )
            W[a + places] = part
            if not counts:  # a row without a visible entry says nothing
                places, part = places[part.any(axis=1)], part[part.any(axis=1)]
            beside = SmallStats(np.zeros((k, k)), np.zeros(k))
            cut = _rows(dark, places)
            into = stats[1] if counts else none
            by = held.factor if counts else held.score
            if places.size:
                frozen.update_block(
                    cut, start + a, part, by, of_rows, (beside, into), tau=tau, residual=False
                )
            if counts:
                total.rows += places.size
                total.total += float(np.sum(light.data, dtype=np.float64))
                total.sumsq += float(np.sum(np.square(light.data, dtype=np.float64)))
            else:
                total.error += max(beside.divergence, 0.0)
                total.scale += float(np.sum(cut.data, dtype=np.float64))
                total.entries += places.size * held.places.size
    return total


def _entries(tile: scipy.sparse.csr_array, keep: np.ndarray) -> scipy.sparse.csr_array:
    """The same rows with some of the entries."""
    counts = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep)])
    parts = tile.data[keep], tile.indices[keep], counts[tile.indptr].astype(tile.indptr.dtype)
    return scipy.sparse.csr_array(parts, shape=tile.shape, copy=False)


def _rows(tile: scipy.sparse.csr_array, places: np.ndarray) -> scipy.sparse.csr_array:
    return tile if places.size == tile.shape[0] else scipy.sparse.csr_array(tile[places])
