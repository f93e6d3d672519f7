"""Nonzeros of a block, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy

from dnmf.linalg.jit import offsets, unlocked
from dnmf.linalg.weighted import WeightedCSR
from dnmf.losses.values import Matrix

__all__ = ["tiles"]


def tiles(V: Matrix, entries: int) -> Iterator[tuple[int, scipy.sparse.csr_array]]:
    """Yield first row and nonzeros of tiles of whole rows, of about TILE_ENTRIES entries."""
    if isinstance(V, np.ndarray):
        height = max(1, entries // V.shape[1])
        for a in range(0, V.shape[0], height):
            tile = scipy.sparse.csr_array(V[a : a + height])
            tile.indptr = offsets(tile.indptr)
            yield a, tile
        return
    a, m = 0, V.shape[0]
    while a < m:
        b = int(np.searchsorted(V.indptr, V.indptr[a] + entries, side="right")) - 1
        b = min(max(b, a + 1), m)
        first, last = V.indptr[a], V.indptr[b]
        indptr = offsets(V.indptr[a : b + 1] - first)
        data, indices = unlocked(V.data[first:last]), unlocked(V.indices[first:last])
        if isinstance(V, WeightedCSR):
            weights = unlocked(V.weights[first:last])
            yield a, WeightedCSR(data, weights, indices, indptr, V.shape[1])
            a = b
            continue
        tile = scipy.sparse.csr_array(
            (b - a, V.shape[1]), dtype=V.dtype
        )  # its constructor copies small parts
        tile.data, tile.indices, tile.indptr = data, indices, indptr
        yield a, tile
        a = b
