"""Kullback-Leibler divergence: f = sum v log(v / wh) - v + wh (design section 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import scipy

from dnmf.linalg.jit import offsets, unlocked
from dnmf.linalg.kl import kl_rows
from dnmf.linalg.kl_columns import kl_columns, kl_H
from dnmf.linalg.kl_mu import kl_mu
from dnmf.linalg.masked import entry_weights
from dnmf.linalg.matrix import WeightedCSR
from dnmf.linalg.products import gram, row_residual
from dnmf.linalg.tiles import (
    column_order,
    packed_size,
    padded,
    padded_size,
    padded_zeros,
    vectors_of,
)
from dnmf.losses.base import (
    NO_PENALTIES,
    Factor,
    HStep,
    Matrix,
    Penalties,
    SmallStats,
    worst_row,
)

__all__ = ["KullbackLeibler", "tiles"]

TILE_ENTRIES = 1 << 20
BATCH = 1 << 11
"""Entries whose rows of H' are side by side, in a processor's second cache."""

CURVATURE_BYTES = 256 << 20
"""K as a whole up to this size (in float64), above it only its diagonal."""

W_STEPS = 3
COLD_STEPS = 8
PATIENT_STEPS = 200
SMOOTHING = 1.0
"""Entries of mean size that every column is taken to have had in the sample besides its own."""


class FusedSums(NamedTuple):
    """S of k components by columns, (d, kp), whose rows are `padded`."""

    S: np.ndarray
    k: int


class KullbackLeibler:
    """Newton steps for rows of W; for H a multiplicative step, and one with curvature.

    Parameters
    ----------
    penalties : Penalties
    classic : bool
        Lee and Seung's (2001) multiplicative rules and nothing else, one step of W per pass.
    """

    name = "kullback-leibler"
    solvers: tuple[str, ...] = ("mu",)
    extrapolates = False
    residual_of = staticmethod(row_residual)
    masked = False
    fixed = 0

    def __init__(self, penalties: Penalties = NO_PENALTIES, classic: bool = False) -> None:
        self.penalties = penalties
        self.gauge_free = not penalties
        self.classic = classic
        self.kept: int | None = 1
        self.patient = False
        self.still = False

    def frozen(self) -> KullbackLeibler:
        """The same loss, whose blocks leave W as it is."""
        other = type(self)(self.penalties, self.classic)
        other.still = True
        return other

    @classmethod
    def make(cls, penalties: Penalties, solver: str | None, beta: float | None) -> KullbackLeibler:
        """See `Loss.make`."""
        return cls(penalties, classic=solver == "mu")

    def prepare(self, H: np.ndarray, sparse: bool) -> Factor:
        """See `Loss.prepare`; H' is padded, also for a dense V."""
        sums = H.sum(axis=1, dtype=np.float64)
        return Factor(H, padded(H.T), gram(H.T), sums, self.penalties.of_H(H))

    def empty(self, k: int, d: int, dtype: np.dtype, sparse: bool) -> tuple[SmallStats, Any]:
        """See `Loss.empty`: S, and K or its diagonal, by columns (d, r)."""
        small = SmallStats(np.zeros((k, k)), np.zeros(k))
        if self.classic:
            return small, self.plain_sums(k, d, dtype)
        return small, np.zeros((d, self.statistic_rows(k, d)), dtype)

    def plain_sums(self, k: int, d: int, dtype: np.dtype) -> Any:
        """Zeros to which blocks add S and nothing else."""
        return FusedSums(padded_zeros(d, k, dtype), k) if self.classic else np.zeros((d, k), dtype)

    def statistic_rows(self, k: int, d: int) -> int:
        """See `Loss.statistic_rows`: S, and K or its diagonal."""
        own = 2 * k if self.masked else k
        if self.classic:
            return own
        return own + (packed_size(k) if 8 * d * packed_size(k) <= CURVATURE_BYTES else k)

    def scratch_bytes(self, k: int, d: int, entries: int, dtype: np.dtype, sparse: bool) -> int:
        """See `Loss.scratch_bytes`: a tile's nonzeros, their order and ratios; H' of a batch's.

        Measured by the high-water mark of a process; for a dense block most of it is its tile,
        made sparse, with H' and sums that are padded.
        """
        item, kp, longest = dtype.itemsize, padded_size(k), min(d, entries)
        tile = max(min(entries, TILE_ENTRIES), longest)
        if self.classic:  # three numbers of a row's entries
            solving, columns = longest * (2 * item + 8), 0
        else:
            solving = (BATCH + longest) * ((kp + 2) * item + 8)
            columns = tile * (14 + (4 if self.masked else 2) * item) + 16 * d
        if sparse:
            return solving + columns
        made = tile * (24 + 6 * item)
        return max(made, tile * (item + 4) + solving + columns) + 2 * d * kp * item

    def size(self, total: float, sumsq: float, entries: int) -> float:
        """See `Loss.size`: the sum of V."""
        return total

    def update_block(
        self,
        V: Matrix,
        start: int,
        W: np.ndarray,
        factor: Factor,
        rows: np.ndarray,
        stats: tuple[SmallStats, Any],
        *,
        tau: float,
        residual: bool,
    ) -> None:
        """See `Loss.update_block`; the objective is always summed entry by entry."""
        small, total = stats
        k = W.shape[1]
        steps = W_STEPS if W.any() else COLD_STEPS
        steps = PATIENT_STEPS if self.patient else steps
        part = SmallStats(np.zeros((k, k)))
        of_rows = np.empty(W.shape[0])
        for a, tile in tiles(V):
            b = a + tile.shape[0]
            Wp = padded(W[a:b])
            self._tile(tile, Wp, factor, part, total, of_rows[a:b], steps, tau)
            W[a:b] = Wp[:, :k]
        self._finish(part, W)
        part.candidates = worst_row(self.residual_of, V, start, W, factor.H, of_rows, small)
        part.residual = small.residual = None
        small.add(part)

    def _tile(
        self,
        tile: scipy.sparse.csr_array,
        W: np.ndarray,
        factor: Factor,
        part: SmallStats,
        total: Any,
        of_rows: np.ndarray,
        steps: int,
        tau: float,
    ) -> None:
        """W of some rows in place, and their statistics."""
        assert factor.Ht is not None
        assert factor.sums is not None
        k = factor.H.shape[0]
        h_sums = np.zeros(W.shape[1], W.dtype)
        h_sums[:k] = factor.sums + self.penalties.l1_W
        h_sums[:k][factor.sums == 0] = 0
        if self.classic:
            csr = tile.data, tile.indices, tile.indptr
            given = W, factor.Ht, h_sums, self.penalties.l2_W, k, not self.still
            kkt, fitted = kl_mu(*csr, *given, total.S, of_rows, vectors_of(W.shape[1]))
            taken = 0 if self.still else tile.shape[0]
        else:
            taken, kkt, fitted = self._newton(tile, W, factor, h_sums, total, of_rows, steps, tau)
        part.divergence += float(of_rows.sum())
        if not self.masked:  # what W H has where V has nothing
            everything = W[:, :k].astype(np.float64) @ factor.sums
            part.divergence += max(float(everything.sum()) - fitted, 0.0)
        part.sweeps += taken
        part.kkt += kkt

    def _newton(
        self,
        tile: scipy.sparse.csr_array,
        W: np.ndarray,
        factor: Factor,
        h_sums: np.ndarray,
        total: np.ndarray,
        of_rows: np.ndarray,
        steps: int,
        tau: float,
    ) -> tuple[int, float, float]:
        """Steps of W, and the sums of what columns need."""
        k = factor.H.shape[0]
        weights = entry_weights(tile) if self.masked else np.zeros(0, W.dtype)
        data = tile.data * weights if weights.size else tile.data
        entries = data, tile.indices, tile.indptr, weights
        penalties = self.penalties.l1_W, self.penalties.l2_W
        inner = 0 if self.still else steps, tau * tau * 0.1, self.masked, BATCH
        seen = np.empty_like(data), np.empty_like(data)
        found: tuple[int, float, float] = kl_rows(
            *entries, W, factor.Ht, h_sums, *penalties, k, *inner, *seen, of_rows
        )
        rows_of_K = total.shape[1] - k - (k if self.masked else 0)
        curvature = 0 if rows_of_K <= 0 else 2 if rows_of_K == packed_size(k) else 1
        if total.shape[1]:
            m, d = tile.shape
            starts, of, places = column_order(tile.indices, tile.indptr, 0, m, d)
            order = starts, of, places
            kl_columns(*seen, weights, *order, W, factor.Ht, k, curvature, self.masked, total)
        return found

    def _finish(self, part: SmallStats, W: np.ndarray) -> None:
        part.WtW = gram(W)
        part.sums = np.sum(W, axis=0, dtype=np.float64)
        part.total = float(part.sums.sum())
        part.sumsq = float(np.trace(part.WtW))

    def slabs(self, accumulator: Any, slab_starts: Sequence[int]) -> list[np.ndarray]:
        """See `Loss.slabs`."""
        if isinstance(accumulator, FusedSums):
            accumulator = accumulator.S[:, : accumulator.k]
        return [
            np.array(accumulator[a:b].T, np.float64, order="C") for a, b in pairwise(slab_starts)
        ]

    def divergence(self, stats: SmallStats, sumsq: float, factor: Factor) -> float:
        """See `Loss.divergence`."""
        return max(stats.divergence, 0.0)

    def objective(self, stats: SmallStats, sumsq: float, factor: Factor) -> float:
        """See `Loss.objective`."""
        penalty = self.penalties.of_W(stats.total, stats.sumsq) + factor.penalty
        return self.divergence(stats, sumsq, factor) + penalty

    def leaves_zero(self, k: int, d: int) -> bool:
        """See `Loss.leaves_zero`: steps multiply, or are bounded by what there is."""
        return False

    def dead(self, stats: SmallStats, G_diagonal: np.ndarray, dtype: np.dtype) -> list[int]:
        """See `Loss.dead`: A_jj G_jj <= eps^2 max (squares: shares below eps)."""
        size = np.diag(stats.WtW) * G_diagonal
        limit = float(np.finfo(dtype).eps) ** 2 * float(size.max(initial=0.0))
        return [int(j) for j in np.flatnonzero(size <= limit)]

    def update_H(
        self, wide: np.ndarray, stats: SmallStats, H: np.ndarray, columns: np.ndarray
    ) -> HStep:
        """The next H is multiplicative; the extrapolated one has curvature."""
        assert isinstance(stats.sums, np.ndarray)
        k = H.shape[0]
        old = np.ascontiguousarray(H, np.float64)
        em, extrapolated = np.zeros_like(old), np.zeros_like(old)
        l2 = self.penalties.l2_H
        w_sums = np.repeat(stats.sums[:, None], H.shape[1], axis=1)
        if self.masked:
            wide, w_sums = wide[:-k], wide[-k:].copy()
        w_sums += self.penalties.l1_H
        given = np.ascontiguousarray(wide), old, self.fixed, w_sums
        kkt, gain, extrapolated_gain = kl_H(*given, l2, columns[0], l2 == 0, em, extrapolated)
        share = stats.sums * old.sum(axis=1)
        new = em.astype(H.dtype)
        if wide.shape[0] == k:
            return HStep(new, kkt, gain, share)
        return HStep(new, kkt, gain, share, extrapolated.astype(H.dtype), extrapolated_gain)

    def solve(self, V: Matrix, factor: Factor, rows: np.ndarray) -> tuple[np.ndarray, float]:
        """See `Loss.solve`."""
        patient = type(self)(self.penalties)
        patient.patient = True
        k = factor.H.shape[0]
        W = np.zeros((V.shape[0], k), factor.H.dtype)
        small, _ = patient.empty(k, 0, W.dtype, False)
        none = np.zeros((0, 0), W.dtype)
        patient.update_block(V, 0, W, factor, rows, (small, none), tau=0.0, residual=False)
        return W, patient.divergence(small, 0.0, factor)

    def from_sample(
        self, H: np.ndarray, weights: np.ndarray, column_sums: np.ndarray, unit: float
    ) -> np.ndarray:
        """See `Loss.from_sample`: no column that V has may be out of reach.

        T_c = X_c (S_c + a pi) / (sum S_c + a) with S = weights h, pi = the components' shares and
        a = one entry of mean size: what is fitted does not depend on the scale of V.
        Penalties fix the size of H, which then stays what it was; else W takes it up.
        """
        mass = weights[:, None] * H.astype(np.float64)
        share = mass.sum(axis=1)
        if self.penalties and column_sums.any():
            column_sums = column_sums * (float(share.sum()) / float(column_sums.sum()))
        share /= max(float(share.sum()), np.finfo(np.float64).tiny)
        mass += SMOOTHING * unit * share[:, None]
        mass *= column_sums / np.maximum(mass.sum(axis=0), np.finfo(np.float64).tiny)
        positive = np.where(weights > 0, weights, 1.0)[:, None]
        return np.ascontiguousarray(mass / positive, H.dtype)


