"""W of a run in progress, whose rows are read when somebody asks for them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from dnmf.linalg.own_state import own_state
from dnmf.runs.base import ObjectRef, Reader

__all__ = ["StoredRows"]


class StoredRows:
    """Stands for an array (n, k) whose rows are in several stored objects, read on demand.

    Supports what is needed to look at rows: ``len``, ``shape``, ``dtype``, an index, a slice or
    a list (or mask) of rows, optionally with columns, and conversion to NumPy, which reads all.

    Parameters
    ----------
    store : Reader
    refs : sequence of ObjectRef
        The objects in order.
    starts : sequence of int
        First row of every object, then n.
    k : int
    dtype : numpy.dtype or str
    final : callable
        Makes rows (m, k) of the result from an object.
    """

    ndim = 2

    def __init__(
        self,
        store: Reader,
        refs: Sequence[ObjectRef],
        starts: Sequence[int],
        k: int,
        dtype: np.dtype | str,
        final: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        self._store, self._refs, self._final = store, list(refs), final
        self._starts = np.asarray(starts, dtype=np.int64)
        self._last: tuple[int, np.ndarray] | None = None
        self.shape = (int(self._starts[-1]), k)
        self.dtype = np.dtype(dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<StoredRows {self.shape} {self.dtype}, {len(self._refs)} objects in {self._store}>"

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes that all rows take in memory."""
        return self.size * self.dtype.itemsize

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("rows are on storage: there is no array without a copy")
        return self._slice(0, len(self)).astype(dtype or self.dtype, copy=False)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self._row(index) for index in range(len(self)))

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, columns = key if isinstance(key, tuple) and len(key) == 2 else (key, slice(None))
        if rows is Ellipsis or columns is Ellipsis:
            rows = slice(None) if rows is Ellipsis else rows
            columns = slice(None) if columns is Ellipsis else columns
        if _is_index(rows):
            return self._row(operator.index(rows))[columns]
        if isinstance(rows, slice):
            return self._sliced(rows)[:, columns]
        if isinstance(rows, (list, np.ndarray)):
            if not _is_index(columns) and not isinstance(columns, slice):
                raise IndexError("give a list of rows or a list of columns, not both")
            return self._rows(np.asarray(rows))[:, columns]
        raise IndexError(f"rows are chosen by an index, a slice, a list or a mask, not {rows!r}")

    @own_state()
    def _object(self, number: int) -> np.ndarray:
        """Read one object as (rows, k); the last one stays, for neighbouring rows."""
        last = self._last
        if last is None or last[0] != number:
            last = self._last = number, self._final(self._store.get(self._refs[number]))
        return last[1]

    def _row(self, index: int) -> np.ndarray:
        n = len(self)
        if not -n <= index < n:
            raise IndexError(f"row {index} of {n}")
        return self._rows(np.array([index]))[0]

    def _sliced(self, rows: slice) -> np.ndarray:
        start, stop, step = rows.indices(len(self))
        if step == 1:
            return self._slice(start, max(start, stop))
        return self._rows(np.arange(start, stop, step))

    def _slice(self, start: int, stop: int) -> np.ndarray:
        out = np.empty((stop - start, self.shape[1]), self.dtype)
        numbers = np.searchsorted(self._starts, [start, stop - 1], side="right") - 1
        for number in range(numbers[0], numbers[1] + 1) if stop > start else ():
            first = max(start, int(self._starts[number]))
            last = min(stop, int(self._starts[number + 1]))
            if last > first:
                offset = int(self._starts[number])
                out[first - start : last - start] = self._object(number)[
                    first - offset : last - offset
                ]
        return out

    def _rows(self, chosen: np.ndarray) -> np.ndarray:
        n = len(self)
        if chosen.dtype == bool:
            if chosen.shape != (n,):
                raise IndexError(f"a mask of rows has shape ({n},), not {chosen.shape}")
            chosen = np.flatnonzero(chosen)
        chosen = chosen.astype(np.int64, casting="same_kind") if chosen.size else chosen.astype(int)
        if chosen.ndim != 1 or (chosen.size and not (-n <= chosen.min() <= chosen.max() < n)):
            raise IndexError(f"rows are a list of numbers from {-n} to {n - 1}")
        chosen = np.where(chosen < 0, chosen + n, chosen)
        out = np.empty((len(chosen), self.shape[1]), self.dtype)
        numbers = np.searchsorted(self._starts, chosen, side="right") - 1
        for number in np.unique(numbers):
            here = numbers == number
            out[here] = self._object(int(number))[chosen[here] - self._starts[number]]
        return out


def _is_index(value: Any) -> bool:
    if isinstance(value, (bool, np.bool_, np.ndarray)):
        return False
    return hasattr(value, "__index__")
