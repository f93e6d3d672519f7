"""A lazy matrix computed by this process: into its memory, or onto its disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np
import scipy.sparse
import zarr
from zarr.storage import MemoryStore

from dnmf.conversion.computed import band_edges, computed_grid
from dnmf.conversion.csr_bands import BandWriter, CsrLayout
from dnmf.conversion.dense import DenseWriter, create_dense
from dnmf.conversion.plan import Budget, DenseLayout, Rectangles
from dnmf.conversion.staging import STAGING, check_room
from dnmf.conversion.target import Target
from dnmf.interop.dask_array import DaskArraySource
from dnmf.interop.dask_gather import chunk_edges, gather
from dnmf.linalg.matrix import Matrix, bytes_of
from dnmf.runs.files import sync_folder
from dnmf.sources import from_spec, open_source
from dnmf.sources.array import ArraySource, SparseSource
from dnmf.sources.base import Source
from dnmf.sources.csr import index_dtype
from dnmf.sources.stacked import StoredBand, create_stack, finish_stack

__all__ = ["CsrRows", "as_staged", "dense_edges", "load_dense", "stage_dense"]

News = Callable[[int, int], None]

FEWEST = 1 << 12
"""Stored entries of a chunk of CSR, however small blocks are: each is a file."""


def load_dense(source: DaskArraySource, threads: int, news: News) -> Source:
    """Compute a dense array into the memory of this process."""
    out = np.empty(source.shape, source.dtype)

    def take(row: int, column: int, block: Matrix) -> None:
        out[row : row + block.shape[0], column : column + block.shape[1]] = block

    gather(source, take, chunk_edges(source), threads, news)
    return ArraySource(out)


def _budget(block_size: int) -> Budget:
    """Return sizes for what blocks of so many bytes are read from."""
    item = 16  # bytes of an entry with its column, at most
    limits = replace(
        STAGING,
        chunk=min(STAGING.chunk, block_size),
        chunk_row=min(STAGING.chunk_row, block_size),
        entries=max(FEWEST, min(STAGING.entries, block_size // item)),
    )
    return Budget(limits.unlimited, None, 1, limits, firm=False)


def _dense_grid(source: DaskArraySource, block_size: int) -> tuple[DenseLayout, Rectangles]:
    grid = computed_grid(source, source.dtype.itemsize, None, _budget(block_size))
    layout = DenseLayout(source.shape, source.dtype, grid.chunks, compressed=False)
    return layout, Rectangles(source.shape, *grid.unit)


def dense_edges(source: DaskArraySource, block_size: int) -> tuple[list[int], list[int]]:
    """Return the edges of what one task of `stage_dense` writes."""
    return _dense_grid(source, block_size)[1].edges


def as_staged(source: DaskArraySource, block_size: int) -> Source:
    """Return what `stage_dense` will write, without entries: to ask how it is read."""
    store: Any = MemoryStore()
    create_dense(store, _dense_grid(source, block_size)[0])
    return open_source(zarr.open_array(store, mode="r"))


def stage_dense(
    source: DaskArraySource, folder: str, name: str, threads: int, block_size: int, news: News
) -> Source:
    """Compute a dense array into a Zarr array in a folder, in chunks that suit the blocks."""
    check_room(folder, source.nbytes)
    layout, tasks = _dense_grid(source, block_size)
    with Target.in_run(folder, name).workplace() as place:
        with place.explained():
            create_dense(place.new, layout)
            writer = DenseWriter(place.new, layout, STAGING.read_bytes)
            gather(source, writer.put, tasks.edges, threads, news)
        place.publish()
    sync_folder(folder)
    return from_spec({"kind": "zarr", "location": os.path.join(folder, name)})


class CsrRows:
    """The rows of a sparse array, in memory as far as they fit, and on disk from then on.

    How many entries there are is only known when all are computed.

    Parameters
    ----------
    source : DaskArraySource
    folder, name : str
        Where it is staged.
    room : int
        Bytes that all rows may take in memory.
    block_size : int
        Bytes of the blocks that are read from them.

    Attributes
    ----------
    indptr : (n + 1,) int64 array
        Offsets of all rows, once they are computed.
    nbytes : int
        Bytes of rows in memory.
    largest : int
        Bytes of the largest rectangle that was computed.
    """

    def __init__(
        self, source: DaskArraySource, folder: str, name: str, room: int, block_size: int
    ) -> None:
        self._source, self._folder, self._name, self._room = source, folder, name, room
        self._lock, self.nbytes, self.largest, self._full = Lock(), 0, 0, False
        self._budget = _budget(block_size)
        entries = self._budget.limits.entries
        self._rows: dict[int, Any] = {}
        self._bands: list[tuple[int, list[StoredBand]]] = []
        layout = CsrLayout(source.shape, source.dtype, entries)
        self._stack = ExitStack()
        self._place = self._stack.enter_context(Target.in_run(folder, name).workplace())
        args = layout, STAGING.read_bytes, STAGING.band, entries
        self._writer = BandWriter(self._place.new, *args)
        self.indptr = np.zeros(1, np.int64)

    def __enter__(self) -> CsrRows:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def compute(self, threads: int, news: News) -> None:
        """Compute all rows; `indptr` is theirs then."""
        edges = band_edges(self._source, self._source.dtype.itemsize, self._budget)
        with self._place.explained():
            counts = gather(self._source, self._take, edges, threads, news)
        self.indptr = np.concatenate([self.indptr, np.cumsum(np.concatenate(counts))])

    @property
    def fits(self) -> bool:
        """Whether all rows are in memory."""
        return not self._full

    def _take(self, row: int, column: int, block: Any) -> np.ndarray:
        size, counts = bytes_of(block), np.diff(block.indptr).astype(np.int64)
        with self._lock:
            self.largest = max(self.largest, size)
            if not self._full and self.nbytes + size <= self._room:
                self.nbytes += size
                self._rows[row] = block
                return counts
            if not self._full:
                self._full = True
                create_stack(self._place.new)
        self._bands.append((row, self._writer.put(row, 0, block)))
        return counts

    def to_memory(self) -> Source:
        """Return the rows as one matrix in memory."""
        n, d = self._source.shape
        count = int(self.indptr[-1])
        kind = index_dtype(d, count)
        whole = scipy.sparse.csr_array((n, d), dtype=self._source.dtype)
        # one after the other, so that rows go as their copies come
        for name, dtype in (("data", self._source.dtype), ("indices", kind)):
            out, at = np.empty(count, dtype), 0
            for _, block in sorted(self._rows.items(), key=lambda item: item[0]):
                part = getattr(block, name)
                out[at : at + len(part)] = part
                at += len(part)
                setattr(block, name, np.empty(0, part.dtype))  # no view, which would keep it
            setattr(whole, name, out)
        self._rows.clear()
        whole.indptr = self.indptr.astype(kind)
        whole.has_canonical_format = True
        return SparseSource(whole)

    def to_disk(self) -> Source:
        """Return the rows as bands on disk."""
        with self._place.explained():
            if not self._full:
                create_stack(self._place.new)
            for row in sorted(self._rows):
                self._bands.append((row, self._writer.put(row, 0, self._rows.pop(row))))
            bands: Sequence[StoredBand] = [
                band for _, some in sorted(self._bands, key=lambda item: item[0]) for band in some
            ]
            finish_stack(self._place.new, self._source.shape[1], self._source.dtype, bands)
        self._place.publish()
        sync_folder(self._folder)
        location = os.path.join(self._folder, self._name)
        return from_spec({"kind": "stacked", "location": location})
