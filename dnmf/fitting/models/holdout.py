"""The part of V that a model does not see.

Bi-cross-validation (Owen and Perry 2009): fold f leaves out a part of the rows and a part of the
columns, both drawn by counter. The rest is fitted; left-out rows are folded in on the columns that
are seen, left-out columns on the rows that are seen; the error counts where both are left out, an
entry that nothing was fitted to.

Speckled: single entries are left out at random, and the loss is that of missing entries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnmf.config import ModelSpec
from dnmf.linalg.folds import COLUMNS, ROWS, fold_of, speckled
from dnmf.planning.plan import Plan

__all__ = ["Fold", "fold_of_model"]


@dataclass(frozen=True)
class Fold:
    """The rows and columns, or entries, that one model leaves out.

    Attributes
    ----------
    seed : int
        Seed of the partition.
    fold, folds : int
    shape : (int, int)
        Shape of V as it is read.
    columns : (d,) bool array
        Columns that are left out as a whole.
    single : bool
        Single entries are left out instead, of every row and column.
    """

    seed: int
    fold: int
    folds: int
    shape: tuple[int, int]
    columns: np.ndarray
    single: bool = False

    def entries(self, numbers: np.ndarray) -> np.ndarray:
        """Return which entries of the rows with these numbers are left out, (m, d) bool."""
        every = np.arange(self.shape[1])
        return speckled(self.seed, numbers, every, self.fold, self.folds)

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """Return which of the rows with these numbers are left out, bool."""
        return fold_of(self.seed, ROWS, numbers, self.shape[0], self.folds) == self.fold

    @property
    def seen(self) -> tuple[int, int]:
        """About how many rows, and how many columns, are fitted."""
        n = self.shape[0] - self.shape[0] // self.folds
        return max(n, 1), int(np.count_nonzero(~self.columns))

    def expand(self, H: np.ndarray, column_sums: np.ndarray) -> np.ndarray:
        """Return H (k, d) from the H of the columns that are seen, and the columns' sums."""
        seen = ~self.columns
        whole = np.empty((H.shape[0], self.shape[1]), H.dtype)
        whole[:, seen] = H
        total = float(column_sums[seen].sum())
        share = column_sums[self.columns] / total if total > 0 else np.zeros(1)
        whole[:, self.columns] = H.sum(axis=1, dtype=np.float64)[:, None] * share
        return whole


def fold_of_model(plan: Plan, spec: ModelSpec) -> Fold | None:
    """Return what the model leaves out, or None where it sees all."""
    if spec.fold is None:
        return None
    d, folds = plan.shape[1], plan.config.folds
    if plan.config.holdout == "speckled":
        return Fold(spec.seed, spec.fold, folds, plan.shape, np.zeros(d, bool), True)
    columns = fold_of(spec.seed, COLUMNS, np.arange(d), d, folds) == spec.fold
    return Fold(spec.seed, spec.fold, folds, plan.shape, columns)
