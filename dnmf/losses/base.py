"""The contract of a loss: block -> W_b and statistics; statistics -> H."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from dnmf.linalg.matrix import Matrix

__all__ = [
    "NO_PENALTIES",
    "Candidate",
    "Factor",
    "HStep",
    "Loss",
    "Penalties",
    "SmallStats",
    "rounding_unit",
    "worst_row",
]

CANDIDATES = 4


def rounding_unit(size: float, dtype: str | np.dtype) -> float:
    """What an objective may rise by rounding alone (design section 8, rule 10)."""
    return size * (2.0**-24 if dtype == "float32" else 2.0**-53 * 1e3)


@dataclass(frozen=True)
class Penalties:
    """What is added to the divergence: l1 sum(X) + l2 / 2 |X|^2 of either factor.

    The numbers are those of one step: scikit-learn's ``alpha`` times the number of columns (for
    W) or of the step's rows (for H), split by ``l1_ratio``.
    """

    l1_W: float = 0.0
    l2_W: float = 0.0
    l1_H: float = 0.0
    l2_H: float = 0.0

    def __bool__(self) -> bool:
        return any((self.l1_W, self.l2_W, self.l1_H, self.l2_H))

    def of_W(self, total: float, sumsq: float) -> float:
        """The part of W, from the sum of its entries and of their squares."""
        return self.l1_W * total + 0.5 * self.l2_W * sumsq

    def of_H(self, H: np.ndarray) -> float:
        """The part of H."""
        if not (self.l1_H or self.l2_H):
            return 0.0
        total = float(np.sum(H, dtype=np.float64))
        sumsq = sum(float(np.sum(np.square(row, dtype=np.float64))) for row in H)
        return self.l1_H * total + 0.5 * self.l2_H * sumsq


NO_PENALTIES = Penalties()


@dataclass(frozen=True)
class Factor:
    """H of one model as a pass uses it.

    Attributes
    ----------
    H : (k, d) array
        In the dtype that the fit computes in.
    Ht : (d, k) array or None
        H', contiguous, where V is sparse.
    G : (k, k) float64 array
        H H' of exactly this H.
    sums : (k,) float64 array or None
        Sums of the rows of H, where the loss needs them.
    penalty : float
        The penalty on this H.
    """

    H: np.ndarray
    Ht: np.ndarray | None
    G: np.ndarray
    sums: np.ndarray | None = None
    penalty: float = 0.0


@dataclass(frozen=True)
class Candidate:
    """A badly fitted row, from which a dead component may be revived.

    Attributes
    ----------
    residual : float
        |v - w H|^2 of the row.
    row : int
        Its global index.
    direction : (d,) array
        The non-negative part of v - w H.
    """

    residual: float
    row: int
    direction: np.ndarray


@dataclass
class SmallStats:
    """The statistics of one model that do not grow with d (but for a few candidates' rows).

    Attributes
    ----------
    WtW : (k, k) float64 array
        W' W.
    sums : (k,) float64 array or float
        Sums of the columns of W, where the loss needs them.
    divergence : float
        The loss without penalties, where it does not follow from the other numbers.
    """

    WtW: np.ndarray
    sums: np.ndarray | float = 0.0
    divergence: float = 0.0
    cross: float = 0.0
    total: float = 0.0
    sumsq: float = 0.0
    kkt: float = 0.0
    sweeps: int = 0
    residual: float | None = None
    candidates: list[Candidate] = field(default_factory=list)

    def add(self, other: SmallStats) -> None:
        """Add ``other``, which stands behind this one in index order."""
        self.WtW = self.WtW + other.WtW
        self.sums = self.sums + other.sums
        self.divergence += other.divergence
        self.cross += other.cross
        self.total += other.total
        self.sumsq += other.sumsq
        self.kkt += other.kkt
        self.sweeps += other.sweeps
        if self.residual is not None and other.residual is not None:
            self.residual += other.residual
        both = sorted(self.candidates + other.candidates, key=lambda c: (-c.residual, c.row))
        self.candidates = both[:CANDIDATES]


def worst_row(
    residual_of: Callable[[Any, int, np.ndarray, np.ndarray], np.ndarray],
    V: Matrix,
    start: int,
    W: np.ndarray,
    H: np.ndarray,
    residuals: np.ndarray,
    small: SmallStats,
) -> list[Candidate]:
    """The worst row of the block, unless the segment has a worse one (one per segment).

    ``residual_of(V, row, w, H)`` is the direction that it is given.
    """
    row = int(np.argmax(residuals))
    worst = float(residuals[row])
    if small.candidates and small.candidates[0].residual >= worst:
        return []
    small.candidates = []
    return [Candidate(worst, start + row, residual_of(V, row, W[row], H))]


@dataclass(frozen=True)
class HStep:
    """What the update of one column slab of H gives.

    Attributes
    ----------
    H : (k, slab) array
        The new H, in the dtype of the old one.
    kkt : float
        Sum over the slab of A_jj (h - max(0, h - grad / A_jj))^2 at the old H.
    gain : float
        How much the objective falls from the old H to the new one at this W.
    share : (k,) float64 array
        Sum over the slab of WtV_jc H_jc at the old H (of W's and H's sums for other losses).
    extrapolated : (k, slab) array or None
        An H that may be far better and may raise the objective: the next pass tries it and,
        should the objective have risen, the pass after takes ``H`` instead.
    extrapolated_gain : float
        How much the objective is expected to fall from the old H to ``extrapolated``.
    """

    H: np.ndarray
    kkt: float
    gain: float
    share: np.ndarray
    extrapolated: np.ndarray | None = None
    extrapolated_gain: float = 0.0


class Loss(Protocol):
    """Mathematics only: no storage, no Dask, no knowledge of passes.

    Attributes
    ----------
    name : str
    solvers : tuple of str
        Names of its solvers besides the default.
    penalties : Penalties
    extrapolates : bool
        Whether passes may extrapolate H linearly from the last two (least squares).
    gauge_free : bool
        Rows of H may be rescaled, columns of W accordingly: the objective is the same.
    kept : int or None
        How many rows of the accumulator are kept with the pair; None is all.
    fixed : int
        So many first rows of H are held: `update_H` leaves them as they are.
    """

    name: str
    solvers: tuple[str, ...]
    penalties: Penalties
    extrapolates: bool
    gauge_free: bool
    kept: int | None
    fixed: int

    @classmethod
    def make(cls, penalties: Penalties, solver: str | None, beta: float | None) -> Loss:
        """A loss with these parameters; ``beta`` matters to one that has several."""
        ...

    def prepare(self, H: np.ndarray, sparse: bool) -> Factor:
        """H (k, d) in the forms that all blocks of a pass share."""
        ...

    def empty(self, k: int, d: int, dtype: np.dtype, sparse: bool) -> tuple[SmallStats, Any]:
        """Zero statistics of a segment: the small ones, and the accumulator of k x d."""
        ...

    def statistic_rows(self, k: int, d: int) -> int:
        """Rows of what `slabs` cuts, for k components."""
        ...

    def scratch_bytes(self, k: int, d: int, entries: int, dtype: np.dtype, sparse: bool) -> int:
        """Bytes that `update_block` takes for a while besides block, W and statistics.

        ``entries`` are the most that a block has (nonzeros of a sparse one).
        """
        ...

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
        """Solve W of one block in place and add its statistics.

        Parameters
        ----------
        V : (m, d) block
        start : int
            Global index of its first row.
        W : (m, k) array
            Warm start; becomes the solution.
        rows : (2, m) float64 array
            Sums and sums of squares of the block's rows.
        tau : float
            Relative tolerance of the W-step.
        residual : bool
            Compute the objective entry by entry.
        """
        ...

    def slabs(self, accumulator: Any, slab_starts: Sequence[int]) -> list[np.ndarray]:
        """Cut the accumulator into contiguous (r, slab) float64 arrays, r by the loss."""
        ...

    def size(self, total: float, sumsq: float, entries: int) -> float:
        """What scales as the loss does with V, from V's sum, sum of squares and n d."""
        ...

    def divergence(self, stats: SmallStats, sumsq: float, factor: Factor) -> float:
        """The loss at (W, H) without penalties; ``sumsq`` is |V|^2."""
        ...

    def objective(self, stats: SmallStats, sumsq: float, factor: Factor) -> float:
        """The objective at (W, H), penalties included."""
        ...

    def leaves_zero(self, k: int, d: int) -> bool:
        """Whether steps can move an entry of H (k x d) that is zero: a start may have some."""
        ...

    def dead(self, stats: SmallStats, G_diagonal: np.ndarray, dtype: np.dtype) -> list[int]:
        """Components that contribute nothing."""
        ...

    def update_H(
        self, wide: np.ndarray, stats: SmallStats, H: np.ndarray, columns: np.ndarray
    ) -> HStep:
        """Solve one column slab of H from the reduced statistics.

        Parameters
        ----------
        wide : (r, slab) float64 array
            What `slabs` cut, reduced over all rows.
        H : (k, slab) array
            The H of the pass.
        columns : (2, slab) float64 array
            Sums and sums of squares of V's columns.
        """
        ...

    def solve(self, V: Matrix, factor: Factor, rows: np.ndarray) -> tuple[np.ndarray, float]:
        """W (m, k) of a block solved to convergence from nothing, and its divergence."""
        ...

    def from_sample(
        self, H: np.ndarray, weights: np.ndarray, column_sums: np.ndarray, unit: float
    ) -> np.ndarray:
        """H (k, d) that was fitted to a sample, fit to start on all of V.

        Parameters
        ----------
        weights : (k,) float64 array
            Sums of the columns of W on the sample.
        column_sums : (d,) float64 array
            Of all of V.
        unit : float
            The size of V's nonzero entries.
        """
        ...
