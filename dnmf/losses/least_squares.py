"""Least squares, f = 1/2 |V - W H|^2: what all its solvers share (design section 3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dnmf.linalg.active_set import far_rows
from dnmf.linalg.hals import (
    ROWS_AT_ONCE,
    RowSolution,
    cold_start,
    solve_exactly,
    solve_rows,
)
from dnmf.linalg.products import (
    gram,
    product_VHt,
    residual_sumsq,
    row_residual,
    wide_VHt,
    zero_WtV,
)
from dnmf.linalg.tiles import padded
from dnmf.losses.base import Loss, negligible, rounding_unit
from dnmf.losses.exact import Exactly
from dnmf.losses.values import Block, Factor, Matrix, SmallStats, Solution

__all__ = [
    "SOLVED_TAU",
    "LeastSquares",
    "ridged",
    "small_stats",
]

SOLVED_TAU = {"float32": 1e-5, "float64": 1e-9}
"""Sweeps end where they move a row by this share of its residual."""

SOLVED = {"float32": 1e-4, "float64": 1e-7}
"""A row has converged where W is this near to the solution, relative to W."""

TELLS = {"float32": 1e-3, "float64": 1e-9}
"""The least curvature of G, scaled to a diagonal of 1, at which C and G in the dtype tell it."""

HARD_SWEEPS = 20
"""Sweeps before an active set, where G is so ill-conditioned that they converge slowly."""


@dataclass(frozen=True)
class LeastSquares(Loss):
    """Objective, statistics W' W and W' V, and W at a given H."""

    name = "frobenius"
    unit = "units of V squared"
    entrywise = dear = False
    unit_norm = merges = True

    def residual_of(self, V: Matrix, row: int, w: np.ndarray, H: np.ndarray) -> np.ndarray:
        return row_residual(V, row, w, H)

    def prepare(self, H: np.ndarray, sparse: bool) -> Factor:
        G = gram(H.T)  # first: it takes H in float64
        Ht = padded(H.T) if sparse else None
        return Factor(H, Ht, G, penalty=self.penalties.of_H(H))

    def size(self, total: float, sumsq: float, entries: int) -> float:
        return sumsq

    def empty(self, k: int, d: int, dtype: np.dtype, sparse: bool) -> tuple[SmallStats, Any]:
        return SmallStats(np.zeros((k, k))), zero_WtV(k, d, dtype, sparse)

    def statistic_rows(self, k: int, d: int) -> int:
        return k

    def scratch_bytes(self, k: int, d: int, entries: int, dtype: np.dtype, sparse: bool) -> int:
        """Count a tile of W H, or rows processed together; the plan counts V H' and W."""
        return 8 * max(min(entries, self.limits.residual_tile), d, k * (3 * ROWS_AT_ONCE + k))

    def solve_bytes(self, k: int, d: int, entries: int, dtype: np.dtype, sparse: bool) -> int:
        """Count the rows that are solved exactly at a time, and some rows of H, in float64."""
        tile = min(entries, max(self.limits.nonzero_tile, min(d, entries)))
        copies = tile * (2 * dtype.itemsize + 16) + 8 * 16 * d
        return super().solve_bytes(k, d, entries, dtype, sparse) + copies

    def measured(
        self, block: Block, W: np.ndarray, factor: Factor, small: SmallStats, residual: bool
    ) -> float | None:
        """Return a block's squared residuals, if asked for; ``small`` is its segment's.

        A segment that has blocks without has none.
        """
        small.residual = small.residual or 0.0 if residual else None
        if not residual:
            return None
        return residual_sumsq(block.V, W, factor.H, factor.Ht, factor.G, self.limits.residual_tile)

    def divergence(self, stats: SmallStats, sumsq: float, factor: Factor) -> float:
        """Return the sum over entries where residuals were computed, else from products.

        Products cannot tell what is below the unit of rounding, and never claim less: a false
        zero would make the next pass, which measures, look worse.
        """
        if stats.residual is not None:
            return 0.5 * stats.residual
        value = 0.5 * (sumsq - 2.0 * stats.cross + float(np.sum(stats.WtW * factor.G)))
        return max(value, rounding_unit(sumsq, factor.H.dtype))

    def of_means(self, own: float, columns: np.ndarray, rows: int) -> float:
        """Return the divergence from the column means."""
        return 0.5 * float(columns[1].sum() - np.square(columns[0]).sum() / rows)

    def leaves_zero(self, k: int, d: int) -> bool:
        return True

    def dead(self, stats: SmallStats, G_diagonal: np.ndarray, dtype: np.dtype) -> list[int]:
        """List components with A_jj G_jj <= eps max."""
        return negligible(stats, G_diagonal, float(np.finfo(dtype).eps))

    def measure(self, v: np.ndarray, fitted: np.ndarray) -> tuple[float, float]:
        difference = v.astype(np.float64) - fitted
        scale = 0.5 * float(np.sum(np.square(v, dtype=np.float64)))
        return 0.5 * float(np.sum(difference * difference)), scale

    def solve(self, block: Block, factor: Factor) -> Solution:
        """Solve by sweeps, then exactly what they leave far from the solution.

        What moves little may still be far where H is ill-conditioned: a row has converged if its
        gradient, by the least curvature that G has, bounds how far it is. Where C and G have too
        few digits the gradient is summed from residuals.
        """
        penalties, limits = self.penalties, self.limits
        l1, l2 = penalties.l1_W, penalties.l2_W
        C, G = product_VHt(block.V, factor.H, factor.Ht), ridged(factor.G, l2)
        W = cold_start(C - C.dtype.type(l1) if l1 else C, G)
        least, dtype = least_curvature(G), W.dtype.name
        tells = least >= TELLS[dtype]
        tau, sweeps = SOLVED_TAU[dtype], limits.solved_sweeps if tells else HARD_SWEEPS
        given = W, C, G, block.row_sums[1]
        solved = solve_rows(*given, tau=tau, l1=l1, max_sweeps=sweeps, exact=True)
        divergence, is_open = 0.5 * solved.residual_sumsq, np.zeros(W.shape[0], bool)
        if l2:
            divergence -= 0.5 * l2 * np.sum(np.square(W, dtype=np.float64), axis=1)
        far = np.ones(W.shape[0], bool)
        if tells:
            far_rows(W, C, G, l1, least * SOLVED[dtype], far)
        for which in row_groups(block.V, np.flatnonzero(far), limits.nonzero_tile):
            some = block.V if which.size == W.shape[0] else block.V[which]
            exact = C[which] if tells or dtype == "float64" else wide_VHt(some, factor.H)
            rows, numbers = W[which], np.arange(which.size)
            poor = solve_exactly(rows, exact, G, l1, numbers)[0]
            left = residuals_of(rows, exact, factor.G, block.row_sums[1][which])
            exactly = Exactly(self, factor, 2.0, False)
            of_rows, opened = exactly.solve(some, rows, np.flatnonzero(poor))
            W[which], is_open[which] = rows, opened
            divergence[which] = np.where(poor, of_rows, 0.5 * left)
        return Solution(W, float(np.maximum(divergence, 0.0).sum()), is_open)

    def solved_rows(
        self, W: np.ndarray, VHt: np.ndarray, G: np.ndarray, sumsq: np.ndarray, tau: float
    ) -> RowSolution:
        """Solve rows of a pass in place; G with penalties, ``sumsq`` of the rows of V.

        What sweeps do not solve, since they reach their limit or hardly move, is solved exactly.
        """
        l1, sweeps, exact = self.penalties.l1_W, self.limits.W_sweeps, self.tells(G, W.dtype)
        if self.parallel(G, W.dtype):  # a sweep that moves little says nothing
            solve_exactly(W, VHt, G, l1, np.arange(W.shape[0]), rounding_of(W.dtype))
            summed = solve_rows(W, VHt, G, sumsq, tau=tau, l1=l1, max_sweeps=1)
            return replace(summed, open_rows=0)
        return solve_rows(W, VHt, G, sumsq, tau=tau, l1=l1, max_sweeps=sweeps, exact=exact)

    def tells(self, G: np.ndarray, dtype: np.dtype) -> bool:
        """Return whether products of this dtype have the digits that an exact step needs.

        Where G is singular to their rounding a solution is one of many, told apart by noise alone.
        """
        if dtype == np.float64:
            return True
        eps = float(np.finfo(dtype).eps)
        return self.limits.singular * len(G) * eps < least_curvature(G)

    def parallel(self, G: np.ndarray, dtype: np.dtype) -> bool:
        """Return whether components are so nearly parallel that coordinate descent hardly moves.

        Where G is singular, as with more components than V's rank, an exact solution is one of
        many, which may be far away: the descent stays near its start.
        """
        limits, eps = self.limits, float(np.finfo(dtype).eps)
        return limits.singular * len(G) * eps < least_curvature(G) < limits.parallel

    def from_sample(
        self, H: np.ndarray, weights: np.ndarray, column_sums: np.ndarray, unit: float
    ) -> np.ndarray:
        """Return H as it is: columns of zeros do no harm, as steps can move them."""
        return H


