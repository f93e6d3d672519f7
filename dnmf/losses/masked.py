"""Losses over the stored entries alone: what is not stored is unobserved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy

from dnmf.linalg.beta import bounded_steps
from dnmf.linalg.masked import (
    ALWAYS,
    WHERE_OPEN,
    entry_weights,
    masked_columns,
    masked_rows,
    observed_residual,
    solve_columns,
)
from dnmf.linalg.products import gram
from dnmf.linalg.tiles import column_order, packed_size, padded, padded_size
from dnmf.losses.base import HeldOut, LeftOut, Loss
from dnmf.losses.completion import completed_rows, completed_WtV
from dnmf.losses.entrywise import add_block
from dnmf.losses.exact import Exactly
from dnmf.losses.kullback_leibler import KullbackLeibler
from dnmf.losses.least_squares import LeastSquares, ridged
from dnmf.losses.nonzeros import tiles
from dnmf.losses.speckled import Speckled
from dnmf.losses.values import Block, Factor, HStep, Matrix, SmallStats, Solution

__all__ = ["MaskedFrobenius", "MaskedKullbackLeibler"]


@dataclass(frozen=True)
class _Observed(Loss):
    """Rows of V count where they are stored; single entries may be left out."""

    leaves_out: ClassVar[str | None] = "speckled"

    def residual_of(self, V: Matrix, row: int, w: np.ndarray, H: np.ndarray) -> np.ndarray:
        sparse = scipy.sparse.csr_array(V) if isinstance(V, np.ndarray) else V
        return observed_residual(sparse, row, w, H)

    def hold_out(self, H: np.ndarray, fold: LeftOut, sparse: bool) -> HeldOut:
        return Speckled.make(self, H, fold)


@dataclass(frozen=True)
class MaskedFrobenius(_Observed, LeastSquares):
    """1/2 sum of m (v - wh)^2 over observed entries, each row and column with its Gram matrix.

    m is 1 unless entries have weights.

    Where those of the columns do not fit, H takes a weighted multiplicative step, or an
    extrapolated one with their diagonals and off-diagonals of rank one.
    """

    entrywise = extrapolates = compresses = True
    counts_open = True

    def prepare(self, H: np.ndarray, sparse: bool) -> Factor:
        G = gram(H.T)  # first: it takes H in float64
        return Factor(H, padded(H.T), G, penalty=self.penalties.of_H(H))

    def empty(self, k: int, d: int, dtype: np.dtype, sparse: bool) -> tuple[SmallStats, Any]:
        """Return sums with an accumulator by columns, (d, r)."""
        rows = self.statistic_rows(k, d)
        return SmallStats(np.zeros((k, k)), np.zeros(k)), np.zeros((d, rows), dtype)

    def statistic_rows(self, k: int, d: int) -> int:
        """Count rows for W' V and each column's W' W, or W' W h and the diagonal."""
        fits = 8 * d * packed_size(k) <= self.limits.curvature_bytes
        return k + (packed_size(k) if fits or packed_size(k) <= 2 * k else 2 * k)

    def of_means(self, own: float, columns: np.ndarray, rows: int) -> float:
        """Return the divergence from zeros: of the means numbers of observed entries are needed."""
        return 0.5 * float(columns[1].sum())

    def leaves_zero(self, k: int, d: int) -> bool:
        """Return whether each column of H has its own Gram matrix: other steps multiply."""
        return self.statistic_rows(k, d) == k + packed_size(k)

    def scratch_bytes(self, k: int, d: int, entries: int, dtype: np.dtype, sparse: bool) -> int:
        """Count a tile's order and weights, and H' of a row's entries."""
        item, longest = dtype.itemsize, min(d, entries)
        tile = max(min(entries, self.limits.nonzero_tile), longest)
        return tile * (28 + 2 * item) + longest * (padded_size(k) + 3) * item + 16 * d

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
        """Solve W, and always sum the objective entry by entry."""
        self._update(block, W, factor, stats, self.limits.W_sweeps, tau)

    def _update(
        self,
        block: Block,
        W: np.ndarray,
        factor: Factor,
        stats: tuple[SmallStats, Any],
        sweeps: int,
        tau: float,
    ) -> None:
        """Take at most ``sweeps`` sweeps of each row of W, and sum what H needs, unless None."""
        small, total = stats
        k, d = W.shape[1], factor.H.shape[1]
        part = SmallStats(np.zeros((k, k)))
        of_rows = np.empty(W.shape[0])
        penalties = self.penalties
        assert factor.Ht is not None
        how = self._how(ridged(factor.G, penalties.l2_W), W.dtype)
        for a, tile in tiles(block.V, self.limits.nonzero_tile):
            b = a + tile.shape[0]
            Wp = padded(W[a:b])
            weights = entry_weights(tile)
            csr = tile.data, tile.indices, tile.indptr, weights
            limits = penalties.l1_W, penalties.l2_W, k, tau * tau, sweeps, *how
            taken, kkt, still = masked_rows(*csr, Wp, factor.Ht, *limits, of_rows[a:b])
            part.sweeps += taken
            part.open_rows += still
            part.kkt += kkt
            W[a:b] = Wp[:, :k]
            if total is not None:
                exact = total.shape[1] == k + packed_size(k)
                starts, of, positions = column_order(tile.indices, tile.indptr, 0, b - a, d)
                parts = tile.data, weights, starts, of, positions
                masked_columns(*parts, Wp, factor.Ht, k, exact, total)
        part.divergence = 0.5 * float(of_rows.sum())
        add_block(self, block, W, factor, part, of_rows, small)

    def slabs(self, accumulator: Any, slab_starts: Any) -> list[np.ndarray]:
        return super().slabs(accumulator.T, slab_starts)

    def divergence(self, stats: SmallStats, sumsq: float, factor: Factor) -> float:
        return stats.divergence

    def update_H(
        self, wide: np.ndarray, stats: SmallStats, H: np.ndarray, columns: np.ndarray
    ) -> HStep:
        """Solve every column by its own Gram matrix, or take steps where those do not fit."""
        k, penalties = H.shape[0], self.penalties
        old = np.ascontiguousarray(H.T, np.float64)
        share = np.sum(wide[:k] * old.T, axis=1)
        if wide.shape[0] != k + packed_size(k):
            return self._multiplicative(wide, old, H.dtype, share)
        new = np.empty_like(old)
        by_columns = np.ascontiguousarray(wide.T)
        limits = self.limits
        how = self.fixed, penalties.l1_H, penalties.l2_H, columns[1]
        how_exact = self._how(ridged(stats.WtW, penalties.l2_H), H.dtype)
        until = limits.H_tau**2, limits.H_sweeps, *how_exact
        kkt, gain, still = solve_columns(by_columns, old, *how, *until, new)
        new_H = np.ascontiguousarray(new.T, H.dtype)
        return HStep(new_H, kkt, gain, share, open_columns=still)

    def _how(self, G: np.ndarray, dtype: np.dtype) -> tuple[int, float]:
        """Return when rows go on by an active set, and the least pivot that is no noise.

        Where components are nearly parallel over all of V they are in most rows: sweeps that move
        little say nothing of those.
        """
        noise = 0.0 if dtype == np.float64 else self.limits.singular * len(G) * np.finfo(dtype).eps
        return ALWAYS if self.parallel(G, dtype) else WHERE_OPEN, float(noise) or -np.inf

    def compress(
        self, V: Matrix, W: np.ndarray, factor: Factor, B: np.ndarray, Y: np.ndarray
    ) -> None:
        completed_rows(V, W, factor, B, self.limits.nonzero_tile, Y)

    def compressed_WtV(self, wide: np.ndarray, WtW: np.ndarray, H: np.ndarray) -> np.ndarray:
        return completed_WtV(wide, WtW, H)

    def _multiplicative(
        self, wide: np.ndarray, old: np.ndarray, dtype: np.dtype, share: np.ndarray
    ) -> HStep:
        """Return H (W' V) / (W' (W H where observed)), which never raises the objective."""
        k, penalties = old.shape[1], self.penalties
        above = wide[:k]
        below = wide[k : 2 * k] + penalties.l1_H + penalties.l2_H * old.T
        positive = np.where(below > 0, below, 1.0)
        new = np.where(below > 0, old.T * above / positive, 0.0)
        new[: self.fixed] = old.T[: self.fixed]
        steps = (old.T * (below - above)) ** 2 / (positive * np.maximum(old.T, 1e-300))
        kkt = float(np.sum(steps[self.fixed :]))
        gain = 0.5 * float(np.sum((below - above) * (old.T - new)))
        next_H = np.ascontiguousarray(new, dtype)
        extrapolated, extrapolated_gain = self._extrapolated(wide, old)
        return HStep(
            next_H, kkt, gain, share, np.ascontiguousarray(extrapolated.T, dtype), extrapolated_gain
        )

    def _extrapolated(self, wide: np.ndarray, old: np.ndarray) -> tuple[np.ndarray, float]:
        """Take the step by a curvature D + r r' / (r h) with the true row sums; (d, k)."""
        k, penalties = old.shape[1], self.penalties
        extrapolated, total = np.empty_like(old), 0.0
        rows, columns = np.tril_indices(k)
        width = self.limits.curvature_columns
        for a in range(0, old.shape[0], width):
            h = old[a : a + width]
            above, below, D = (
                np.ascontiguousarray(wide[part * k : (part + 1) * k, a : a + width].T)
                for part in range(3)
            )
            rest = np.maximum(below - D * h, 0.0)
            weight = np.sum(rest * h, axis=1)
            rest /= np.sqrt(np.where(weight > 0, weight, 1.0))[:, None]
            K = rest[:, rows] * rest[:, columns]
            K[:, rows == columns] = D
            slope = below - above + penalties.l1_H + penalties.l2_H * h
            out = np.empty_like(h)
            total += bounded_steps(h, self.fixed, slope, K, penalties.l2_H, out)
            extrapolated[a : a + width] = out
        return extrapolated, total

    def solve(self, block: Block, factor: Factor) -> Solution:
        W = np.zeros((block.V.shape[0], factor.H.shape[0]), factor.H.dtype)
        of_rows, is_open = Exactly(self, factor, 2.0, True).solve(block.V, W)
        return Solution(W, float(of_rows.sum()), is_open)


@dataclass(frozen=True)
class MaskedKullbackLeibler(_Observed, KullbackLeibler):
    """Kullback-Leibler over observed entries: sums of H by rows, of W by columns, are theirs."""

    masked = True

    def from_sample(
        self, H: np.ndarray, weights: np.ndarray, column_sums: np.ndarray, unit: float
    ) -> np.ndarray:
        """Start on all of V; columns keep their size, which their sums do not tell."""
        mass = weights[:, None] * H.astype(np.float64)
        seen = mass.sum(axis=0)
        level = np.median(seen[seen > 0]) if seen.any() else 1.0
        sizes = np.where(column_sums > 0, np.where(seen > 0, seen, level), 0.0)
        return super().from_sample(H, weights, sizes, unit)
