"""Data that only this process holds, written once where all workers reach them."""

from __future__ import annotations

import os

import numpy as np
import zarr

from dnmf.config import MIB
from dnmf.fitting.work import Executor
from dnmf.runs.folder import FolderStore
from dnmf.sources import open_source
from dnmf.sources.base import Source

__all__ = ["stage"]

CHUNK_BYTES = 8 * MIB


def stage(source: Source, store: FolderStore, executor: Executor) -> Source:
    """Write V into the run folder as Zarr and return it as a source that all processes can open.

    A source that knows how to be written from where its data are (``stage_to``) does so itself.
    """
    path = os.path.join(store.state_folder, "staged.zarr")
    if hasattr(source, "stage_to"):
        source.stage_to(path, executor)
    elif source.is_sparse:
        _stage_csr(source, path)
    else:
        _stage_dense(source, path)
    return open_source(path)


def _stage_dense(source: Source, path: str) -> None:
    n, d = source.shape
    rows = max(1, min(n, CHUNK_BYTES // max(1, d * source.dtype.itemsize)))
    target = zarr.create_array(
        path,
        shape=(n, d),
        chunks=(rows, d),
        dtype=source.dtype,
        compressors=None,
        config={"write_empty_chunks": True},
    )
    starts = [*range(0, n, rows), n]
    for start, block in zip(starts, source.read_blocks(starts), strict=False):
        target[start : start + block.shape[0]] = block


def _stage_csr(source: Source, path: str) -> None:
    n, d = source.shape
    group = zarr.create_group(path)
    starts = [int(x) for x in source.block_starts(4 * CHUNK_BYTES, 8, n)]
    indptr = np.zeros(n + 1, np.int64)
    data = _growing(group, "data", source.dtype)
    indices = _growing(group, "indices", np.dtype(np.int32 if d < 2**31 else np.int64))
    for start, block in zip(starts, source.read_blocks(starts), strict=False):
        assert not isinstance(block, np.ndarray)
        stop = start + block.shape[0]
        indptr[start + 1 : stop + 1] = indptr[start] + block.indptr[1:]
        data.append(block.data)
        indices.append(block.indices.astype(indices.dtype))
    group.create_array("indptr", data=indptr)
    group.attrs.update(
        {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": [n, d]}
    )


def _growing(group: zarr.Group, name: str, dtype: np.dtype) -> zarr.Array:
    return group.create_array(
        name, shape=(0,), chunks=(CHUNK_BYTES // dtype.itemsize,), dtype=dtype
    )
