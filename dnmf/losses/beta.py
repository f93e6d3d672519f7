"""Beta-divergences other than 1 and 2, by multiplicative rules (design section 3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from dnmf.linalg.beta import (
    below_floor,
    bounded_steps,
    divergence_rows,
    exponent,
    floored,
    of_means,
    own_sum,
    pair_products,
    powers,
)
from dnmf.linalg.newton import newton_scratch
from dnmf.losses.entrywise import Entrywise, add_block
from dnmf.losses.exact import Exactly
from dnmf.losses.limits import LossLimits
from dnmf.losses.values import Block, Factor, HStep, Matrix, Penalties, SmallStats, Solution

__all__ = ["Beta", "ClassicBeta", "ClassicItakuraSaito", "ItakuraSaito"]

LEAST = {"float32": float(np.finfo(np.float32).tiny), "float64": 1e-150}
"""Penalties drive entries to zero by factors, which would take thousands of steps through numbers
whose products and quotients leave the range: what is less is zero."""


@dataclass(frozen=True)
class Beta(Entrywise):
    """W by majorisation-minimisation on the resident block; H too, or with curvature.

    Blocks are dense tiles in float64: powers of W H leave the range of float32. The curvature
    is the Gauss-Newton one, sum_i y^(beta - 2) w_it w_iu.

    Parameters
    ----------
    penalties : Penalties
    fixed : int
    limits : LossLimits
    beta : float

    Attributes
    ----------
    classic : bool
        The multiplicative rules and nothing else, one step of W per pass.
    """

    beta: float = 0.5

    name: ClassVar[str] = "beta"
    unit: ClassVar[str] = "units of V to the power beta"
    classic: ClassVar[bool] = False

    @classmethod
    def make(cls, penalties: Penalties, fixed: int, limits: LossLimits, beta: float | None) -> Self:
        given = () if beta is None else (beta,)
        return cls(penalties, fixed, limits, *given)

    def statistic_rows(self, k: int, d: int) -> int:
        """Count rows for numerators, denominators and, if they fit, the curvature."""
        packed = k * (k + 1) // 2
        fits = 8 * d * packed <= self.limits.curvature_bytes
        return 2 * k + (packed if fits and not self.classic else 0)

    def scratch_bytes(self, k: int, d: int, entries: int, dtype: np.dtype, sparse: bool) -> int:
        """Count the products of a tile, the pairs of its rows, and H in float64.

        Tiles are dense, so that they may have more entries than a sparse block.
        """
        rows, width = _tile_size(d, self.limits)
        tile = rows * min(d, width)
        return 8 * (9 * tile + rows * k * (k + 1) // 2 + 2 * self.statistic_rows(k, d) * d)

    def solve_bytes(self, k: int, d: int, entries: int, dtype: np.dtype, sparse: bool) -> int:
        """Count whole rows: what a sparse V does not store is solved for, too."""
        return self.scratch_bytes(k, d, entries, dtype, sparse) + newton_scratch(k, d)

    def size(self, total: float, sumsq: float, entries: int) -> float:
        """Return n d mean(V)^beta."""
        return float(entries * (total / entries) ** self.beta)

    def own_term(self, V: Matrix) -> float:
        entries = V if isinstance(V, np.ndarray) else V.data  # of a sparse V beta is above 0
        return own_sum(entries, self.beta)

    def of_means(self, own: float, columns: np.ndarray, rows: int) -> float:
        return of_means(own, columns[0] / rows, rows, self.beta)

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
        small, total = stats
        k = W.shape[1]
        part = SmallStats(np.zeros((k, k)))
        of_rows = np.empty(W.shape[0])
        H: np.ndarray = factor.H.astype(np.float64)
        limits = self.limits
        steps = 1 if self.classic else limits.beta_steps if W.any() else limits.beta_cold_steps
        for a, tile in _tiles(block.V, limits):
            b = a + tile.height
            given = W[a:b].astype(np.float64)
            start_W = _started(given.copy(), block.row_sums[0, a:b], H)
            solved = self._solve(tile, start_W, H, steps, 0.0)
            W[a:b] = self._no_worse(tile, solved, start_W, given, H, steps)
            if self.penalties:
                _flush(W[a:b])
            of_rows[a:b] = self._statistics(tile, W[a:b].astype(np.float64), H, part, total)
            part.sweeps += steps * (b - a)
        part.divergence = float(of_rows.sum())
        add_block(self, block, W, factor, part, of_rows, small)

    def _solve(
        self, tile: _Tile, W: np.ndarray, H: np.ndarray, steps: int, tau: float
    ) -> np.ndarray:
        """Take multiplicative steps of each row of W, until one moves it by ``tau`` or less."""
        power, penalties = exponent(self.beta), self.penalties
        moving = np.ones(len(W), bool)
        for _ in range(steps):
            above, below = np.zeros_like(W), np.zeros_like(W)
            for c, V in tile.parts():
                low, high = powers(W @ H[:, c], self.beta)
                above += (V * low) @ H[:, c].T
                below += high @ H[:, c].T
            below += penalties.l1_W + penalties.l2_W * W
            factors = _ratio(above, below) ** power
            W = np.where(moving[:, None], W * factors, W)
            moving &= (np.where(W > 0, np.abs(factors - 1.0), 0.0) > tau).any(axis=1)
            if not moving.any():
                break
        return W

    def _no_worse(
        self,
        tile: _Tile,
        W: np.ndarray,
        start_W: np.ndarray,
        given: np.ndarray,
        H: np.ndarray,
        steps: int,
    ) -> np.ndarray:
        """Step from the given W instead, in rows where another start has come to a worse end.

        Zeros may be what penalties want, and multiplicative steps take long to come back to them.
        """
        moved = (start_W != given).any(axis=1) & (bool(self.penalties) | given.any(axis=1))
        which = np.flatnonzero(moved)
        if not which.size:
            return W
        part, before, found = _Tile(tile.rows[which], tile.width), given[which], W[which]
        cold, fresh = self.limits.beta_cold_steps, ~before.any(axis=1)
        if fresh.any() and steps < cold:  # as a row that never was anywhere
            found[fresh] = self._solve(part, found, H, cold - steps, 0.0)[fresh]
        worse = self._of_rows(part, before, H) < self._of_rows(part, found, H)
        if worse.any():
            found[worse] = self._solve(part, before, H, steps, 0.0)[worse]
        W[which] = found
        return W

    def _of_rows(self, tile: _Tile, W: np.ndarray, H: np.ndarray) -> np.ndarray:
        """Return the objective of each row, with the penalty on W."""
        penalties = self.penalties
        total = np.sum(penalties.l1_W * W + 0.5 * penalties.l2_W * W * W, axis=1)
        for c, V in tile.parts():
            total += self._divergence(V, W @ H[:, c])
        return total

    def _divergence(self, V: np.ndarray, Y: np.ndarray) -> np.ndarray:
        """Return the divergence of each row; Y is raised to FLOOR in place."""
        rest = below_floor(V, Y, self.beta)
        return divergence_rows(V, floored(Y), self.beta) + rest

    def _statistics(
        self, tile: _Tile, W: np.ndarray, H: np.ndarray, part: SmallStats, total: np.ndarray
    ) -> np.ndarray:
        """Add what H needs; returns the rows' divergences."""
        k, penalties = W.shape[1], self.penalties
        pairs = pair_products(W) if total.shape[0] > 2 * k else None
        above, below = np.zeros_like(W), np.zeros_like(W)
        of_rows, some = np.zeros(len(W)), np.zeros(len(W), bool)
        for c, V in tile.parts():
            Y = W @ H[:, c]
            of_rows += below_floor(V, Y, self.beta)
            low, high = powers(Y, self.beta)
            weighted = V * low
            total[:k, c] += W.T @ weighted
            total[k : 2 * k, c] += W.T @ high
            if pairs is not None:
                total[2 * k :, c] += pairs.T @ low
            above += weighted @ H[:, c].T
            below += high @ H[:, c].T
            of_rows += divergence_rows(V, Y, self.beta)
            some |= V.any(axis=1)
        should = W * (below + penalties.l1_W + penalties.l2_W * W)
        part.kkt += float(np.sum(_ratio((should - W * above) ** 2, should)))
        return np.where(some, of_rows, 0.0)

    def update_H(
        self, wide: np.ndarray, stats: SmallStats, H: np.ndarray, columns: np.ndarray
    ) -> HStep:
        """Take a multiplicative step to the next H, and one with curvature to the extrapolated."""
        assert isinstance(stats.sums, np.ndarray)
        k, penalties = H.shape[0], self.penalties
        old = H.astype(np.float64)
        above = wide[:k]
        below = wide[k : 2 * k] + penalties.l1_H + penalties.l2_H * old
        new = old * _ratio(above, below) ** exponent(self.beta)
        new[: self.fixed] = old[: self.fixed]
        should = old * below
        kkt = float(np.sum(_ratio((should - old * above) ** 2, should)[self.fixed :]))
        gain = 0.5 * float(np.sum((below - above) * (old - new)))
        share = stats.sums * old.sum(axis=1)
        next_H = np.ascontiguousarray(new, H.dtype)
        if penalties:
            _flush(next_H[self.fixed :])
        if wide.shape[0] == 2 * k:
            return HStep(next_H, kkt, gain, share)
        columns_first, slope, K = (
            np.ascontiguousarray(x.T) for x in (old, below - above, wide[2 * k :])
        )
        extrapolated = np.empty_like(columns_first)
        extrapolated_gain = bounded_steps(
            columns_first, self.fixed, slope, K, penalties.l2_H, extrapolated
        )
        extrapolated = np.ascontiguousarray(extrapolated.T, H.dtype)
        if penalties:
            _flush(extrapolated[self.fixed :])
        return HStep(next_H, kkt, gain, share, extrapolated, extrapolated_gain)

    def solve(self, block: Block, factor: Factor) -> Solution:
        H = factor.H.astype(np.float64)
        solved, opened, total, limits = [], [], 0.0, self.limits
        exactly = Exactly(self, factor, self.beta, False)
        until = limits.beta_patient_steps, limits.beta_patient_tau
        for a, tile in _tiles(block.V, limits):
            sums = block.row_sums[0, a : a + tile.height]
            W = _started(np.zeros((tile.height, H.shape[0])), sums, H)
            W = self._solve(tile, W, H, *until).astype(factor.H.dtype)
            opened.append(exactly.solve(block.V[a : a + tile.height], W)[1])
            for c, part in tile.parts():
                of_rows = self._divergence(part, W.astype(np.float64) @ H[:, c])
                total += float(of_rows[sums > 0].sum())
            solved.append(W)
        return Solution(np.concatenate(solved), total, np.concatenate(opened))


