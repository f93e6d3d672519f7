"""The contract of a loss: block -> W_b and statistics; statistics -> H."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
import scipy.sparse as sp

__all__ = ["Candidate", "Factor", "HStep", "Loss", "SmallStats"]

Matrix: TypeAlias = "np.ndarray | sp.csr_array"
CANDIDATES = 4


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
    """

    H: np.ndarray
    Ht: np.ndarray | None
    G: np.ndarray


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
    """The statistics of one model that do not grow with d (but for a few candidates' rows)."""

    WtW: np.ndarray
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
        self.cross += other.cross
        self.total += other.total
        self.sumsq += other.sumsq
        self.kkt += other.kkt
        self.sweeps += other.sweeps
        if self.residual is not None and other.residual is not None:
            self.residual += other.residual
        both = sorted(self.candidates + other.candidates, key=lambda c: (-c.residual, c.row))
        self.candidates = both[:CANDIDATES]


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
        Sum over the slab of WtV_jc H_jc at the old H.
    """

    H: np.ndarray
    kkt: float
    gain: float
    share: np.ndarray


class Loss(Protocol):
    """Mathematics only: no storage, no Dask, no knowledge of passes."""

    name: str

    def prepare(self, H: np.ndarray, sparse: bool) -> Factor:
        """H (k, d) in the forms that all blocks of a pass share."""
        ...

    def empty(self, k: int, d: int, dtype: np.dtype, sparse: bool) -> tuple[SmallStats, Any]:
        """Zero statistics of a segment: the small ones, and the accumulator of k x d."""
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

    def objective(self, stats: SmallStats, sumsq: float, factor: Factor) -> float:
        """The objective at (W, H); ``sumsq`` is |V|^2."""
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
