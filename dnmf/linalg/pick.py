"""Some columns or rows of a sparse block, with other numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dnmf.linalg.jit import kernel, offsets, unlocked
from dnmf.linalg.matrix import arrays_of, matrix_of

__all__ = ["few_filled_rows", "pick_columns", "pick_rows", "put_rows"]

MANY_ROWS = 1024
"""Rows of a block that are worth a look at which of them have entries."""


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


def few_filled_rows(V: Any) -> np.ndarray | None:
    """Return the rows of a block that have stored entries, where they are few of many; else None.

    At least one row is returned, so that there is something to work on.
    """
    if isinstance(V, np.ndarray) or V.shape[0] < MANY_ROWS or 2 * V.indices.size > V.shape[0]:
        return None
    filled = np.flatnonzero(np.diff(V.indptr))
    return filled if filled.size else np.zeros(1, np.int64)


def pick_rows(V: Any, rows: np.ndarray) -> Any:
    """Return rows of a sparse matrix, among them every one that has stored entries.

    Nothing but the rows' offsets is a new array.

    Parameters
    ----------
    V : (m, d) CSR array or WeightedCSR
    rows : (r,) int array
        Rising.
    """
    data, indices, indptr, *weights = arrays_of(V)
    offsets = np.concatenate([indptr[rows], indptr[-1:]])
    return matrix_of((data, indices, offsets, *weights), V.shape[1])


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


def put_rows(
    parts: Sequence[np.ndarray | None], rows: np.ndarray, found: Sequence[np.ndarray | None]
) -> None:
    """Put what was found of some rows into arrays whose other rows are 0; None stands for none."""
    for whole, few in zip(parts, found, strict=True):
        if whole is not None:
            whole[:] = 0
            whole[rows] = few
