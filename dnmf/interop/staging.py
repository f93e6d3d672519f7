"""Data that other processes cannot open, written once where all workers reach them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import scipy
import zarr

from dnmf.config import MIB
from dnmf.conversion.target import open_target, writing
from dnmf.errors import RunError
from dnmf.interop.grid import DenseGrid, dense_grid
from dnmf.runs.files import TEMPORARY, make_folder, new_id, sync_folder
from dnmf.runs.folder import FolderStore
from dnmf.sources import from_spec
from dnmf.sources.base import Source
from dnmf.sources.stacked import write_list, write_part
from dnmf.steps.work import Executor
from dnmf.values import format_bytes

__all__ = ["STAGED", "WEIGHTS", "create_dense", "stage"]

STAGED = "staged.zarr"
"""Name in the run's own folder."""

WEIGHTS = "staged-weights.zarr"
"""The same of V's weights."""

PART = 64 * MIB
"""Bytes of a part of CSR."""


def stage(source: Source, store: FolderStore, executor: Executor, name: str = STAGED) -> Source:
    """Write V into the run folder as Zarr and return it as a source that all processes can open.

    A Dask array is written by the workers of a cluster, every chunk by one that computes it;
    anything else by this process, one block after the other. It is there as a whole or not at
    all: what an attempt that died has left has another name.

    Parameters
    ----------
    source : Source
        Not persistent.
    store : FolderStore
        Of the new run.
    executor : Executor
        Its ``dask_client``, if it has one, computes Dask arrays.
    name : str
        Of what is written, in the run's own folder.

    Raises
    ------
    InputError
        V cannot be computed.
    MemoryPlanError
        A chunk is too large for a worker.
    ClusterError
        The cluster vanished, or workers died while they computed V.
    RunError
        It cannot be written.
    """
    client = executor.dask_client
    with _whole_or_absent(store.state_folder, name) as root:
        if source.kind == "dask" and client is not None:
            from dnmf.interop.dask_array import DaskArraySource
            from dnmf.interop.dask_staging import stage_dask

            assert isinstance(source, DaskArraySource)
            stage_dask(source, root, client, executor.resources())
        elif source.is_sparse:
            check_room(root, source.nbytes)
            _stage_csr(source, root)
        else:
            check_room(root, source.nbytes)
            _stage_dense(source, root)
    kind = "stacked" if source.is_sparse else "zarr"
    return from_spec({"kind": kind, "location": os.path.join(store.state_folder, name)})


@contextmanager
def _whole_or_absent(folder: str, name: str) -> Iterator[str]:
    """An empty folder to write into, which gets its name at the end."""
    root = os.path.join(folder, f"{TEMPORARY}staged-{new_id()}")
    with writing(root):
        make_folder(root)
    try:
        yield root
        with writing(root):
            os.rename(root, os.path.join(folder, name))
            sync_folder(folder)
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        raise


def check_room(root: str, nbytes: int) -> None:
    """Refuse what cannot fit on the file system.

    Raises
    ------
    RunError
        With the numbers.
    """
    free = shutil.disk_usage(root).free
    if nbytes > free:
        raise RunError(
            f"V is to be written to {os.path.dirname(root)}, so that all workers can read it; it "
            f"takes {format_bytes(nbytes)}, but {format_bytes(free)} are free there. Make room, "
            "give another out=, or give V as a path of a Zarr array"
        )


def create_dense(root: str, shape: tuple[int, int], dtype: np.dtype, grid: DenseGrid) -> None:
    """Make the empty array. Every chunk will be stored, so that a missing one is a loss."""
    zarr.create_array(root, shape=shape, chunks=grid.chunks, dtype=dtype, compressors=None)


def _stage_dense(source: Source, root: str) -> None:
    """Whole chunks at a time: bands of rows, or of columns where chunks are as tall as V."""
    (n, d), item = source.shape, source.dtype.itemsize
    grid = dense_grid(source.shape, item, 1, d)
    lines = source.transposed() if grid.chunks[1] < d else source
    assert lines is not None
    unit, entries = (grid.chunks[0], d) if lines is source else (grid.chunks[1], n)
    count = lines.shape[0]
    step = max(1, PART // (entries * item * unit)) * unit
    starts = [*range(0, count, step), count]
    with writing(root):
        create_dense(root, source.shape, source.dtype, grid)
        target = open_target(root)
        for start, block in zip(starts, lines.read_blocks(starts), strict=False):
            if lines is source:
                target[start : start + block.shape[0]] = block
            else:
                target[:, start : start + block.shape[0]] = block.T


def _stage_csr(source: Source, root: str) -> None:
    n, d = source.shape
    starts = [int(x) for x in source.block_starts(PART, source.dtype.itemsize, n)]
    parts = []
    for (start, _), block in zip(pairwise(starts), source.read_blocks(starts), strict=True):
        assert isinstance(block, scipy.sparse.csr_array)
        with writing(root):
            parts.append(write_part(root, f"rows-{start}", block))
    with writing(root):
        write_list(root, d, source.dtype, parts)
