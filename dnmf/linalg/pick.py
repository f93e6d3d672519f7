"""Some columns of a sparse block, with other numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from dnmf.linalg.jit import kernel, offsets, unlocked
from dnmf.linalg.matrix import arrays_of, matrix_of

__all__ = ["pick_columns"]


def pick_columns(V: Any, places: np.ndarray, width: int) -> Any:
    """Return the entries of some columns of a sparse matrix, which get other numbers.

    Where these are all entries, only their column numbers are new arrays.

    Parameters
    ----------
    V : (m, d) CSR array or WeightedCSR
    places : (d,) int32 array
        Rising numbers of the columns to keep, -1 for others.
    width : int
        Columns of what is returned.
    """
    data, indices, indptr, *weights = arrays_of(V)
    found = np.empty(indices.size, np.int32)
    starts = np.empty(indptr.size, np.int64)
    count = int(_renumber(unlocked(indices), offsets(indptr), unlocked(places), found, starts))
    if count < indices.size:
        kept = places[indices] >= 0
        data, weights = data[kept], [one[kept] for one in weights]
        found, indptr = found[:count].copy(), starts.astype(indptr.dtype)
    return matrix_of((data, found, indptr, *weights), width)


@kernel
def _renumber(indices, indptr, places, found, starts):  # type: ignore[no-untyped-def]
    # the numbers of what is kept one after the other, and where each row of it begins
    count = np.int64(0)
    starts[0] = 0
    for i in range(indptr.size - 1):
        for p in range(indptr[i], indptr[i + 1]):
            place = places[indices[p]]
            if place >= 0:
                found[count] = place
                count += 1
        starts[i + 1] = count
    return count