def rounding_of(dtype: np.dtype) -> float:
    """Return the relative error of products, as an exact step takes it: those of float64 none."""
    return 0.0 if dtype == np.float64 else float(np.finfo(dtype).eps)


def least_curvature(G: np.ndarray) -> float:
    """Return the least eigenvalue of G, scaled to a diagonal of 1; rows of zeros do not count."""
    diagonal = np.diag(G)
    roots = np.sqrt(diagonal[diagonal > 0])
    some = G[np.ix_(diagonal > 0, diagonal > 0)] / roots / roots[:, None]
    return float(np.linalg.eigvalsh(some)[0]) if roots.size else 1.0


def row_groups(V: Matrix, which: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Cut some rows of V into groups of at most ``most`` entries, or one row."""
    sizes = np.full(V.shape[0], V.shape[1]) if isinstance(V, np.ndarray) else np.diff(V.indptr)
    ends = np.cumsum(sizes[which])
    start = 0
    while start < which.size:
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield which[start:stop]
        start = stop


def residuals_of(W: np.ndarray, C: np.ndarray, G: np.ndarray, sumsq: np.ndarray) -> np.ndarray:
    """Return |v - w H|^2 of rows from products, (m,); C and G without penalties."""
    W = W.astype(np.float64)
    return np.asarray(sumsq + np.sum(W * (W @ G - 2.0 * C), axis=1))


def ridged(G: np.ndarray, l2: float) -> np.ndarray:
    """Return G + l2 I."""
    return G + l2 * np.eye(G.shape[0]) if l2 else G


def small_stats(W: np.ndarray, found: RowSolution) -> SmallStats:
    """Return what `solve_rows` found of W (m, k), and sums over its rows."""
    return SmallStats(
        gram(W),
        np.sum(W, axis=0, dtype=np.float64),
        cross=found.cross,
        total=found.total,
        sumsq=found.sumsq,
        kkt=found.kkt,
        sweeps=found.sweeps,
        open_rows=found.open_rows,
    )
