"""Least squares by HALS: the solver of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dnmf.linalg.hals import cold_start, solve_exactly, solve_rows
from dnmf.linalg.products import add_WtV, product_VHt
from dnmf.losses.base import HeldOut, LeftOut
from dnmf.losses.held_out_rows import HeldOutRows
from dnmf.losses.least_squares import (
    LeastSquares,
    ridged,
    rounding_of,
    small_stats,
)
from dnmf.losses.values import Block, Factor, HStep, SmallStats

__all__ = ["Frobenius"]


@dataclass(frozen=True)
class Frobenius(LeastSquares):
    """Alternating non-negative least squares by HALS on W' V, W' W, V H' and H H'."""

    extrapolates = True
    shares_product = True
    counts_open = True
    compresses = True
    leaves_out = "bicv"

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
        small, WtV = stats
        VHt = product_VHt(block.V, factor.H, factor.Ht)
        self.update_rows(block, W, VHt, factor, small, tau=tau, residual=residual)
        add_WtV(block.V, W, WtV)

    def update_rows(
        self,
        block: Block,
        W: np.ndarray,
        VHt: np.ndarray,
        factor: Factor,
        small: SmallStats,
        *,
        tau: float,
        residual: bool,
    ) -> None:
        l1, G = self.penalties.l1_W, ridged(factor.G, self.penalties.l2_W)
        if not W.any():
            W[:] = cold_start(VHt - W.dtype.type(l1) if l1 else VHt, G)
        found = self.solved_rows(W, VHt, G, block.row_sums[1], tau)
        part = small_stats(W, found)
        part.residual = self.measured(block, W, factor, small, residual)
        part.candidates = self.worst(block, W, factor, found.residual_sumsq, small)
        small.add(part)

    def update_H(
        self, wide: np.ndarray, stats: SmallStats, H: np.ndarray, columns: np.ndarray
    ) -> HStep:
        """Solve the columns, which are independent and need no access to V."""
        A, WtV, l1 = ridged(stats.WtW, self.penalties.l2_H), wide, self.penalties.l1_H
        old, fixed = H.astype(np.float64), self.fixed
        Ht = np.ascontiguousarray(old[fixed:].T)
        target = np.ascontiguousarray(WtV[fixed:].T)
        if fixed:  # what the rows that are given explain is not to be explained again
            target -= old[:fixed].T @ A[:fixed, fixed:]
        A_free = np.ascontiguousarray(A[fixed:, fixed:])
        tau, sweeps = self.limits.H_tau, self.limits.H_sweeps
        given = Ht, target, A_free, columns[1]
        exact, noise = self.tells(A_free, H.dtype), rounding_of(H.dtype)
        found = solve_rows(*given, tau=tau, l1=l1, max_sweeps=sweeps, exact=exact, noise=noise)
        gain = found.gain
        if self.parallel(A_free, H.dtype):
            gain += solve_exactly(Ht, target, A_free, l1, np.arange(Ht.shape[0]), noise)[1]
        new = np.ascontiguousarray(np.concatenate([old[:fixed], Ht.T]), dtype=H.dtype)
        share = np.einsum("jc,jc->j", WtV, old)
        return HStep(new, found.start_kkt, gain, share, open_columns=found.open_rows)

    def hold_out(self, H: np.ndarray, fold: LeftOut, sparse: bool) -> HeldOut:
        return HeldOutRows.make(self, H, fold, sparse)
