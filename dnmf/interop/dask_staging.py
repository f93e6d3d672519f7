"""A Dask array written once to Zarr, by the workers that compute it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from itertools import pairwise, product
from typing import Any

import numpy as np
import scipy.sparse as sp
from distributed import Client, Future
from distributed.scheduler import KilledWorker

from dnmf.config import Resources
from dnmf.conversion.target import open_target, writing
from dnmf.errors import (
    ClusterError,
    DnmfError,
    InputError,
    MemoryPlanError,
    ResumableError,
    RunError,
)
from dnmf.executors.watch import PASSING, Watch
from dnmf.faultpoints import reach
from dnmf.interop.dask_array import DaskArraySource
from dnmf.interop.dask_blocks import Band, assemble
from dnmf.interop.grid import DenseGrid, dense_grid
from dnmf.interop.staging import check_room, create_dense
from dnmf.planning.memory import BASELINE, USABLE
from dnmf.runs.files import new_id
from dnmf.sources.stacked import Part, write_list, write_part
from dnmf.values import format_bytes

__all__ = ["stage_dask"]

RETRIES = 2
"""How often Dask runs a task again that failed: storage may be busy."""

MOST_PARTS = 10_000


def stage_dask(source: DaskArraySource, root: str, client: Client, resources: Resources) -> None:
    """Compute a Dask array once and write it into the empty folder ``root``.

    Dense arrays become one Zarr array, CSR becomes parts (`dnmf.sources.stacked`). Every task
    writes whole chunks, or a part of its own, so a task that runs twice does no harm. Nothing
    but names returns to this process.

    Raises
    ------
    InputError
        The array cannot be computed, or its chunks are not what it says.
    MemoryPlanError
        One chunk is too large for a worker.
    ClusterError
        The cluster vanished, or workers died.
    RunError
        It cannot be written.
    """
    if source.is_sparse:
        _stage_csr(source, root, client)
    else:
        _stage_dense(source, root, client, resources)


def _stage_csr(source: DaskArraySource, root: str, client: Client) -> None:
    edges = source.chunk_rows
    step = -(-(len(edges) - 1) // MOST_PARTS)
    starts = [*edges[:-1:step].tolist(), source.shape[0]]
    tasks, name = {}, f"dnmf-stage-{new_id()}"
    for start, stop in pairwise(starts):
        chunks, band = source.band(start, stop)
        tasks[f"{name}-{start}"] = (_write_part, root, chunks, band)
    parts: list[Part] = _run(client, source.culled(tasks), list(tasks))
    with writing(root):
        write_list(root, source.shape[1], source.dtype, parts)


def _stage_dense(source: DaskArraySource, root: str, client: Client, resources: Resources) -> None:
    check_room(root, source.nbytes)
    x, item = source.array, source.dtype.itemsize
    tall, wide = (max(sizes) for sizes in x.chunks)
    grid = dense_grid(source.shape, item, tall, wide)
    y = x.rechunk(grid.unit, method="tasks")
    _check_memory(x.chunks, grid, item, resources)
    with writing(root):
        create_dense(root, source.shape, source.dtype, grid)
    cut = source if y is x else DaskArraySource(y, client)
    tasks = {
        f"dnmf-stage-{new_id()}-{band.above}-{left}": (_write_chunks, root, chunk, band, left)
        for chunk, band, left in _pieces(cut)
    }
    _run(client, cut.culled(tasks), list(tasks))


def _pieces(source: DaskArraySource) -> Iterator[tuple[Any, Band, int]]:
    """Every chunk's key, what it should be, and its first column."""
    for start, stop in pairwise(source.chunk_rows.tolist()):
        (line,), band = source.band(start, stop)
        lefts = np.cumsum([0, *band.widths]).tolist()
        for key, left, width in zip(line, lefts, band.widths, strict=False):
            one = Band(band.heights, (width,), band.above, band.lo, band.hi, band.dtype, False)
            yield key, one, left