@dataclass(frozen=True)
class ItakuraSaito(Beta):
    """The divergence of beta = 0: sum v / y - log(v / y) - 1, equal for any scale of V; V > 0."""

    beta: float = 0.0

    name: ClassVar[str] = "itakura-saito"
    unit: ClassVar[str] = "no unit"


@dataclass(frozen=True)
class ClassicBeta(Beta):
    """The multiplicative rules alone."""

    classic = True


@dataclass(frozen=True)
class ClassicItakuraSaito(ItakuraSaito):
    """The multiplicative rules alone."""

    classic = True


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return above / below, 0 where below is 0."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _flush(entries: np.ndarray) -> None:
    """Make zeros of what is less than LEAST, in place."""
    entries[entries < LEAST[entries.dtype.name]] = 0.0


def _started(W: np.ndarray, row_sums: np.ndarray, H: np.ndarray) -> np.ndarray:
    """Start rows of zeros with equal shares of their sum, zero components with a small one."""
    sums = H.sum(axis=1)
    share = _ratio(np.ones_like(sums), sums) / max(int(np.count_nonzero(sums)), 1)
    fresh = ~W.any(axis=1)
    W[fresh] = row_sums[fresh, None] * share
    empty = ~W.any(axis=0)  # components that are tried again
    if empty.any():
        W[:, empty] = 1e-3 * row_sums[:, None] * share[empty]
    W[:, sums == 0] = 0.0
    return W


