"""The contract of a loss: block -> W_b and statistics; statistics -> H."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from dnmf.linalg.newton import newton_scratch
from dnmf.losses.limits import LossLimits
from dnmf.losses.values import (
    NO_PENALTIES,
    Block,
    Candidate,
    Factor,
    HeldOutStats,
    HStep,
    Matrix,
    Penalties,
    SmallStats,
    Solution,
)

__all__ = ["HeldOut", "LeftOut", "Loss", "negligible", "rounding_unit"]


def rounding_unit(size: float, dtype: str | np.dtype) -> float:
    """Return how far an objective may rise by rounding alone (design section 8, rule 10)."""
    return size * (2.0**-24 if dtype == "float32" else 2.0**-53 * 1e3)


def negligible(stats: SmallStats, G_diagonal: np.ndarray, share: float) -> list[int]:
    """List components j with A_jj G_jj, the squared size of w_j h_j, <= ``share`` of the largest.

    Parameters
    ----------
    G_diagonal : (k,) float64 array
        Squared norms of the rows of H.
    """
    size = np.diag(stats.WtW) * G_diagonal
    return [int(j) for j in np.flatnonzero(size <= share * float(size.max(initial=0.0)))]


class LeftOut(Protocol):
    """The part of V that one model does not see."""

    @property
    def columns(self) -> np.ndarray:
        """Columns that are left out as a whole, (d,) bool."""
        ...

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """Return which of the rows with these numbers are left out, (m,) bool."""
        ...

    def entries(self, numbers: np.ndarray) -> np.ndarray:
        """Return which entries of the rows with these numbers are left out, (m, d) bool."""
        ...


class HeldOut(ABC):
    """A model that leaves out a part of V: fitted to the rest, measured on that part."""

    @abstractmethod
    def update(
        self,
        block: Block,
        W: np.ndarray,
        factor: Factor,
        stats: tuple[SmallStats, Any],
        *,
        tau: float,
        residual: bool,
    ) -> HeldOutStats:
        """Solve W in place and add the statistics of what is seen, as `Loss.update_block` does."""

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
    ) -> tuple[np.ndarray, HeldOutStats]:
        """Do `update` between the products with V, where the loss ``shares_product``.

        Returns
        -------
        W : (m, k) array
            What W' V is to be summed from: zeros for rows that are left out.
        HeldOutStats
        """
        raise NotImplementedError(f"{type(self).__name__} shares_product, but has no update_rows")


@dataclass(frozen=True)
class Loss(ABC):
    """The mathematics of a loss: no storage, no Dask, no knowledge of passes.

    Parameters
    ----------
    penalties : Penalties
        The penalties of the step that the loss is for.
    fixed : int
        So many first rows of H are given: `update_H` leaves them as they are.
    limits : LossLimits
        Sizes and numbers of steps that its run began with.

    Attributes
    ----------
    name : str
        Name in the registry.
    unit : str
        Unit of the objective, for axes of figures.
    entrywise : bool
        The objective is summed over entries; else it comes from products, in which digits cancel.
    dear : bool
        Entries take long to compute on: small data are cut into blocks that several tasks share,
        and starts race for fewer passes.
    unit_norm : bool
        Factors of unit size have norm 1; else sum 1.
    merges : bool
        Least squares says what merging two components costs, so that every start may search by
        merging. It may mislead other losses, of whose starts every second one does.
    extrapolates : bool
        Passes may extrapolate H linearly from the last two.
    shares_product : bool
        V H' and W' V may be computed for several models at once, around `update_rows`.
    counts_open : bool
        A pass solves rows of W to a tolerance, so that those that it leaves open are counted.
        Others take a few steps, of which none is the last.
    compresses : bool
        Passes may leave a compressed V behind, on which H alternates until the next read.
    leaves_out : str or None
        What models with a fold may leave out, by its name in `FitConfig.holdout`: ``"bicv"``,
        rows and columns; ``"speckled"``, entries.
    """

    penalties: Penalties = NO_PENALTIES
    fixed: int = 0
    limits: LossLimits = field(default_factory=LossLimits)

    name: ClassVar[str]
    unit: ClassVar[str]
    entrywise: ClassVar[bool] = True
    dear: ClassVar[bool] = True
    unit_norm: ClassVar[bool] = False
    merges: ClassVar[bool] = False
    extrapolates: ClassVar[bool] = False
    counts_open: ClassVar[bool] = False
    shares_product: ClassVar[bool] = False
    compresses: ClassVar[bool] = False
    leaves_out: ClassVar[str | None] = None

    @classmethod
    def make(cls, penalties: Penalties, fixed: int, limits: LossLimits, beta: float | None) -> Self:
        """Return a loss with these parameters; ``beta`` matters to one that has several."""
        return cls(penalties, fixed, limits)

    @property
    def gauge_free(self) -> bool:
        """True if rows of H may be rescaled, and columns of W accordingly."""
        return not self.penalties

    @abstractmethod
    def prepare(self, H: np.ndarray, sparse: bool) -> Factor:
        """Return H (k, d) in the forms that all blocks of a pass share."""

    def empty(self, k: int, d: int, dtype: np.dtype, sparse: bool) -> tuple[SmallStats, Any]:
        """Return zero statistics of a segment: the small ones, and an accumulator for H."""
        return SmallStats(np.zeros((k, k)), np.zeros(k)), np.zeros((self.statistic_rows(k, d), d))

    @abstractmethod
    def statistic_rows(self, k: int, d: int) -> int:
        """Return the rows of what `slabs` cuts, for k components."""

    @abstractmethod
    def scratch_bytes(self, k: int, d: int, entries: int, dtype: np.dtype, sparse: bool) -> int:
        """Return the bytes that `update_block` takes besides block, W and statistics.

        ``entries`` are the most that a block has (nonzeros of a sparse one).
        """

    def solve_bytes(self, k: int, d: int, entries: int, dtype: np.dtype, sparse: bool) -> int:
        """Return the bytes that `solve` takes besides block, W and V H', as `scratch_bytes`."""
        scratch = self.scratch_bytes(k, d, entries, dtype, sparse)
        return scratch + newton_scratch(k, min(d, entries))

    @abstractmethod
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
        """Solve W of one block in place and add its statistics.

        Parameters
        ----------
        block : Block
        W : (m, k) array
            The start (zeros: none); becomes the solution.
        stats : (SmallStats, accumulator)
            From `empty`, of the segment.
        tau : float
            Relative tolerance of the W-step.
        residual : bool
            Compute the objective entry by entry.
        """

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
        """Do `update_block` between the two products with V, if the loss ``shares_product``.

        Parameters
        ----------
        VHt : (m, k) array
            V H' of the block.
        """
        raise NotImplementedError(f"loss {self.name!r} shares_product, but has no update_rows")

    @abstractmethod
    def residual_of(self, V: Matrix, row: int, w: np.ndarray, H: np.ndarray) -> np.ndarray:
        """Return the non-negative part of v - w H of one row of a block, a (d,) array."""

    def worst(
        self,
        block: Block,
        W: np.ndarray,
        factor: Factor,
        residuals: np.ndarray,
        small: SmallStats,
    ) -> list[Candidate]:
        """Return the worst row of the block, unless the segment has a worse one already."""
        row = int(np.argmax(residuals))
        found = float(residuals[row])
        if small.candidates and small.candidates[0].residual >= found:
            return []
        small.candidates = []
        direction = self.residual_of(block.V, row, W[row], factor.H)
        return [Candidate(found, block.start + row, direction)]

    def slabs(self, accumulator: Any, slab_starts: Sequence[int]) -> list[np.ndarray]:
        """Cut the accumulator into contiguous (r, slab) float64 arrays, r by the loss."""
        return [
            np.array(accumulator[:, a:b], np.float64, order="C") for a, b in pairwise(slab_starts)
        ]

    @abstractmethod
    def size(self, total: float, sumsq: float, entries: int) -> float:
        """Return a size of V that scales as the loss does, from V's sum, sum of squares and n d."""

    def divergence(self, stats: SmallStats, sumsq: float, factor: Factor) -> float:
        """Return the loss at (W, H) without penalties; ``sumsq`` is |V|^2."""
        return max(stats.divergence, 0.0)

    def objective(self, stats: SmallStats, sumsq: float, factor: Factor) -> float:
        """Return the objective at (W, H), penalties included."""
        penalty = self.penalties.of_W(stats.total, stats.sumsq) + factor.penalty
        return self.divergence(stats, sumsq, factor) + penalty

    def own_term(self, V: Matrix) -> float:
        """Return the part of a block's divergence that V alone decides, for `of_means`."""
        return 0.0

    def of_means(self, own: float, columns: np.ndarray, rows: int) -> float | None:
        """Return the divergence that is there to be explained; None where it is not known.

        It is that of V from its column means, or from zeros.

        Parameters
        ----------
        own : float
            The sum of `own_term`.
        columns : (2, d) float64 array
            Sums and sums of squares of V's columns.
        rows : int
            Of V.
        """
        return None

    def leaves_zero(self, k: int, d: int) -> bool:
        """Return whether steps can move a zero of H (k x d), so that a start may have some.

        By default they cannot, as they multiply or are bounded by what there is.
        """
        return False

    def dead(self, stats: SmallStats, G_diagonal: np.ndarray, dtype: np.dtype) -> list[int]:
        """List components that contribute nothing, by default a share below eps."""
        return negligible(stats, G_diagonal, float(np.finfo(dtype).eps) ** 2)

    def compress(
        self, V: Matrix, W: np.ndarray, factor: Factor, B: np.ndarray, Y: np.ndarray
    ) -> None:
        """Put V B' of a block into Y (m, r), once W is solved; where it is not ``VHt`` before."""
        raise NotImplementedError(f"{type(self).__name__} compresses, but not V of a block")

    def compressed_WtV(self, wide: np.ndarray, WtW: np.ndarray, H: np.ndarray) -> np.ndarray:
        """Return W' times the V that is compressed, (k, slab), from the statistics of a pass."""
        return wide

    @abstractmethod
    def update_H(
        self, wide: np.ndarray, stats: SmallStats, H: np.ndarray, columns: np.ndarray
    ) -> HStep:
        """Solve one column slab of H from the reduced statistics.

        Parameters
        ----------
        wide : (r, slab) float64 array
            What `slabs` cut, reduced over all rows.
        stats : SmallStats
            Of all rows.
        H : (k, slab) array
            The H of the pass.
        columns : (2, slab) float64 array
            Sums and sums of squares of V's columns.
        """

    def seen_columns(self, wide: np.ndarray, columns: np.ndarray, k: int) -> np.ndarray:
        """Return ``columns`` of `update_H` over what a model sees, if ``wide`` tells it."""
        return columns

    @abstractmethod
    def solve(self, block: Block, factor: Factor) -> Solution:
        """Solve W of a block from zeros: each row until it is at its optimum, or said not to be."""

    def from_sample(
        self, H: np.ndarray, weights: np.ndarray, column_sums: np.ndarray, unit: float
    ) -> np.ndarray:
        """Turn H (k, d) that was fitted to a sample into a start on all of V.

        By default columns that are zeros in the sample get the mean profile.

        Parameters
        ----------
        weights : (k,) float64 array
            Sums of the columns of W on the sample.
        column_sums : (d,) float64 array
            Of all of V.
        unit : float
            The size of V's nonzero entries.
        """
        lost = ~H.any(axis=0) & (column_sums > 0)
        if not lost.any() or not H.any():
            return H
        sizes = np.where(weights > 0, H.sum(axis=1, dtype=np.float64), 0.0)
        tiny = float(np.finfo(np.float64).tiny)
        part = column_sums[lost] / max(float(column_sums[~lost].sum()), tiny)
        H = H.copy()
        H[:, lost] = sizes[:, None] * part
        return H

    def hold_out(self, H: np.ndarray, fold: LeftOut, sparse: bool) -> HeldOut:
        """Return a model at H (k, d) that leaves out ``fold``, where the loss ``leaves_out``."""
        raise NotImplementedError(f"loss {self.name!r} leaves_out, but has no hold_out")

    def add_statistics(
        self, block: Block, W: np.ndarray, factor: Factor, stats: tuple[SmallStats, Any]
    ) -> None:
        """Add statistics as `update_block` does, with W as it is, for `HeldOutEntries`."""
        raise NotImplementedError(f"loss {self.name!r} leaves_out, but has no add_statistics")

    def predicted(self, H: np.ndarray) -> np.ndarray:
        """Return H (k, d) as it predicts entries that are left out."""
        return H

    def measure(self, v: np.ndarray, fitted: np.ndarray) -> tuple[float, float]:
        """Return the loss of entries that are left out, and its scale in `HeldOutStats`."""
        raise NotImplementedError(f"loss {self.name!r} leaves_out, but has no measure")
