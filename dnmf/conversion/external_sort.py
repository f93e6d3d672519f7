"""Triplets (row, column, value) in any order to CSR on disk, within a memory limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import scipy

from dnmf.conversion.limits import DEFAULT, ConversionLimits
from dnmf.sources.csr import narrowed, wide

__all__ = ["NpyWriter", "TripletSorter", "Unpacking"]

Tell = Callable[[int, int], None]
"""Hears how much is done, of how much."""

COPIES = 6
"""Copies of a bucket's triplets that sorting it holds at once."""

MOST_BUCKETS = 128


def tell_nobody(done: int, total: int) -> None:
    """Ignore progress."""


@dataclass(frozen=True)
class Unpacking:
    """The folder in which a matrix is written as ``.npy`` files, and the limits within which.

    Attributes
    ----------
    folder : Path
        Exists and is empty; takes about the decoded size, twice that where triplets are sorted.
    memory : int
        Bytes to work in.
    tell : callable
        Called with the lines or entries done so far, and how many there are.
    limits : ConversionLimits
    """

    folder: Path
    memory: int
    tell: Tell = tell_nobody
    limits: ConversionLimits = DEFAULT

    def sorter(
        self, shape: tuple[int, int], dtype: np.dtype, entries: int, name: str | None = None
    ) -> TripletSorter:
        """Return a sorter of about so many triplets into the folder."""
        memory = max(self.memory, self.limits.sort_bytes)
        return TripletSorter(self.folder, shape, dtype, entries, memory, name)


class NpyWriter:
    """A writer of a one-dimensional ``.npy`` file whose length is known only at the end."""

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        self.dtype = np.dtype(dtype)
        self.length = 0
        self._file: BinaryIO = path.open("wb")
        self._header()

    def _header(self) -> None:
        """Write the header; NumPy pads it so that a longer first axis fits into the same bytes."""
        np.lib.format.write_array_header_1_0(
            self._file,
            {
                "descr": np.lib.format.dtype_to_descr(self.dtype),
                "fortran_order": False,
                "shape": (self.length,),
            },
        )

    def append(self, values: np.ndarray) -> None:
        """Add a 1-d array at the end."""
        np.ascontiguousarray(values, dtype=self.dtype).tofile(self._file)
        self.length += len(values)

    def close(self) -> None:
        self._file.seek(0)
        self._header()
        self._file.close()


class TripletSorter:
    """A sorter of triplets into canonical CSR: sorted, duplicates summed.

    Rows are cut into buckets, triplets are appended to their bucket's file, and every bucket is
    then sorted in memory. A bucket that turns out too large is cut again, so that only a single
    row must fit.

    Parameters
    ----------
    folder : Path
        Gets ``data.npy``, ``indices.npy`` and ``indptr.npy``, and files that are deleted again.
    shape : (int, int)
    dtype : numpy.dtype
        Of the values.
    entries : int
        Triplets to expect; decides the number of buckets only.
    memory : int
        Bytes to sort in.
    name : str, optional
        Of the matrix, in errors.
    """

    def __init__(
        self,
        folder: Path,
        shape: tuple[int, int],
        dtype: np.dtype,
        entries: int,
        memory: int,
        name: str | None = None,
    ) -> None:
        self.folder, self.shape = folder, shape
        self.name = name or str(folder)
        index = np.int32 if max(shape) <= np.iinfo(np.int32).max else np.int64
        self.record = np.dtype([("row", index), ("column", index), ("value", dtype)])
        self.memory = memory
        self.entries = 0
        self._root = _Bucket(self, 0, shape[0], "bucket")
        self._root.split(entries)

    def add(self, rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> None:
        """Take in some triplets, in any order."""
        records = np.empty(len(rows), dtype=self.record)
        records["row"], records["column"], records["value"] = rows, columns, values
        self.entries += len(records)
        self._root.add(records)

    def finish(self) -> None:
        """Sort and write the three files."""
        record = self.record
        with (
            closing(NpyWriter(self.folder / "data.npy", record["value"])) as data,
            closing(NpyWriter(self.folder / "indices.npy", record["column"])) as indices,
            closing(NpyWriter(self.folder / "indptr.npy", np.dtype(np.int64))) as indptr,
        ):
            indptr.append(np.zeros(1))
            for rows in self._root.sorted():
                indptr.append(rows.indptr[1:].astype(np.int64) + data.length)
                data.append(rows.data)
                indices.append(rows.indices)


class _Bucket:
    """The triplets of the rows ``start`` to ``stop``, in one file or in smaller buckets."""

    def __init__(self, sorter: TripletSorter, start: int, stop: int, name: str) -> None:
        self.sorter, self.start, self.stop, self.name = sorter, start, stop, name
        self.path = sorter.folder / f"{name}.bin"
        self.children: list[_Bucket] = []
        self.edges = np.empty(0, dtype=np.int64)

    def split(self, entries: int) -> None:
        """Make as many smaller buckets as ``entries`` triplets need, if more than one."""
        need = -(-entries * self.sorter.record.itemsize * COPIES // self.sorter.memory)
        count = min(need, MOST_BUCKETS, self.stop - self.start)
        if count < 2:
            return
        self.edges = np.linspace(self.start, self.stop, count + 1).astype(np.int64)
        self.children = [
            _Bucket(self.sorter, int(a), int(b), f"{self.name}-{number}")
            for number, (a, b) in enumerate(zip(self.edges, self.edges[1:], strict=False))
        ]

    def add(self, records: np.ndarray) -> None:
        if not self.children:
            with self.path.open("ab") as file:
                file.write(records.tobytes())
            return
        owner = np.searchsorted(self.edges, records["row"], side="right") - 1
        order = np.argsort(owner, kind="stable")
        bounds = np.searchsorted(owner[order], np.arange(len(self.children) + 1))
        for number, child in enumerate(self.children):
            mine = order[bounds[number] : bounds[number + 1]]
            if len(mine):
                child.add(records[mine])

    def sorted(self) -> Iterator[scipy.sparse.csr_array]:
        """Yield the rows as canonical CSR, some at a time; delete the files."""
        if not self.children:
            size = self.path.stat().st_size if self.path.exists() else 0
            if size * COPIES > self.sorter.memory and self.stop - self.start > 1:
                self._split_file(size)
        if self.children:
            for child in self.children:
                yield from child.sorted()
            return
        yield self._load()
        self.path.unlink(missing_ok=True)

    def _split_file(self, size: int) -> None:
        item = self.sorter.record.itemsize
        self.split(size // item)
        step = max(1, self.sorter.memory // (COPIES * item))
        with self.path.open("rb") as file:
            while len(records := np.fromfile(file, self.sorter.record, step)):
                self.add(records)
        self.path.unlink()

    def _load(self) -> scipy.sparse.csr_array:
        record = self.sorter.record
        found = np.fromfile(self.path, record) if self.path.exists() else np.empty(0, record)
        shape = (self.stop - self.start, self.sorter.shape[1])
        where = (found["row"] - self.start, found["column"])
        values, whole = found["value"], record["value"].kind in "iu"
        if whole:  # adding up entries of one place may need more room
            values = values.astype(wide(record["value"]))
        rows = scipy.sparse.coo_array((values, where), shape=shape).tocsr()
        rows.sum_duplicates()
        if whole:
            rows.data = narrowed(rows, record["value"], self.start, self.sorter.name)
        return rows
