"""Kullback-Leibler divergence: f = sum v log(v / wh) - v + wh (design section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import scipy

from dnmf.linalg.jit import unlocked
from dnmf.linalg.kl import kl_rows
from dnmf.linalg.kl_columns import kl_columns, kl_H
from dnmf.linalg.logs import entropy
from dnmf.linalg.masked import entry_weights
from dnmf.linalg.products import gram
from dnmf.linalg.tiles import column_order, packed_size, padded, padded_size
from dnmf.losses.base import HeldOut, LeftOut
from dnmf.losses.entrywise import Entrywise, add_block
from dnmf.losses.exact import Exactly
from dnmf.losses.held_out_entries import HeldOutEntries
from dnmf.losses.nonzeros import tiles
from dnmf.losses.values import Block, Factor, HStep, Matrix, SmallStats, Solution

__all__ = ["KullbackLeibler"]


@dataclass(frozen=True)
class KullbackLeibler(Entrywise):
    """Newton steps for rows of W; for H a multiplicative step, and one with curvature.

    Attributes
    ----------
    masked : bool
        V is known where it is stored and nowhere else.
    """

    name = "kullback-leibler"
    unit = "units of V"
    leaves_out: ClassVar[str | None] = "bicv"
    masked: ClassVar[bool] = False

    def prepare(self, H: np.ndarray, sparse: bool) -> Factor:
        """Prepare H, with H' padded, also for a dense V."""
        sums, G = H.sum(axis=1, dtype=np.float64), gram(H.T)  # first: it takes H in float64
        return Factor(H, padded(H.T), G, sums, self.penalties.of_H(H))

    def empty(self, k: int, d: int, dtype: np.dtype, sparse: bool) -> tuple[SmallStats, Any]:
        """Return sums with an accumulator by columns (d, r): S, and K or its diagonal."""
        rows = self.statistic_rows(k, d)
        return SmallStats(np.zeros((k, k)), np.zeros(k)), np.zeros((d, rows), dtype)

    def own_term(self, V: Matrix) -> float:
        entries = V if isinstance(V, np.ndarray) else V.data
        return float(entropy(unlocked(np.ravel(entries))))

    def of_means(self, own: float, columns: np.ndarray, rows: int) -> float | None:
        if self.masked:  # means of what is observed would need its numbers
            return None
        seen = columns[0][columns[0] > 0]
        return own - float(np.sum(seen * np.log(seen / rows)))

    def statistic_rows(self, k: int, d: int) -> int:
        """Count rows for S, for K or its diagonal, and for sums of W by columns if masked."""
        own = 2 * k if self.masked else k
        fits = 8 * d * packed_size(k) <= self.limits.curvature_bytes
        return own + (packed_size(k) if fits else k)

    def scratch_bytes(self, k: int, d: int, entries: int, dtype: np.dtype, sparse: bool) -> int:
        """Count a tile's nonzeros, their order and ratios, and H' of a batch of them.

        Measured by the high-water mark of a process; for a dense block most of it is its tile,
        made sparse, with H' and sums that are padded.
        """
        item, kp, longest = dtype.itemsize, padded_size(k), min(d, entries)
        tile = max(min(entries, self.limits.nonzero_tile), longest)
        working = self._working_bytes(k, d, tile, longest, item)
        if sparse:
            return working
        made = tile * (24 + 6 * item)
        return max(made, tile * (item + 4) + working) + 2 * d * kp * item

    def _working_bytes(self, k: int, d: int, tile: int, longest: int, item: int) -> int:
        """Count what is taken besides the nonzeros of a tile with a row of ``longest``."""
        solving = (self.limits.batch + longest) * ((padded_size(k) + 2) * item + 8)
        return solving + tile * (14 + (4 if self.masked else 2) * item) + 16 * d

    def size(self, total: float, sumsq: float, entries: int) -> float:
        return total

    def update_block(
        self,
        block: Block,
        W: np.ndarray,
        factor: Factor,
        stats: tuple[SmallStats, Any],
        *,
        tau: float,
        residual: bool,
    ) -> None:
        """Solve W, sum the objective entry by entry; the accumulator may be None."""
        steps = self.limits.kl_steps if W.any() else self.limits.kl_cold_steps
        self._update(block, W, factor, stats, steps, tau)

    def add_statistics(
        self, block: Block, W: np.ndarray, factor: Factor, stats: tuple[SmallStats, Any]
    ) -> None:
        self._update(block, W, factor, stats, 0, 0.0)

    def _update(
        self,
        block: Block,
        W: np.ndarray,
        factor: Factor,
        stats: tuple[SmallStats, Any],
        steps: int,
        tau: float,
    ) -> None:
        """Take at most ``steps`` steps of each row of W, and sum what H needs, unless None."""
        small, total = stats
        k = W.shape[1]
        part = SmallStats(np.zeros((k, k)))
        of_rows = np.empty(W.shape[0])
        for a, tile in tiles(block.V, self.limits.nonzero_tile):
            b = a + tile.shape[0]
            Wp = padded(W[a:b])
            self._tile(tile, Wp, factor, part, total, of_rows[a:b], steps, tau)
            W[a:b] = Wp[:, :k]
        add_block(self, block, W, factor, part, of_rows, small)

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
        """Solve W of some rows in place, and add their statistics."""
        assert factor.sums is not None
        k = factor.H.shape[0]
        h_sums = np.zeros(W.shape[1], W.dtype)
        h_sums[:k] = factor.sums + self.penalties.l1_W
        h_sums[:k][factor.sums == 0] = 0
        taken, kkt, fitted = self._rows(tile, W, factor, h_sums, total, of_rows, steps, tau)
        part.divergence += float(of_rows.sum())
        if not self.masked:  # what W H has where V has nothing
            everything = W[:, :k].astype(np.float64) @ factor.sums
            part.divergence += max(float(everything.sum()) - fitted, 0.0)
        part.sweeps += taken
        part.kkt += kkt

    def _rows(
        self,
        tile: scipy.sparse.csr_array,
        W: np.ndarray,
        factor: Factor,
        h_sums: np.ndarray,
        total: Any,
        of_rows: np.ndarray,
        steps: int,
        tau: float,
    ) -> tuple[int, float, float]:
        """Take steps of W and sum what columns need; return steps, kkt, and the sum of W H."""
        k = factor.H.shape[0]
        weights = entry_weights(tile) if self.masked else np.zeros(0, W.dtype)
        data = tile.data * weights if weights.size else tile.data
        entries = data, tile.indices, tile.indptr, weights
        penalties = self.penalties.l1_W, self.penalties.l2_W
        inner = steps, tau * tau * 0.1, self.masked, self.limits.batch
        seen = np.empty_like(data), np.empty_like(data)
        found: tuple[int, float, float] = kl_rows(
            *entries, W, factor.Ht, h_sums, *penalties, k, *inner, *seen, of_rows
        )
        if total is not None:
            rows_of_K = total.shape[1] - (2 * k if self.masked else k)
            curvature = 2 if rows_of_K == packed_size(k) else 1
            m, d = tile.shape
            starts, of, positions = column_order(tile.indices, tile.indptr, 0, m, d)
            order = starts, of, positions
            kl_columns(*seen, weights, *order, W, factor.Ht, k, curvature, self.masked, total)
        return found

    def slabs(self, accumulator: Any, slab_starts: Sequence[int]) -> list[np.ndarray]:
        return [
            np.array(accumulator[a:b].T, np.float64, order="C") for a, b in pairwise(slab_starts)
        ]

    def update_H(
        self, wide: np.ndarray, stats: SmallStats, H: np.ndarray, columns: np.ndarray
    ) -> HStep:
        """Take a multiplicative step to the next H, and one with curvature to the extrapolated."""
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

    def seen_columns(self, wide: np.ndarray, columns: np.ndarray, k: int) -> np.ndarray:
        """Return the columns' sums over the rows seen: responsibilities sum to 1."""
        return np.stack([wide[:k].sum(axis=0), columns[1]])

    def solve(self, block: Block, factor: Factor) -> Solution:
        k = factor.H.shape[0]
        W = np.zeros((block.V.shape[0], k), factor.H.dtype)
        near = SmallStats(np.zeros((k, k)), np.zeros(k))
        self._update(block, W, factor, (near, None), self.limits.kl_patient_steps, 0.0)
        of_rows, is_open = Exactly(self, factor, 1.0, self.masked).solve(block.V, W)
        return Solution(W, max(float(of_rows.sum()), 0.0), is_open)

    def from_sample(
        self, H: np.ndarray, weights: np.ndarray, column_sums: np.ndarray, unit: float
    ) -> np.ndarray:
        """Start on all of V; no column that V has may be out of reach.

        T_c = X_c (S_c + a pi) / (sum S_c + a) with S = weights h, pi = the components' shares and
        a = one entry of mean size: what is fitted does not depend on the scale of V.
        Penalties fix the size of H, which then stays what it was; else W takes it up.
        """
        mass = weights[:, None] * H.astype(np.float64)
        share = mass.sum(axis=1)
        if self.penalties and column_sums.any():
            column_sums = column_sums * (float(share.sum()) / float(column_sums.sum()))
        share /= max(float(share.sum()), np.finfo(np.float64).tiny)
        mass += self.limits.kl_smoothing * unit * share[:, None]
        mass *= column_sums / np.maximum(mass.sum(axis=0), np.finfo(np.float64).tiny)
        positive = np.where(weights > 0, weights, 1.0)[:, None]
        return np.ascontiguousarray(mass / positive, H.dtype)

    def hold_out(self, H: np.ndarray, fold: LeftOut, sparse: bool) -> HeldOut:
        return HeldOutEntries.make(self, H, fold, sparse)

    def predicted(self, H: np.ndarray) -> np.ndarray:
        even = 0.5 * (H.mean(axis=0) + H.mean(axis=1, keepdims=True))
        mixed = self.limits.kl_mixed
        return np.asarray((1 - mixed) * H + mixed * even)

    def measure(self, v: np.ndarray, fitted: np.ndarray) -> tuple[float, float]:
        v = v.astype(np.float64)
        seen = fitted > 0  # a row or column without an observed count says nothing
        v, fitted = v[seen], fitted[seen]
        some = v > 0
        logs = float(np.sum(v[some] * np.log(v[some] / fitted[some])))
        return max(logs + float(np.sum(fitted - v)), 0.0), float(v.sum())
