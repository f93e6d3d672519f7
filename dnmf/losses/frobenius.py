"""Least squares: f = 1/2 |V - W H|^2 (design section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from dnmf.linalg.hals import ABREAST, cold_start, solve_rows
from dnmf.linalg.products import (
    TILE_ENTRIES,
    add_WtV,
    gram,
    product_VHt,
    residual_sumsq,
    row_residual,
    zero_WtV,
)
from dnmf.linalg.tiles import padded
from dnmf.losses.base import (
    NO_PENALTIES,
    Factor,
    HStep,
    Matrix,
    Penalties,
    SmallStats,
    rounding_unit,
    worst_row,
)

__all__ = ["Frobenius"]

H_TAU = 1e-3
H_SWEEPS = 500
SOLVED_TAU = {"float32": 1e-5, "float64": 1e-9}
SOLVED_SWEEPS = 5000


class Frobenius:
    """Alternating non-negative least squares by HALS on W' V, W' W, V H' and H H'."""

    name = "frobenius"
    solvers: tuple[str, ...] = ("hals", "mu")
    extrapolates = True
    kept: int | None = None
    residual_of = staticmethod(row_residual)
    fixed = 0

    def __init__(self, penalties: Penalties = NO_PENALTIES) -> None:
        self.penalties = penalties
        self.gauge_free = not penalties

    @classmethod
    def make(cls, penalties: Penalties, solver: str | None, beta: float | None) -> Frobenius:
        """See `Loss.make`."""
        if solver == "mu":
            from dnmf.losses.lee_seung import LeeSeung

            return LeeSeung(penalties)
        return cls(penalties)

    def prepare(self, H: np.ndarray, sparse: bool) -> Factor:
        """See `Loss.prepare`."""
        Ht = padded(H.T) if sparse else None
        return Factor(H, Ht, gram(H.T), penalty=self.penalties.of_H(H))

    def size(self, total: float, sumsq: float, entries: int) -> float:
        """See `Loss.size`: |V|^2."""
        return sumsq

    def empty(self, k: int, d: int, dtype: np.dtype, sparse: bool) -> tuple[SmallStats, Any]:
        """See `Loss.empty`; W' V is kept transposed for CSR, where rows of it are touched."""
        return SmallStats(np.zeros((k, k))), zero_WtV(k, d, dtype, sparse)

    def statistic_rows(self, k: int, d: int) -> int:
        """See `Loss.statistic_rows`: W' V."""
        return k

    def scratch_bytes(self, k: int, d: int, entries: int, dtype: np.dtype, sparse: bool) -> int:
        """See `Loss.scratch_bytes`: a tile of W H, or what rows side by side need.

        V H' and W are counted by whoever plans.
        """
        return 8 * max(min(entries, TILE_ENTRIES), d, k * (3 * ABREAST + k))

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
        """See `Loss.update_block`."""
        small, WtV = stats
        VHt = product_VHt(V, factor.H, factor.Ht)
        self.update_rows(V, start, W, VHt, factor, rows, small, tau=tau, residual=residual)
        add_WtV(V, W, WtV)

    def update_rows(
        self,
        V: Matrix,
        start: int,
        W: np.ndarray,
        VHt: np.ndarray,
        factor: Factor,
        rows: np.ndarray,
        small: SmallStats,
        *,
        tau: float,
        residual: bool,
    ) -> None:
        """`update_block` between the two products with V, which models may share."""
        l1, G = self.penalties.l1_W, ridged(factor.G, self.penalties.l2_W)
        if not W.any():
            W[:] = cold_start(VHt - W.dtype.type(l1) if l1 else VHt, G)
        found = solve_rows(W, VHt, G.astype(W.dtype), rows[1], tau=tau, l1=l1)
        part = SmallStats(
            gram(W),
            np.sum(W, axis=0, dtype=np.float64),
            cross=found.cross,
            total=found.total,
            sumsq=found.sumsq,
            kkt=found.kkt,
            sweeps=found.sweeps,
        )
        small.residual = small.residual or 0.0 if residual else None
        if residual:
            part.residual = residual_sumsq(V, W, factor.H, factor.Ht, factor.G)
        part.candidates = worst_row(
            self.residual_of, V, start, W, factor.H, found.residual_sumsq, small
        )
        small.add(part)

    def slabs(self, accumulator: Any, slab_starts: Sequence[int]) -> list[np.ndarray]:
        """See `Loss.slabs`."""
        return [
            np.array(accumulator[:, a:b], np.float64, order="C") for a, b in pairwise(slab_starts)
        ]

    def objective(self, stats: SmallStats, sumsq: float, factor: Factor) -> float:
        """See `Loss.objective`."""
        penalty = self.penalties.of_W(stats.total, stats.sumsq) + factor.penalty
        return self.divergence(stats, sumsq, factor) + penalty

    def divergence(self, stats: SmallStats, sumsq: float, factor: Factor) -> float:
        """See `Loss.divergence`; entry by entry where the pass computed residuals.

        Products cannot tell what is below the unit of rounding, and never claim less: a false
        zero would make the next pass, which measures, look worse.
        """
        if stats.residual is not None:
            return 0.5 * stats.residual
        value = 0.5 * (sumsq - 2.0 * stats.cross + float(np.sum(stats.WtW * factor.G)))
        return max(value, rounding_unit(sumsq, factor.H.dtype))

    def leaves_zero(self, k: int, d: int) -> bool:
        """See `Loss.leaves_zero`; multiplicative rules cannot."""
        return self.extrapolates

    def dead(self, stats: SmallStats, G_diagonal: np.ndarray, dtype: np.dtype) -> list[int]:
        """See `Loss.dead`: A_jj G_jj <= eps max."""
        size = np.diag(stats.WtW) * G_diagonal
        limit = float(np.finfo(dtype).eps) * float(size.max(initial=0.0))
        return [int(j) for j in np.flatnonzero(size <= limit)]

    def update_H(
        self, wide: np.ndarray, stats: SmallStats, H: np.ndarray, columns: np.ndarray
    ) -> HStep:
        """See `Loss.update_H`: the columns are independent, and cost no data access."""
        A, WtV, l1 = ridged(stats.WtW, self.penalties.l2_H), wide, self.penalties.l1_H
        old, held = H.astype(np.float64), self.fixed
        Ht = np.ascontiguousarray(old[held:].T)
        target = np.ascontiguousarray(WtV[held:].T)
        if held:  # what the rows that are held explain is not to be explained again
            target -= old[:held].T @ A[:held, held:]
        A_free = np.ascontiguousarray(A[held:, held:])
        found = solve_rows(Ht, target, A_free, columns[1], tau=H_TAU, l1=l1, max_sweeps=H_SWEEPS)
        new = np.ascontiguousarray(np.concatenate([old[:held], Ht.T]), dtype=H.dtype)
        share = np.einsum("jc,jc->j", WtV, old)
        return HStep(new, found.start_kkt, found.gain, share)

    def solve(self, V: Matrix, factor: Factor, rows: np.ndarray) -> tuple[np.ndarray, float]:
        """See `Loss.solve`."""
        l1, l2 = self.penalties.l1_W, self.penalties.l2_W
        C, G = product_VHt(V, factor.H, factor.Ht), ridged(factor.G, l2)
        W = cold_start(C - C.dtype.type(l1) if l1 else C, G)
        solved = solve_rows(
            W,
            C,
            G.astype(W.dtype),
            rows[1],
            tau=SOLVED_TAU[W.dtype.name],
            l1=l1,
            max_sweeps=SOLVED_SWEEPS,
        )
        left = np.maximum(solved.residual_sumsq, 0)
        return W, 0.5 * max(float(left.sum()) - l2 * solved.sumsq, 0.0)

    def from_sample(
        self, H: np.ndarray, weights: np.ndarray, column_sums: np.ndarray, unit: float
    ) -> np.ndarray:
        """See `Loss.from_sample`: columns of zeros do no harm."""
        return H


def ridged(G: np.ndarray, l2: float) -> np.ndarray:
    """G + l2 I."""
    return G + l2 * np.eye(G.shape[0]) if l2 else G