class _Tile:
    """Some rows of a block: dense at once if narrow, else by some columns at a time.

    Only some columns of a wide sparse V are dense at any time.
    """

    def __init__(self, rows: Matrix, width: int) -> None:
        self.height, self.d = rows.shape
        self.width = width
        self.rows = _dense(rows) if self.d <= self.width else rows

    def parts(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield columns, and their float64 entries."""
        if isinstance(self.rows, np.ndarray) and self.d <= self.width:
            yield slice(None), self.rows
            return
        for start in range(0, self.d, self.width):
            columns = slice(start, min(start + self.width, self.d))
            yield columns, _dense(self.rows[:, columns])


def _dense(part: Matrix) -> np.ndarray:
    dense = part if isinstance(part, np.ndarray) else part.toarray()
    return dense.astype(np.float64, copy=False)


def _tile_size(d: int, limits: LossLimits) -> tuple[int, int]:
    """Return the rows of a tile, and the columns of it that are dense at once."""
    height = max(limits.dense_tile_rows, limits.dense_tile // d)
    return height, max(1, limits.dense_tile // limits.dense_tile_rows)


def _tiles(V: Matrix, limits: LossLimits) -> Iterator[tuple[int, _Tile]]:
    """Yield the first row of every tile, and the tile."""
    height, width = _tile_size(V.shape[1], limits)
    for a in range(0, V.shape[0], height):
        yield a, _Tile(V[a : a + height], width)
