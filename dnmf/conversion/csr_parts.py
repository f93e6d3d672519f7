"""Writing CSR to Zarr from any source, in two steps.

Where a row's entries go is known only when all rows before it are counted, and writers of one
chunk must not race. So the first step turns bands of rows into *parts*, small CSR arrays of
their own in a temporary group, and the second gives every task whole chunks of the target,
which it gathers from the parts. The source is read once; the parts take the space of the
result once more, uncompressed, until the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import scipy
import zarr

from dnmf.config import MIB
from dnmf.conversion.plan import PIECE, Budget
from dnmf.conversion.rectangles import (
    cast_into,
    piece_need,
    read_rectangle,
    read_unit,
)
from dnmf.conversion.target import writing
from dnmf.sources.base import Source
from dnmf.steps.work import Each, Work

__all__ = ["Bands", "CsrLayout", "Part", "PartsWork", "plan_bands"]

ENTRIES = 1 << 19
"""Entries of a chunk where none are asked for."""

PART = 16 * MIB
"""Bytes of a part, at most about."""

MOST_TASKS = 2000
TASK_BYTES = 64 * MIB
ARRAYS = ("data", "indices", "indptr")


class Part(NamedTuple):
    """One part: its name in the temporary group, its rows, its stored entries."""

    name: str
    rows: int
    entries: int


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
    entries: int = ENTRIES

    @property
    def index(self) -> np.dtype:
        """Of indices: int32 where it holds every column."""
        return np.dtype(np.int32 if self.shape[1] < 2**31 else np.int64)

    @property
    def per_entry(self) -> int:
        """Bytes of a stored entry."""
        return self.dtype.itemsize + self.index.itemsize


@dataclass(frozen=True)
class Bands:
    """Tasks that each turn some bands of rows into parts.

    Attributes
    ----------
    edges : (bands + 1,) int64 array
        First row of every band, then n.
    tasks : (tasks + 1,) int64 array
        First band of every task, then the number of bands.
    decodes : int
        How many tasks at most decode the same chunk of the source.
    need : int
        Bytes that a task holds at its peak.
    part : int
        Bytes of a part, about.
    """

    edges: np.ndarray
    tasks: np.ndarray
    decodes: int
    need: int
    part: int


def plan_bands(source: Source, layout: CsrLayout, budget: Budget) -> Bands:
    """Cut the rows.

    Raises
    ------
    MemoryPlanError
        One row, or what must be decoded with it, does not fit.
    """
    gather = 4 * max(ENTRIES, layout.entries) * max(8, layout.per_entry)
    if gather > budget.task:
        raise budget.refusal(f"to write chunks of {layout.entries:,} entries", gather)
    part = min(PART, budget.task // 8)
    if source.is_sparse:
        return _sparse_bands(source, layout, budget, part)
    d, item = source.shape[1], layout.dtype.itemsize
    fixed = _fixed(source, layout, budget.piece, part)
    rows = (budget.task - fixed) // (d * item)
    if rows < 1:
        need = _fixed(source, layout, PIECE, PART) + d * item
        raise budget.refusal(f"to decode a row of {d:,} columns", need)
    edges = _dense_edges(source, min(rows, max(1, TASK_BYTES // (d * item))), rows)
    bands = len(edges) - 1
    tasks = np.append(np.arange(0, bands, -(-bands // MOST_TASKS)), bands)
    decodes = _touches(source.shape[0], read_unit(source)[0], edges[tasks])
    return Bands(edges, tasks, decodes, fixed + int(np.diff(edges).max()) * d * item, part)


def _touches(n: int, unit: int, edges: np.ndarray) -> int:
    """Most stretches between ``edges`` that one stretch of ``unit`` rows lies in."""
    first = np.arange(0, n, unit)
    last = np.minimum(first + unit, n) - 1
    return (
        int((np.searchsorted(edges, last, "right") - np.searchsorted(edges, first, "right")).max())
        + 1
    )


def _dense_edges(source: Source, comfortable: int, most: int) -> np.ndarray:
    """Whole rows of chunks where ``most`` rows allow it, else equal parts of each of them."""
    n, tall = source.shape[0], read_unit(source)[0]
    if tall <= most:
        return np.append(np.arange(0, n, max(1, comfortable // tall) * tall), n)
    edges = [
        start + part * (min(n, start + tall) - start) // -(-tall // most)
        for start in range(0, n, tall)
        for part in range(-(-tall // most))
    ]
    return np.unique([*edges, n])


def _sparse_bands(source: Source, layout: CsrLayout, budget: Budget, part: int) -> Bands:
    starts = source.block_starts(part, layout.dtype.itemsize, source.shape[0])
    costs = [  # the block as read and as written, and what reading takes beside it
        2 * source.block_bytes(a, b) + source.read_overhead(a, b)
        for a, b in pairwise(starts.tolist())
    ]
    need = max(costs)
    if need > budget.task:
        at = int(np.argmax(costs))
        raise budget.refusal(f"to read rows {starts[at]} to {starts[at + 1] - 1}", need)
    bands, chunk = len(starts) - 1, source.entry_chunk_bytes
    per_band = max(1, source.nbytes // bands)
    per_task = max(1, -(-bands // MOST_TASKS), max(TASK_BYTES, 4 * chunk) // per_band)
    tasks = np.append(np.arange(0, bands, per_task), bands)
    decodes = min(len(tasks) - 1, 1 + -(-chunk // (per_task * per_band)))
    return Bands(starts, tasks, decodes, need, part)


def _fixed(source: Source, layout: CsrLayout, piece: int, part: int) -> int:
    """Bytes to decode a piece, to find the entries of some rows, to hold and write a part."""
    columns = layout.shape[1]
    looked_at = max(columns, piece // 32) * (16 + 2 * layout.per_entry)
    return piece_need(source, piece) + looked_at + 3 * (part + columns * layout.per_entry)


@dataclass
class PartsWork(Work):
    """The first step: bands of rows to parts. The only part lists the parts in order.

    Attributes
    ----------
    source : Source
    path : str
        Of the temporary group.
    layout : CsrLayout
    bands : Bands
    piece : int
        Bytes to decode at a time.
    """

    source: Source
    path: str
    layout: CsrLayout
    bands: Bands
    piece: int

    def __post_init__(self) -> None:
        self.segments = len(self.bands.tasks) - 1

    def leaf(self, segment: int, loaded: Any = None) -> list[Any]:
        """Write the parts of one task."""
        first, last = self.bands.tasks[segment : segment + 2]
        edges = self.bands.edges[first : last + 1].tolist()
        blocks = self._sparse(edges) if self.source.is_sparse else self._dense(edges)
        found = []
        for number, (data, indices, indptr) in enumerate(blocks):
            part = Part(f"{segment}-{number}", len(indptr) - 1, len(data))
            with writing(self.path):
                self._write(part, (data, indices, indptr))
            found.append(part)
        return [found]

    def _write(self, part: Part, arrays: tuple[np.ndarray, ...]) -> None:
        group = zarr.open_group(self.path, mode="r+")  # it is there, or this is another disk
        for name, values in zip(ARRAYS, arrays, strict=True):
            if not len(values):
                continue
            stored = group.create_array(
                f"{part.name}-{name}",
                shape=values.shape,
                chunks=(min(len(values), max(ENTRIES, self.layout.entries)),),
                dtype=values.dtype,
                compressors=None,
                chunk_key_encoding={"name": "v2", "separator": "."},  # no folder for chunks
                overwrite=True,  # an attempt that was lost may have begun to write it
            )
            stored[:] = values

    def _sparse(self, edges: list[int]) -> Iterator[tuple[np.ndarray, ...]]:
        starts = edges[:-1]
        for start, block in zip(starts, self.source.read_blocks(edges), strict=True):
            assert isinstance(block, scipy.sparse.csr_array)
            data = np.empty(len(block.data), self.layout.dtype)
            cast_into(data, block.data, start, 0)
            indices = block.indices.astype(self.layout.index, copy=False)
            yield data, indices, block.indptr.astype(np.int64)

    def _dense(self, edges: list[int]) -> Iterator[tuple[np.ndarray, ...]]:
        d, dtype = self.layout.shape[1], self.layout.dtype
        step = max(1, self.piece // 32 // d)
        for start, stop in pairwise(edges):
            band = np.empty((stop - start, d), dtype)
            read_rectangle(self.source, (start, stop), (0, d), band, self.piece)
            held: list[tuple[np.ndarray, ...]] = []
            size = 0
            for a in range(0, len(band), step):
                held.append(_nonzeros(band[a : a + step], self.layout.index))
                size += len(held[-1][0]) * self.layout.per_entry
                if size >= self.bands.part:
                    yield _joined(held)
                    held, size = [], 0
            del band  # before the next one is allocated
            if held:
                yield _joined(held)

    def finish(
        self, part: int, reduced: list[Part], small: list[Part], each: Each = map
    ) -> list[list[Any]]:
        return [list(part) for part in reduced]


def _nonzeros(rows: np.ndarray, index: np.dtype) -> tuple[np.ndarray, ...]:
    """Data, indices and counts of a few dense rows."""
    where = np.nonzero(rows)
    counts = np.bincount(where[0], minlength=len(rows)).astype(np.int64)
    return rows[where], where[1].astype(index), counts


def _joined(held: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    data, indices, counts = (np.concatenate(parts) for parts in zip(*held, strict=True))
    return data, indices, np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
