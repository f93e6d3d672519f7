"""Writing CSR from any source: bands of rows, each by itself.

Where a row's entries go is known only when all rows before it are counted, and writers of one
chunk must not race. So bands of rows are first stored as small CSR groups of their own
(`dnmf.sources.stacked`), in a group that a run reads as it is. Where one CSR group is wanted, a
second step gives every task whole chunks of it, which it gathers from the bands
(`dnmf.conversion.csr_assemble`): the source is read once, and the bands take the space of the
result once more, uncompressed, until the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from dnmf.conversion.plan import Budget
from dnmf.conversion.rectangles import (
    cast_into,
    read_need,
    read_rectangle,
    read_unit,
)
from dnmf.conversion.target import writing
from dnmf.faultpoints import reach
from dnmf.linalg.matrix import Matrix
from dnmf.runs.files import new_id
from dnmf.sources.base import Source
from dnmf.sources.csr import index_dtype
from dnmf.sources.stacked import StoredBand, write_band
from dnmf.steps.work import Work

__all__ = ["BandWriter", "Bands", "BandsWork", "CsrLayout", "cut_rows", "plan_bands"]


@dataclass(frozen=True)
class CsrLayout:
    """The CSR group to write.

    Attributes
    ----------
    shape : (int, int)
    dtype : numpy.dtype
        Of data.
    entries : int
        Entries of a chunk of data, of indices and of indptr.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    entries: int

    @property
    def index(self) -> np.dtype:
        """Dtype of indices: int32 where it holds every column."""
        return index_dtype(self.shape[1])

    @property
    def per_entry(self) -> int:
        """Bytes of a stored entry."""
        return self.dtype.itemsize + self.index.itemsize


@dataclass(frozen=True)
class Bands:
    """Tasks that each store some bands of rows.

    Attributes
    ----------
    edges : (bands + 1,) int64 array
        First row of every band that is read at once, then n.
    tasks : (tasks + 1,) int64 array
        First band of every task, then the number of bands.
    decodes : int
        How many tasks at most decode the same chunk of the source.
    need : int
        Bytes that a task holds at its peak.
    stored : int
        Bytes of a stored band, about.
    """

    edges: np.ndarray
    tasks: np.ndarray
    decodes: int
    need: int
    stored: int


