"""The rows of a compressed matrix that have entries, without those that have none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from dnmf.sources.compressed import CompressedArrays
from dnmf.sources.zarr_csr import ZarrCSR

__all__ = ["FilledRows", "filled_rows"]


class FilledRows(ZarrCSR):
    """A sparse matrix in Zarr whose rows without entries are left out.

    Parameters
    ----------
    arrays : CompressedArrays
    filled : (rows,) int64 array
        The rows that stay, rising: at least those with entries.
    offsets : (rows + 1,) int64 array
        Where each of them begins, then the number of entries. They stay in memory.
    """

    def __init__(self, arrays: CompressedArrays, filled: np.ndarray, offsets: np.ndarray) -> None:
        super().__init__(arrays)
        self._shape = (len(filled), arrays.shape[1])
        self._filled, self._starts = filled, offsets

    @property
    def empty_rows(self) -> int:
        return self._arrays.shape[0] - len(self._filled)

    @property
    def opening_bytes(self) -> int:
        return self._arrays.stretch_bytes

    def numbers(self) -> np.ndarray:
        return self._filled

    def number(self, row: int) -> int:
        return int(self._filled[row])

    def with_rows(self, rows: np.ndarray) -> FilledRows:
        places = np.append(np.searchsorted(self._filled, rows), len(self._filled))
        return FilledRows(self._arrays, rows, self._starts[places])

    def _stretches(self) -> Iterable[np.ndarray]:
        return (self._starts,)

    def _offset(self, row: int) -> int:
        return int(self._starts[row])

    def _offsets_overhead(self, start: int, stop: int) -> tuple[int, int]:
        return 3 * 8 * (stop - start + 1), 0

    def _offsets_of(self, starts: Sequence[int]) -> Iterator[np.ndarray]:
        for start, stop in pairwise(starts):
            yield self._starts[start : stop + 1]

    def _lines(self, start: int, stop: int) -> tuple[int, int]:
        n, (rows, _) = self._arrays.shape[0], self.shape
        first = self.number(start) if start else 0
        return first, self.number(stop) if stop < rows else n


def filled_rows(arrays: CompressedArrays, times: int) -> ZarrCSR:
    """Return a matrix without its empty rows, where it has ``times`` as many as filled ones.

    Parameters
    ----------
    arrays : CompressedArrays
    times : int
        Rows over filled ones from which on that is worth it; 0: never.
    """
    most = arrays.shape[0] // times if times else 0
    found = _find(arrays, most) if most else None
    return ZarrCSR(arrays) if found is None else FilledRows(arrays, *found)


def _find(arrays: CompressedArrays, most: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the rows with entries and their offsets, unless all, none or too many have some.

    Parameters
    ----------
    arrays : CompressedArrays
    most : int
        More are too many.
    """
    filled, starts, count, row = [], [], 0, 0
    last = np.zeros(0, np.int64)
    for stretch in arrays.stretches():
        joined = np.concatenate([last, stretch])
        rows = np.flatnonzero(joined[1:] > joined[:-1])
        filled.append(row + rows)
        starts.append(joined[rows])
        count, row, last = count + len(rows), row + len(joined) - 1, joined[-1:]
        if count > most:
            return None
    if not count or count == row:
        return None
    return np.concatenate(filled), np.concatenate([*starts, last])
