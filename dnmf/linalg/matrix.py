"""The matrix kinds of a block of V, and what works on each: arrays, bytes, joins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import scipy  # which loads scipy.sparse where it is first used: a dense fit does not

__all__ = [
    "Matrix",
    "WeightedCSR",
    "arrays_of",
    "bytes_of",
    "csr_structure",
    "join_rows",
    "matrix_of",
]

Matrix: TypeAlias = "np.ndarray | scipy.sparse.csr_array"
"""Rows of V: a C-contiguous array or a canonical CSR array (or a `WeightedCSR`)."""


class WeightedCSR:
    """CSR of the observed entries, and a weight beside each; what is not stored is unobserved.

    Entry and weight are one object, so that nothing can take the one without the other.

    Attributes
    ----------
    data, weights : (nnz,) arrays
    indices, indptr : integer arrays
        Index arrays of CSR; columns rise in every row.
    shape : (int, int)
    """

    def __init__(
        self,
        data: np.ndarray,
        weights: np.ndarray,
        indices: np.ndarray,
        indptr: np.ndarray,
        columns: int,
    ) -> None:
        self.data, self.weights = data, weights
        self.indices, self.indptr = indices, indptr
        self.shape = (indptr.size - 1, columns)

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def entries(self) -> Any:
        """The entries without their weights, as CSR."""
        return self._csr(self.data)

    def _csr(self, values: np.ndarray) -> Any:
        return scipy.sparse.csr_array(
            (values, self.indices, self.indptr), shape=self.shape, copy=False
        )

    def astype(self, dtype: str) -> WeightedCSR:
        """Return the rows in another dtype; what overflows becomes infinite: scans refuse it."""
        with np.errstate(over="ignore"):
            data, weights = (x.astype(dtype, copy=False) for x in (self.data, self.weights))
        return WeightedCSR(data, weights, self.indices, self.indptr, self.shape[1])

    def __getitem__(self, rows: slice | np.ndarray) -> WeightedCSR:
        """Return some rows: a slice of consecutive ones, or their numbers in any order."""
        if isinstance(rows, slice):
            a, b, _ = rows.indices(self.shape[0])
            span = slice(int(self.indptr[a]), int(self.indptr[b]))
            parts = self.data[span], self.weights[span], self.indices[span]
            return WeightedCSR(*parts, self.indptr[a : b + 1] - self.indptr[a], self.shape[1])
        entries = self._csr(np.arange(self.data.size))[rows]
        parts = self.data[entries.data], self.weights[entries.data], entries.indices
        return WeightedCSR(*parts, entries.indptr, self.shape[1])


def arrays_of(V: Matrix) -> tuple[np.ndarray, ...]:
    """Return the arrays that a matrix is made of, as plain data.

    Returns
    -------
    tuple of arrays
        One of a dense matrix; data, indices and indptr of CSR, and weights where it has some.
    """
    if isinstance(V, np.ndarray):
        return (V,)
    weights = (V.weights,) if isinstance(V, WeightedCSR) else ()
    return (V.data, V.indices, V.indptr, *weights)


def matrix_of(arrays: Sequence[np.ndarray], d: int) -> Matrix:
    """Make the matrix again that has these `arrays_of`; ``d`` is the number of its columns."""
    if len(arrays) == 1:
        return arrays[0]
    data, indices, indptr, *weights = arrays
    if weights:
        return WeightedCSR(data, weights[0], indices, indptr, d)
    shape = (indptr.size - 1, d)
    return scipy.sparse.csr_array((data, indices, indptr), shape=shape, copy=False)


def bytes_of(V: Matrix) -> int:
    """Return the bytes of a matrix in memory."""
    return sum(int(array.nbytes) for array in arrays_of(V))


def join_rows(parts: Sequence[Any]) -> Matrix:
    """Join consecutive rows, which are all of one kind, to one matrix; a single part stays."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    if not isinstance(parts[0], WeightedCSR):
        return scipy.sparse.csr_array(scipy.sparse.vstack(parts, format="csr"))
    data, indices, _, weights = (
        np.concatenate(arrays) for arrays in zip(*map(arrays_of, parts), strict=True)
    )
    offsets = np.cumsum([0, *(part.data.size for part in parts)])
    starts = [part.indptr[:-1] + at for part, at in zip(parts, offsets, strict=False)]
    indptr = np.concatenate([*starts, offsets[-1:]])
    return WeightedCSR(data, weights, indices, indptr, parts[0].shape[1])


def csr_structure(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and indptr of the CSR that holds some entries of a dense block.

    Parameters
    ----------
    mask : (m, d) bool array
        Which entries CSR holds; ``V[mask]`` are the data.

    Returns
    -------
    indices : (nnz,) int32 array
    indptr : (m + 1,) int64 array
    """
    counts = np.count_nonzero(mask, axis=1)
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    return np.broadcast_to(np.arange(mask.shape[1], dtype=np.int32), mask.shape)[mask], indptr
