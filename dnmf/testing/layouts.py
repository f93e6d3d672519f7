"""Writers of matrices to Zarr, in every layout that sources read."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import zarr

__all__ = ["write_compressed", "write_dense"]


def write_dense(
    store: Any,
    V: np.ndarray,
    chunks: tuple[int, int],
    shards: tuple[int, int] | None = None,
    zarr_format: Any = 3,
    path: str | None = None,
    **options: Any,
) -> zarr.Array[Any]:
    """Write V as a dense Zarr array; ``options`` go to `zarr.create_array`.

    Chunks that hold only the fill value are stored too, so that a missing one is one that was
    lost.
    """
    options = {"config": {"write_empty_chunks": True}, **options}
    array = zarr.create_array(
        store,
        name=path,
        shape=V.shape,
        dtype=V.dtype,
        chunks=chunks,
        shards=shards,
        zarr_format=zarr_format,
        **options,
    )
    array[:] = V
    return array


def write_compressed(
    store: Any,
    V: sp.sparray | sp.spmatrix,
    chunk: int,
    path: str | None = None,
    zarr_format: Any = 3,
    indptr_chunk: int | None = None,
    index_dtype: Any = None,
    **options: Any,
) -> zarr.Group:
    """Write a CSR or CSC matrix as AnnData does: its arrays as they are, not made canonical.

    Parameters
    ----------
    store : any store of Zarr
    V : (n, d) csr or csc
    chunk : int
        Entries of a chunk of data and indices.
    path : str, optional
        Path of the group within the store.
    zarr_format : 2 or 3
    indptr_chunk : int, optional
        Entries of a chunk of indptr; all of it in one chunk as with AnnData by default.
    index_dtype : dtype, optional
        Dtype of indices and indptr.
    **options
        Options of `zarr.Group.create_array`.
    """
    group = zarr.open_group(store, path=path, mode="a", zarr_format=zarr_format)
    group.attrs.update(
        {
            "encoding-type": f"{V.format}_matrix",
            "encoding-version": "0.1.0",
            "shape": list(map(int, V.shape)),
        }
    )
    indices = V.indices.astype(index_dtype or V.indices.dtype)
    indptr = V.indptr.astype(index_dtype or V.indptr.dtype)
    parts = (
        ("data", V.data, chunk),
        ("indices", indices, chunk),
        ("indptr", indptr, indptr_chunk or len(indptr)),
    )
    options = {"config": {"write_empty_chunks": True}, **options}
    for name, values, size in parts:
        array = group.create_array(
            name, shape=values.shape, dtype=values.dtype, chunks=(size,), **options
        )
        if len(values):
            array[:] = values
    return group