def plan_bands(source: Source, layout: CsrLayout, budget: Budget) -> Bands:
    """Cut the rows.

    Raises
    ------
    MemoryPlanError
        One row, or what must be decoded with it, does not fit.
    """
    limits = budget.limits
    gather = 4 * max(limits.entries, layout.entries) * max(8, layout.per_entry)
    if not budget.fits(gather):
        raise budget.refusal(f"to write chunks of {layout.entries:,} entries", gather)
    stored = min(limits.band, budget.task // 8)
    if source.is_sparse:
        return _sparse_bands(source, layout, budget, stored)
    d, item = source.shape[1], layout.dtype.itemsize
    fixed = _fixed(source, layout, budget.read_bytes, stored)
    rows = (budget.task - fixed) // (d * item)
    if rows < 1:
        need = _fixed(source, layout, limits.read_bytes, limits.band) + d * item
        raise budget.refusal(f"to decode a row of {d:,} columns", need)
    edges = _dense_edges(source, min(rows, max(1, limits.task_bytes // (d * item))), rows)
    bands = len(edges) - 1
    tasks = np.append(np.arange(0, bands, -(-bands // limits.most_tasks)), bands)
    decodes = _touches(source.shape[0], read_unit(source)[0], edges[tasks])
    return Bands(edges, tasks, decodes, fixed + int(np.diff(edges).max()) * d * item, stored)


def _touches(n: int, unit: int, edges: np.ndarray) -> int:
    """Return the most stretches between ``edges`` that one stretch of ``unit`` rows lies in."""
    first = np.arange(0, n, unit)
    last = np.minimum(first + unit, n) - 1
    touched = np.searchsorted(edges, last, "right") - np.searchsorted(edges, first, "right")
    return int(touched.max()) + 1


def cut_rows(starts: Sequence[int], most: int) -> list[int]:
    """Return the edges, with others between where stretches have more than ``most`` rows."""
    edges = [int(starts[0])]
    for start, stop in pairwise(starts):
        shares = -(-(stop - start) // most)
        edges += [start + (stop - start) * share // shares for share in range(1, shares + 1)]
    return edges


def _dense_edges(source: Source, comfortable: int, most: int) -> np.ndarray:
    """Cut whole rows of chunks where ``most`` rows allow it, else equal shares of each of them."""
    n, tall = source.shape[0], read_unit(source)[0]
    if tall <= most:
        return np.append(np.arange(0, n, max(1, comfortable // tall) * tall), n)
    return np.array(cut_rows([*range(0, n, tall), n], most))


def _sparse_bands(source: Source, layout: CsrLayout, budget: Budget, stored: int) -> Bands:
    limits = budget.limits
    starts = source.block_starts(stored, layout.dtype.itemsize, source.shape[0])
    costs = [  # the block as read and as written, and what reading takes beside it
        2 * source.block_bytes(a, b) + source.read_overhead(a, b)
        for a, b in pairwise(starts.tolist())
    ]
    need = max(costs)
    if not budget.fits(need):
        at = int(np.argmax(costs))
        raise budget.refusal(f"to read rows {starts[at]} to {starts[at + 1] - 1}", need)
    bands, chunk = len(starts) - 1, source.entry_chunk_bytes
    per_band = max(1, source.nbytes // bands)
    least = -(-bands // limits.most_tasks)
    per_task = max(1, least, max(limits.task_bytes, 4 * chunk) // per_band)
    tasks = np.append(np.arange(0, bands, per_task), bands)
    decodes = min(len(tasks) - 1, 1 + -(-chunk // (per_task * per_band)))
    return Bands(starts, tasks, decodes, need, stored)


def _fixed(source: Source, layout: CsrLayout, read_bytes: int, stored: int) -> int:
    """Return the bytes to read, to find the entries of some rows, and to write a band."""
    columns = layout.shape[1]
    looked_at = max(columns, read_bytes // 32) * (16 + 2 * layout.per_entry)
    return read_need(source, read_bytes) + looked_at + 3 * (stored + columns * layout.per_entry)


@dataclass(frozen=True)
class BandWriter:
    """A function that stores rows as bands.

    Attributes
    ----------
    path : str
        Of the group that `dnmf.sources.stacked.create_stack` made.
    layout : CsrLayout
    read_bytes : int
        Bytes that may be held beside the rows, about.
    stored : int
        Bytes of a stored band, about. Rows that are sparse already become one.
    entries : int
        Stored entries of a chunk.
    """

    path: str
    layout: CsrLayout
    read_bytes: int
    stored: int
    entries: int

    def put(self, row: int, column: int, block: Matrix) -> list[StoredBand]:
        """Store whole rows from ``row`` on (``column`` is 0), as one band or several."""
        dense = isinstance(block, np.ndarray)
        found = []
        for arrays in self._found(row, block) if dense else self._cast(row, block):
            name = f"rows-{row}-{new_id()}"  # an attempt that was lost may write at this time
            with writing(self.path):
                band = write_band(self.path, name, arrays, self.layout.shape[1], self.entries)
            reach("band-written", row=row)
            found.append(band)
            row += band.rows
        return found

    def _cast(self, row: int, block: Any) -> Iterator[tuple[np.ndarray, ...]]:
        data = block.data
        if data.dtype != self.layout.dtype:
            data = np.empty(len(block.data), self.layout.dtype)
            cast_into(data, block.data, row, 0)
        yield data, block.indices, block.indptr

    def _found(self, row: int, rows: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield the entries of dense rows that are not zero."""
        step = max(1, self.read_bytes // 32 // rows.shape[1])
        found: list[tuple[np.ndarray, ...]] = []
        size = 0
        for a in range(0, len(rows), step):
            few = rows[a : a + step]
            if few.dtype != self.layout.dtype:
                few = np.empty(few.shape, self.layout.dtype)
                cast_into(few, rows[a : a + step], row + a, 0)
            found.append(_nonzeros(few, self.layout.index))
            size += len(found[-1][0]) * self.layout.per_entry
            if size >= self.stored:
                yield _joined(found)
                found, size = [], 0
        if found:
            yield _joined(found)


@dataclass
class BandsWork(Work):
    """A work whose leaves store some bands each; its only part lists all of them in order.

    Attributes
    ----------
    source : Source
    writer : BandWriter
    bands : Bands
    """

    source: Source
    writer: BandWriter
    bands: Bands

    def __post_init__(self) -> None:
        self.segments = len(self.bands.tasks) - 1

    def leaf(self, segment: int, loaded: Any = None) -> list[Any]:
        """Store the bands of one task."""
        first, last = self.bands.tasks[segment : segment + 2]
        edges = self.bands.edges[first : last + 1].tolist()
        found: list[StoredBand] = []
        if self.source.is_sparse:
            for start, block in zip(edges, self.source.read_blocks(edges), strict=False):
                found += self.writer.put(start, 0, block)
            return [found]
        d, dtype = self.source.shape[1], self.writer.layout.dtype
        for start, stop in pairwise(edges):
            rows = np.empty((stop - start, d), dtype)
            read_rectangle(self.source, (start, stop), (0, d), rows, self.writer.read_bytes)
            found += self.writer.put(start, 0, rows)
            del rows  # before the next ones are allocated
        return [found]


def _nonzeros(rows: np.ndarray, index: np.dtype) -> tuple[np.ndarray, ...]:
    """Return data, indices and counts of a few dense rows."""
    where = np.nonzero(rows)
    counts = np.bincount(where[0], minlength=len(rows)).astype(np.int64)
    return rows[where], where[1].astype(index), counts


def _joined(found: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    data, indices, counts = (np.concatenate(some) for some in zip(*found, strict=True))
    return data, indices, np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
