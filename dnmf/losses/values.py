"""Values that passes and losses exchange: blocks and factors, statistics and steps of H."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import scipy

__all__ = [
    "NO_PENALTIES",
    "Block",
    "Candidate",
    "Factor",
    "HStep",
    "HeldOutStats",
    "Matrix",
    "Penalties",
    "SmallStats",
    "Solution",
]

Matrix: TypeAlias = "np.ndarray | scipy.sparse.csr_array"
CANDIDATES = 4


@dataclass(frozen=True)
class Penalties:
    """The penalties on the factors, l1 sum(X) + l2 / 2 |X|^2 for each, added to the divergence.

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
        """Return the penalty on W, from the sums of its entries and of their squares."""
        return self.l1_W * total + 0.5 * self.l2_W * sumsq

    def of_H(self, H: np.ndarray) -> float:
        """Return the penalty on H."""
        if not (self.l1_H or self.l2_H):
            return 0.0
        total = float(np.sum(H, dtype=np.float64))
        sumsq = sum(float(np.sum(np.square(row, dtype=np.float64))) for row in H)
        return self.l1_H * total + 0.5 * self.l2_H * sumsq


NO_PENALTIES = Penalties()


@dataclass(frozen=True)
class Block:
    """Consecutive rows of V, with what is known of them before W is solved.

    Attributes
    ----------
    V : (m, d) array, CSR array or WeightedCSR
    start : int
        The index of the first row among those that the pass goes over.
    row_sums : (2, m) float64 array
        Sums and sums of squares of the rows.
    numbers : (m,) int array or None
        Numbers of the rows in V, by which models leave out rows and entries; None where none does.
    """

    V: Matrix
    start: int
    row_sums: np.ndarray
    numbers: np.ndarray | None = None


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
        Number of the row in V.
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
    open_rows : int
        Rows of W that were still moving when their solver ended, of least squares.
    """

    WtW: np.ndarray
    sums: np.ndarray | float = 0.0
    divergence: float = 0.0
    cross: float = 0.0
    total: float = 0.0
    sumsq: float = 0.0
    kkt: float = 0.0
    sweeps: int = 0
    open_rows: int = 0
    residual: float | None = None
    candidates: list[Candidate] = field(default_factory=list)

    def add(self, other: SmallStats) -> None:
        """Add ``other``, whose rows come after these."""
        self.WtW = self.WtW + other.WtW
        self.sums = self.sums + other.sums
        self.divergence += other.divergence
        self.cross += other.cross
        self.total += other.total
        self.sumsq += other.sumsq
        self.kkt += other.kkt
        self.sweeps += other.sweeps
        self.open_rows += other.open_rows
        if self.residual is not None and other.residual is not None:
            self.residual += other.residual
        both = sorted(self.candidates + other.candidates, key=lambda c: (-c.residual, c.row))
        self.candidates = both[:CANDIDATES]


@dataclass
class HeldOutStats:
    """Sums over the part that is left out, and over the one that is fitted.

    Attributes
    ----------
    error : float
        The loss of the entries that are left out.
    scale : float
        What their loss is relative to: 1/2 |V|^2 for least squares, the sum of V for others.
    entries : int
    total, sumsq : float
        Sum of V and of its squares where it is fitted.
    n_rows : int
        Rows that are fitted.
    """

    error: float = 0.0
    scale: float = 0.0
    entries: int = 0
    total: float = 0.0
    sumsq: float = 0.0
    n_rows: int = 0

    def add(self, other: HeldOutStats) -> None:
        """Add ``other``."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


class Solution(NamedTuple):
    """W of a block, solved to convergence.

    Attributes
    ----------
    W : (m, k) array
    divergence : float
        The loss of the block, without penalties.
    is_open : (m,) bool array
        Rows that are not solved: they are not at an optimum.
    """

    W: np.ndarray
    divergence: float
    is_open: np.ndarray


@dataclass(frozen=True)
class HStep:
    """The result of updating one column slab of H.

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
    open_columns : int
        Columns that were still moving when their solver ended, of least squares.
    """

    H: np.ndarray
    kkt: float
    gain: float
    share: np.ndarray
    extrapolated: np.ndarray | None = None
    extrapolated_gain: float = 0.0
    open_columns: int = 0