def tiles(V: Matrix) -> Iterator[tuple[int, scipy.sparse.csr_array]]:
    """First row and nonzeros of tiles of whole rows, of about TILE_ENTRIES entries."""
    if isinstance(V, np.ndarray):
        height = max(1, TILE_ENTRIES // V.shape[1])
        for a in range(0, V.shape[0], height):
            tile = scipy.sparse.csr_array(V[a : a + height])
            tile.indptr = offsets(tile.indptr)
            yield a, tile
        return
    a, m = 0, V.shape[0]
    while a < m:
        b = int(np.searchsorted(V.indptr, V.indptr[a] + TILE_ENTRIES, side="right")) - 1
        b = min(max(b, a + 1), m)
        first, last = V.indptr[a], V.indptr[b]
        indptr = offsets(V.indptr[a : b + 1] - first)
        data, indices = unlocked(V.data[first:last]), unlocked(V.indices[first:last])
        if isinstance(V, WeightedCSR):
            weights = unlocked(V.weights[first:last])
            yield a, WeightedCSR(data, weights, indices, indptr, V.shape[1])
            a = b
            continue
        tile = scipy.sparse.csr_array(
            (b - a, V.shape[1]), dtype=V.dtype
        )  # its constructor copies small parts
        tile.data, tile.indices, tile.indptr = data, indices, indptr
        yield a, tile
        a = b
