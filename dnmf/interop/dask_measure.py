"""What a Dask array does not say of its chunks: their sizes, and of what library they are."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from threading import Lock
from typing import Any

import dask.array as da
import numpy as np
import scipy.sparse as sp

from dnmf.errors import InputError
from dnmf.interop.dask_blocks import extent

__all__ = ["Measured", "futures_in", "is_sparse"]


class Measured:
    """Sizes of chunks as they are computed, and the chunks, as long as they have room.

    Parameters
    ----------
    room : int
        Bytes that they may take; none of them stays once they took more.
    """

    def __init__(self, room: int) -> None:
        self.nbytes, self.chunks = 0, dict[Any, Any]()
        self.room, self._lock = room, Lock()

    def add(self, key: Any, chunk: Any) -> tuple[int, int, int]:
        """Return rows, columns and stored entries of a chunk."""
        with self._lock:
            if self.room:
                self.chunks[key] = chunk
                self.nbytes += _size(chunk)
                if self.nbytes > self.room:
                    self.nbytes = self.room = 0
                    self.chunks.clear()
        return extent(chunk)


def _size(chunk: Any) -> int:
    if sp.issparse(chunk):
        chunk = chunk if hasattr(chunk, "indptr") else chunk.tocsr()
        return int(chunk.data.nbytes + chunk.indices.nbytes + chunk.indptr.nbytes)
    return int(chunk.nbytes)


def futures_in(graph: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return chunks that a cluster already holds. Optimizing a graph leaves only their keys."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return {}
    return {key: value for key, value in graph.items() if isinstance(value, distributed.Future)}


def is_sparse(x: da.Array) -> bool:
    """Return whether chunks are scipy's; refuse those of other libraries."""
    meta = x._meta
    if isinstance(meta, np.ma.MaskedArray):
        raise InputError(
            "the dask array is masked, and its mask would be lost; fill it: dask.array.ma.filled("
            "x.astype(float), numpy.nan) with missing='nan' (--missing nan) if masked entries were "
            "not observed, dask.array.ma.filled(x, 0) if they are zeros (or weights: 0 is not "
            "observed)"
        )
    if sp.issparse(meta) or isinstance(meta, np.ndarray):
        return bool(sp.issparse(meta))
    kind = f"{type(meta).__module__}.{type(meta).__qualname__}"
    raise InputError(
        f"the chunks of the dask array are {kind}; V needs NumPy arrays or scipy sparse matrices: "
        "convert them, as in x.map_blocks(numpy.asarray) or x.map_blocks(scipy.sparse.csr_array)"
    )
