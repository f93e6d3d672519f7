"""Sums of the columns of V, of all columns or of the few that a very sparse V has entries in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dnmf.linalg.matrix import arrays_of, matrix_of

__all__ = ["ColumnSums"]

FEW = 4
"""Columns are listed while there are so many times more columns."""


class ColumnSums:
    """Rows of sums over the columns, which grow block by block.

    Adding to listed columns gives the same bits as adding to all of them.

    Parameters
    ----------
    height : int
        Rows of sums.
    d : int
        Columns of V.

    Attributes
    ----------
    columns : (c,) int64 array or None
        The listed columns, rising; None: all.
    sums : (height, c) or (height, d) float64 array
    """

    def __init__(self, height: int, d: int) -> None:
        self.d = d
        self.columns: np.ndarray | None = np.zeros(0, np.int64)
        self.sums = np.zeros((height, 0))

    def cover(self, V: Any) -> Any:
        """Make room for a block's columns; return the block with the columns that ``sums`` have."""
        if self.columns is not None:
            few = not isinstance(V, np.ndarray) and FEW * V.indices.size <= self.d
            self._widen(np.unique(V.indices) if few else None)
        if self.columns is None:
            return V
        data, indices, *more = arrays_of(V)
        places = np.searchsorted(self.columns, indices).astype(indices.dtype)
        return matrix_of((data, places, *more), self.columns.size)

    def column(self, number: int) -> int:
        """Return the column of V that a column of ``sums`` is."""
        return number if self.columns is None else int(self.columns[number])

    def at(self, columns: np.ndarray) -> np.ndarray:
        """Return the sums of these columns, among them every one that has some."""
        if self.columns is None:
            return self.sums[:, columns]
        return self.sums[:, np.searchsorted(self.columns, columns)]

    def used(self) -> np.ndarray:
        """Return the columns whose first sum is not 0, rising."""
        found = np.flatnonzero(self.sums[0] != 0)
        return found if self.columns is None else self.columns[found]

    def whole(self) -> np.ndarray:
        """Return the sums of all columns."""
        self._widen(None)
        return self.sums

    @classmethod
    def added(cls, parts: Sequence[ColumnSums]) -> ColumnSums:
        """Add sums of consecutive rows, in order."""
        total = cls(len(parts[0].sums), parts[0].d)
        for part in parts:
            if total.columns is not None:
                total._widen(part.columns)
            where: Any = slice(None) if part.columns is None else part.columns
            if total.columns is not None:
                where = np.searchsorted(total.columns, where)
            total.sums[:, where] += part.sums
        return total

    def _widen(self, columns: np.ndarray | None) -> None:
        """List these columns too; None: have all."""
        before = self.columns
        if before is None:
            return
        after = None if columns is None else np.union1d(before, columns)
        if after is not None and after.size == before.size:
            return
        if after is None or FEW * after.size > self.d:
            sums, where = np.zeros((len(self.sums), self.d)), before
            self.columns = None
        else:
            sums, where = np.zeros((len(self.sums), after.size)), np.searchsorted(after, before)
            self.columns = after
        sums[:, where] = self.sums
        self.sums = sums
