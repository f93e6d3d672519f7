"""Dask arrays as sources: rows of NumPy or scipy CSR chunks, whatever the chunking."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, ClassVar, NoReturn
from uuid import uuid4

import cloudpickle
import dask.array as da
import numpy as np
from dask.optimization import cull
from dask.system import CPU_COUNT

from dnmf.errors import InputError
from dnmf.interop.dask_blocks import Band, assemble, extent, put, single_chunks
from dnmf.interop.dask_measure import Measured, futures_in, is_sparse
from dnmf.interop.dask_origins import paths_read
from dnmf.interop.dask_reader import ChunkReader
from dnmf.interop.dask_run import check_memory, evaluate, run_here, run_tasks, runs_here
from dnmf.interop.dask_shared import Given, shared_tasks
from dnmf.linalg.matrix import Matrix
from dnmf.sources.base import Source
from dnmf.sources.checks import check_shape, native_dtype
from dnmf.sources.csr import block_dtype, digest, index_dtype
from dnmf.values import format_bytes

__all__ = ["PER_CHUNK", "DaskArraySource"]

Graph = dict[Any, Any]

Rectangle = tuple[int, int, list[list[Any]], Band]
"""First row and column, the keys of the chunks, and what `assemble` makes of them."""

PER_CHUNK = 8192
"""Bytes of a chunk besides its entries: its task, its Python objects."""


class DaskArraySource(Source):
    """A Dask array. What is read together is a row of its chunks.

    The graph is evaluated with Dask's own choice of scheduler (threads, unless configured or a
    client is active), a few chunks at a time: once per pass over V, whatever the array's graph
    costs, and once more to count where chunks are CSR or their sizes unknown. Memory that the
    graph's inner tasks take is not known and not part of `read_overhead`.

    Parameters
    ----------
    x : (n, d) dask.array.Array
        Chunks are NumPy arrays or scipy sparse matrices (other formats than CSR are converted).
        Never modified: unknown chunk sizes are not written back.
    client : distributed.Client, optional
        Evaluates the graph. By default the client that holds persisted chunks, else Dask's
        choice.
    room : int
        Bytes of chunks that stay in memory, until `forget`, where their sizes are unknown and they
        are computed for those.

    Raises
    ------
    InputError
        x is empty, not two-dimensional or not real, or its chunks are of another library.
    """

    kind: ClassVar[str] = "dask"
    lazy = True

    def __init__(self, x: da.Array, client: Any = None, room: int = 0) -> None:
        if x.ndim != 2:
            check_shape([-1 if np.isnan(s) else s for s in x.shape], "the dask array")
        self._sparse = is_sparse(x)
        dtype = native_dtype(x.dtype, "the dask array")
        self._dtype = block_dtype(dtype) if self._sparse else dtype
        keys, graph = x.__dask_keys__(), x.__dask_graph__()
        futures = futures_in(graph)
        self._array = x
        self._client = client or next((future.client for future in futures.values()), None)
        self._graph: Graph = {**futures, **x.__dask_optimize__(graph, keys)}
        self._plain, measured = self._graph, Measured(room)
        heights, widths = self._chunks(keys, x.chunks, measured)
        known = {key: (Given(chunk),) for key, chunk in measured.chunks.items()}
        self._graph, self.measured_bytes = {**self._graph, **known}, measured.nbytes
        self._keys = [
            [key for key, width in zip(line, widths, strict=True) if width]
            for line, height in zip(keys, heights, strict=True)
            if height
        ]
        self._heights = tuple(height for height in heights if height)
        self._widths = tuple(width for width in widths if width)
        self._edges = np.cumsum([0, *self._heights])
        self._shape = check_shape((sum(heights), sum(widths)), "the dask array")

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> NoReturn:
        raise _only_here()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle as dask does: graphs may hold functions that pickle refuses."""
        state = {**self.__dict__, "_client": None, "_graph": self._plain, "measured_bytes": 0}
        return {"pickled": cloudpickle.dumps(state)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(cloudpickle.loads(state["pickled"]))

    def paths(self) -> list[str]:
        # as far as the graph shows them
        return paths_read(self._graph)

    @property
    def is_sparse(self) -> bool:
        return self._sparse

    @property
    def nbytes(self) -> int:
        last = index_dtype(self.shape[1]).itemsize if self.is_sparse else 0
        return self.block_bytes(0, self.shape[0]) + last

    @property
    def tasks(self) -> Graph:
        """The tasks that V takes, those that nothing of it needs left out."""
        return self._plain

    @property
    def array(self) -> da.Array:
        """The array, with chunks that are known and not empty."""
        x = self._array
        if x.chunks == (self._heights, self._widths):
            return x
        name, lines = f"dnmf-{x.name}", enumerate(self._keys)
        same = {(name, i, j): key for i, line in lines for j, key in enumerate(line)}
        return da.Array({**self._graph, **same}, name, (self._heights, self._widths), meta=x._meta)

    def block_starts(self, block_size: int, itemsize: int, max_rows: int) -> np.ndarray:
        # whole rows of chunks
        width = index_dtype(self.shape[1]).itemsize
        per_row, per_entry = (width, itemsize + width) if self.is_sparse else (0, itemsize)
        starts = [0]
        rows = size = 0
        for row, height in enumerate(self._heights):
            more = self.entries[row] * per_entry + height * per_row
            if rows and (rows + height > max_rows or size + more > block_size):
                starts.append(starts[-1] + rows)
                rows = size = 0
            rows, size = rows + height, size + more
        return np.array([*starts, self.shape[0]], np.int64)

    def block_bytes(self, start: int, stop: int) -> int:
        # of all chunks that the rows touch where they are CSR
        if not self.is_sparse:
            return (stop - start) * self.shape[1] * self.dtype.itemsize
        first, last = self._touched(start, stop)
        width = index_dtype(self.shape[1]).itemsize
        entries = sum(self.entries[first:last])
        return entries * (self.dtype.itemsize + width) + (stop - start) * width

    def read_overhead(self, start: int, stop: int, alone: bool = False) -> int:
        # without what the array's own graph takes inside
        first, last = self._touched(start, stop)
        touched = self.block_bytes(int(self._edges[first]), int(self._edges[last]))
        chunks = (last - first) * len(self._widths)
        return touched * (3 if self.is_sparse else 2) + chunks * PER_CHUNK

    def read_blocks(self, starts: Sequence[int]) -> Iterator[Matrix]:
        reader = ChunkReader(self.compute, self.whole_chunks, int(starts[-1]))
        for start, stop in pairwise(map(int, starts)):
            yield reader.take(start, stop)

    def whole_chunks(self, at: int, stop: int, last: int) -> tuple[int, int]:
        """Up to where whole rows of chunks reach, and where those that ``stop`` cuts end."""
        if stop == last:
            return stop, stop
        below = int(self._edges[np.searchsorted(self._edges, stop, side="right") - 1])
        above = int(self._edges[np.searchsorted(self._edges, stop, side="left")])
        return max(at, below), min(last, above)

    def compute(self, starts: list[int]) -> list[Matrix]:
        """Blocks of rows, all at once."""
        graph, keys = self.block_graph(starts)
        where = f"rows {starts[0]} to {starts[-1] - 1}"
        return list(evaluate(graph, keys, self._array, self._client, where))

    def block_graph(self, starts: Sequence[int]) -> tuple[Graph, list[str]]:
        tasks: Graph = {}
        for start, stop in pairwise(map(int, starts)):
            chunks, band = self.band(start, stop)
            tasks[f"dnmf-rows-{self._array.name}-{start}-{stop}"] = (assemble, chunks, band)
        return self.culled(tasks), list(tasks)

    def band(self, start: int, stop: int) -> tuple[list[list[Any]], Band]:
        """Keys of the chunks that hold some rows, and what `assemble` makes of them."""
        first, last = self._touched(start, stop)
        above = int(self._edges[first])
        name, lo, hi = self.dtype.name, start - above, stop - above
        heights = self._heights[first:last]
        band = Band(heights, self._widths, above, lo, hi, name, self.is_sparse)
        return self._keys[first:last], band

    def culled(self, tasks: Graph, keys: Sequence[Any] = ()) -> Graph:
        """Return these tasks, and keys of the array's graph, with all that they need of it."""
        graph: Graph = cull(ChainMap(tasks, self._graph), [*tasks, *keys])[0]
        return graph

    @property
    def chunk_rows(self) -> np.ndarray:
        """(rows of chunks + 1,) int64 array: where each begins, then n."""
        return self._edges.astype(np.int64)

    @property
    def chunk_columns(self) -> np.ndarray:
        """(columns of chunks + 1,) int64 array: where each begins, then d."""
        return np.cumsum([0, *self._widths])

    @property
    def chunks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Heights and widths of the chunks."""
        return self._heights, self._widths

    @property
    def largest_chunk(self) -> tuple[int, int]:
        """Most rows and most columns of a chunk."""
        return max(self._heights), max(self._widths)

    def apply(
        self,
        function: Callable[[int, int, Matrix], Any],
        edges: tuple[Sequence[int], Sequence[int]],
        limit: int | None,
        threads: int,
        client: Any,
        on_done: Callable[[int], None],
    ) -> list[Any]:
        """Call a function with every rectangle of a grid, where that is computed.

        One graph makes them all: every chunk, and whatever tasks have in common, is computed
        once. Nothing but what the function returns comes to this process.

        Parameters
        ----------
        function : callable
            Gets the first row and column and the rectangle, C-contiguous or canonical CSR. On
            a cluster it is pickled, and may be called again for one that was lost.
        edges : (rows, columns)
            Where rectangles begin, then n and d; columns are (0, d) where chunks are CSR.
        limit, threads : int
            Memory (or None) and threads of a worker.
        client : distributed.Client or None
            By default the one that holds persisted chunks, else Dask's choice of scheduler.
        on_done : callable
            Called with the number of each rectangle that is done, row by row of the grid.

        Raises
        ------
        InputError
            The array cannot be computed, or its chunks are not what it says.
        MemoryPlanError
            One chunk is too large for a worker.
        ClusterError
            The cluster vanished, or workers died.
        """
        if not self._sparse:
            check_memory(self.chunks, edges, self.dtype.itemsize, limit, threads)
        cut, rectangles = self.rectangles(edges, client)
        name, tasks = f"dnmf-put-{uuid4().hex[:12]}", {}
        for row, column, cells, band in rectangles:
            tasks[f"{name}-{row}-{column}"] = (put, function, column, cells, band)
        graph = cut.culled(tasks)
        return run_tasks(graph, list(tasks), self._array, client or self._client, on_done)

    def rectangles(
        self, edges: tuple[Sequence[int], Sequence[int]], client: Any
    ) -> tuple[DaskArraySource, list[Rectangle]]:
        """Return this source with chunks of such edges, and what makes each rectangle of them."""
        cut = self
        if not self._sparse:
            sizes = tuple(tuple(np.diff(some).tolist()) for some in edges)
            if sizes != self.chunks:
                cut = DaskArraySource(self.array.rechunk(sizes, method="tasks"), client)
        found: list[Rectangle] = []
        for start, stop in pairwise(edges[0]):
            keys, band = cut.band(start, stop)
            cells = [(keys, band)] if self._sparse else single_chunks(keys, band)
            found += [
                (start, column, some, part)
                for column, (some, part) in zip(edges[1], cells, strict=False)
            ]
        return cut, found

    def run_here(
        self,
        graph: Graph,
        calls: Mapping[Any, Callable[[Any], Any]],
        done: Callable[[Any, Any], None],
        threads: int,
    ) -> None:
        """Compute keys of a graph that `culled` made, and call functions here with the values."""
        run_here(graph, calls, self._array, self._client, done, threads)

    @cached_property
    def shared(self) -> list[Any]:
        """Keys of tasks that all rows of chunks need, each directly."""
        return shared_tasks(self._graph, self._keys)

    def with_shared(self) -> DaskArraySource:
        """Compute the tasks that all rows of chunks need, and return the array with their values.

        What these need is computed for them alone, and is not in memory when chunks are.
        """
        if not self.shared:
            return self
        names, where = self.shared, "what all chunks need"
        values = evaluate(self.culled({}, names), names, self._array, self._client, where)
        known = {key: (Given(value),) for key, value in zip(names, values, strict=True)}
        found: DaskArraySource = object.__new__(type(self))
        found.__dict__.update(self.__dict__)
        found._graph, found.shared = {**self._graph, **known}, []
        x = self._array
        found._array = da.Array(found._graph, x.name, x.chunks, meta=x._meta)
        return found

    def transposed(self) -> Source | None:
        return None if self.is_sparse else DaskArraySource(self.array.T, self._client)

    def describe(self) -> str:
        return f"{self.outline}, {format_bytes(self.nbytes)}"

    @property
    def outline(self) -> str:
        """One line for people, for which nothing is counted."""
        (rows, tall), (columns, wide) = ((len(some), max(some)) for some in self.chunks)
        layout = f"{rows} x {columns} chunks of at most {tall} x {wide}"
        layout += " (CSR)" if self.is_sparse else ""
        return f"dask array: {self.shape[0]} x {self.shape[1]} {self.dtype}, {layout}"

    def metadata(self) -> dict[str, Any]:
        """Return JSON with a checksum of the chunks' heights and entries, which cut blocks."""
        return {
            "kind": self.kind,
            "shape": list(self.shape),
            "dtype": self.dtype.name,
            "sparse": self.is_sparse,
            "chunks": digest([self._edges, np.array(self.entries, np.int64)]),
        }

    def spec(self) -> Mapping[str, Any]:
        raise _only_here()

    @cached_property
    def entries(self) -> list[int]:
        """Stored entries of every row of chunks; counted once where they are CSR."""
        if not self.is_sparse:
            return [height * self.shape[1] for height in self._heights]
        return [sum(entries for _, _, entries in line) for line in self._extents(self._keys)]

    def _chunks(
        self, keys: list[list[Any]], known: Any, measured: Measured
    ) -> tuple[list[int], list[int]]:
        """Return heights and widths of the chunks, measured where Dask does not know them."""
        if not any(np.isnan(size) for sizes in known for size in sizes):
            return [int(size) for size in known[0]], [int(size) for size in known[1]]
        found = self._extents(keys, measured)
        heights, widths = [line[0][0] for line in found], [columns for _, columns, _ in found[0]]
        for line, height in zip(found, heights, strict=True):
            if [(rows, columns) for rows, columns, _ in line] != [(height, w) for w in widths]:
                raise InputError("the chunks of the dask array do not fit beside each other")
        return heights, widths

    def forget(self) -> None:
        """Let go of chunks that were computed for their sizes (``measured_bytes``)."""
        self._graph, self.measured_bytes = self._plain, 0

    def _extents(
        self, keys: list[list[Any]], measured: Measured | None = None
    ) -> list[list[tuple[int, int, int]]]:
        if measured is not None and measured.room and runs_here(self._array, self._client):
            sizes: dict[Any, tuple[int, int, int]] = {}
            calls = {key: partial(measured.add, key) for line in keys for key in line}
            self.run_here(self.culled({}, list(calls)), calls, sizes.__setitem__, CPU_COUNT)
            return [[sizes[key] for key in line] for line in keys]
        name = f"dnmf-extent-{self._array.name}"
        tasks = {(name, *key[1:]): (extent, key) for line in keys for key in line}
        wanted = [[(name, *key[1:]) for key in line] for line in keys]
        graph = self.culled(tasks)
        found = evaluate(graph, wanted, self._array, self._client, "chunk sizes")
        return [list(line) for line in found]

    def _touched(self, start: int, stop: int) -> tuple[int, int]:
        """Return the rows of chunks (first, behind the last) that some rows of V lie in."""
        first = int(np.searchsorted(self._edges, start, side="right")) - 1
        return first, int(np.searchsorted(self._edges, stop, side="left"))


def _only_here() -> InputError:
    return InputError(
        "a dask array cannot be opened by another process; write it to Zarr "
        "(dask.array.to_zarr), or give out= and a cluster, which stages it in the run folder"
    )
