"""Everything that a Dask array holds, computed once, for this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

import numpy as np
from dask.system import CPU_COUNT

from dnmf.errors import InputError, TransientError
from dnmf.interop.dask_array import DaskArraySource
from dnmf.interop.dask_blocks import assemble
from dnmf.interop.dask_run import task_bytes
from dnmf.linalg.matrix import Matrix
from dnmf.sources.csr import index_dtype
from dnmf.steps.retries import with_retries

__all__ = ["chunk_bytes", "chunk_edges", "gather", "suited_threads"]

Edges = tuple[Sequence[int], Sequence[int]]


def chunk_edges(source: DaskArraySource) -> Edges:
    """Return the edges of the array's own chunks; whole rows of them where they are CSR."""
    columns = [0, source.shape[1]] if source.is_sparse else source.chunk_columns.tolist()
    return source.chunk_rows.tolist(), columns


def chunk_bytes(source: DaskArraySource, edges: Edges, entries: int | None = None) -> int:
    """Return the bytes that one task takes at a time.

    Parameters
    ----------
    source : DaskArraySource
    edges : (rows, columns)
    entries : int, optional
        Most entries of a rectangle of CSR. They are not known before: without them, as many are
        assumed as if a tenth of the entries were stored.
    """
    if not source.is_sparse:
        return task_bytes(source.chunks, edges, source.dtype.itemsize)
    (_, d), tall = source.shape, int(np.diff(edges[0]).max())
    entries = tall * d // 10 if entries is None else entries
    return 3 * entries * (source.dtype.itemsize + index_dtype(d).itemsize)  # read, made, written


def suited_threads(task: int, room: int) -> int:
    """Return how many tasks at a time fit into ``room``; at least 1, at most one per processor."""
    return max(1, min(CPU_COUNT, room // max(1, task)))


def gather(
    source: DaskArraySource,
    take: Callable[[int, int, Matrix], Any],
    edges: Edges,
    threads: int,
    on_done: Callable[[int, int], None],
) -> list[Any]:
    """Call a function here with every rectangle of a grid, in any order, from several threads.

    Every chunk, and whatever tasks have in common, is computed once, by one graph. What storage
    failed to give is asked for again.

    Parameters
    ----------
    source : DaskArraySource
    take : callable
        Gets the first row and column and the rectangle.
    edges : (rows, columns)
        Where rectangles begin, then n and d.
    threads : int
        Tasks at a time, where Dask was not told how many.
    on_done : callable
        Called with how many rectangles of how many are done.

    Returns
    -------
    list
        What ``take`` returned, row by row of the grid.

    Raises
    ------
    InputError
        The array cannot be computed, or its chunks are not what it says.
    """
    cut, rectangles = source.rectangles(edges, None)
    name = f"dnmf-here-{uuid4().hex[:12]}"
    numbers = {f"{name}-{number}": number for number in range(len(rectangles))}
    found: dict[int, Any] = {}

    def done(key: str, value: Any) -> None:
        found[numbers[key]] = value
        on_done(len(found), len(rectangles))

    def attempt() -> None:
        left = {key: rectangles[number] for key, number in numbers.items() if number not in found}
        made = {key: (assemble, cells, band) for key, (_, _, cells, band) in left.items()}
        calls = {key: partial(take, row, column) for key, (row, column, _, _) in left.items()}
        cut.run_here(cut.culled(made), calls, done, threads)

    try:
        with_retries(attempt)
    except TransientError as error:
        raise InputError(f"{error}, and again each time that it was tried once more") from error
    return [found[number] for number in range(len(rectangles))]