def _check_memory(
    chunks: tuple[tuple[int, ...], ...], grid: DenseGrid, item: int, resources: Resources
) -> None:
    """Refuse chunks that a worker cannot hold as often as it has threads."""
    (rows, columns), (tall, wide) = grid.unit, (max(sizes) for sizes in chunks)
    touched = [_touched(sizes, unit) for sizes, unit in zip(chunks, grid.unit, strict=True)]
    task = 2 * rows * columns * item  # itself, and what is being written of it
    task += 0 if touched == [rows, columns] else touched[0] * touched[1] * item
    limit, need = resources.memory_limit, BASELINE + resources.threads * task
    if limit is None or need <= USABLE * limit:
        return
    raise MemoryPlanError(
        f"to write the dask array to the run folder, a worker would need {format_bytes(need)}: its "
        f"chunks have up to {tall} x {wide} entries ({format_bytes(tall * wide * item)}), and each "
        f"of {resources.threads} threads needs {format_bytes(task)}; but only {USABLE:.0%} of its "
        f"limit of {format_bytes(limit)} can be planned. Make the array with smaller chunks, or "
        "give workers more memory or fewer threads"
    )


def _touched(sizes: tuple[int, ...], unit: int) -> int:
    """The longest stretch of chunks that one unit of a regular grid lies in."""
    edges = np.cumsum([0, *sizes])
    starts = np.arange(0, edges[-1], unit)
    above = edges[np.searchsorted(edges, starts, side="right") - 1]
    stops = np.minimum(starts + unit, edges[-1])
    return int((edges[np.searchsorted(edges, stops, side="left")] - above).max())


def _run(client: Client, graph: dict[Any, Any], keys: list[str]) -> list[Any]:
    """What the tasks return, in order; the first failure ends it all."""
    watch = Watch(client)
    futures: list[Future] = []
    try:
        watch.ready()
        futures = client.get(graph, keys, sync=False, retries=RETRIES)
        for future in futures:
            watch.wait([future])
            if future.status != "finished":
                break
        return list(client.gather(futures))
    except Exception as error:
        raise _explained(error) from error
    finally:
        for future in futures:
            future.release()


def _explained(error: Exception) -> Exception:
    """The same for people. Nothing is left of an attempt, so nothing can be resumed."""
    again = "Nothing is left of it; run this again"
    if isinstance(error, KilledWorker):
        limit = error.last_worker.memory_limit
        memory = f" of {format_bytes(limit)}" if limit else ""
        return ClusterError(
            f"workers died one after the other while they computed the same chunks of the dask "
            f"array: probably these need more than the workers' memory{memory}. Make the array "
            f"with smaller chunks, or give workers more memory. {again}"
        )
    if isinstance(error, (*PASSING, ResumableError)):
        return ClusterError(
            f"the dask array could not be computed and written to the run folder: {error}. {again}"
        )
    if isinstance(error, DnmfError):
        return error
    return InputError(f"the dask array cannot be computed ({type(error).__name__}: {error})")


def _write_part(root: str, chunks: list[list[Any]], band: Band) -> Part:
    """Runs on a worker: consecutive rows as a part, under a name that no other attempt has."""
    block = assemble(chunks, band)
    assert isinstance(block, sp.csr_array)
    _check_folder(root)
    row = band.above + band.lo
    with writing(root):
        part = write_part(root, f"rows-{row}-{new_id()}", block)
    reach("part-staged", row=row)
    return part


def _write_chunks(root: str, chunk: Any, band: Band, left: int) -> None:
    """Runs on a worker: one piece, in whole chunks of the Zarr array, row by row of them."""
    block = assemble([[chunk]], band)
    _check_folder(root)
    with writing(root):
        target = open_target(root)
        tall, wide = target.chunks
        for a, b in product(range(0, block.shape[0], tall), range(0, block.shape[1], wide)):
            part = block[a : a + tall, b : b + wide]
            top, side = band.above + a, left + b
            target[top : top + part.shape[0], side : side + part.shape[1]] = part
            reach("chunk-staged", row=top, column=side)


def _check_folder(root: str) -> None:
    """Zarr would make the folder, on this machine alone."""
    if not os.path.isdir(root):
        raise RunError(
            f"{root} does not exist on {socket.gethostname()}: the output must be on storage that "
            "all workers and this process share"
        )
