"""Rows of which some entries are observed, each with a weight; and how they are put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy

from dnmf.linalg.jit import csr_arrays, kernel

__all__ = ["WeightedCSR", "column_counts", "weigh"]


class WeightedCSR:
    """CSR of the observed entries, and a weight beside each; what is not stored is unobserved.

    Entry and weight are one object, so that nothing can take the one without the other.

    Attributes
    ----------
    data, weights : (nnz,) arrays
    indices, indptr : integer arrays
        As in CSR; columns rise in every row.
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
    def parts(self) -> tuple[np.ndarray, ...]:
        """data, indices, indptr, weights."""
        return self.data, self.indices, self.indptr, self.weights

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
        """The same in another dtype; what overflows becomes infinite, for the scan to refuse."""
        with np.errstate(over="ignore"):
            data, weights = (x.astype(dtype, copy=False) for x in (self.data, self.weights))
        return WeightedCSR(data, weights, self.indices, self.indptr, self.shape[1])

    def __getitem__(self, rows: slice | np.ndarray) -> WeightedCSR:
        """Some rows: a slice of consecutive ones, or their numbers in any order."""
        if isinstance(rows, slice):
            a, b, _ = rows.indices(self.shape[0])
            span = slice(int(self.indptr[a]), int(self.indptr[b]))
            parts = self.data[span], self.weights[span], self.indices[span]
            return WeightedCSR(*parts, self.indptr[a : b + 1] - self.indptr[a], self.shape[1])
        places = self._csr(np.arange(self.data.size))[rows]
        parts = self.data[places.data], self.weights[places.data], places.indices
        return WeightedCSR(*parts, places.indptr, self.shape[1])

    @staticmethod
    def joined(parts: Sequence[Any]) -> WeightedCSR:
        """Consecutive rows as one matrix."""
        offsets = np.cumsum([0, *(part.data.size for part in parts)])
        starts = [part.indptr[:-1] + at for part, at in zip(parts, offsets, strict=False)]
        data, weights, indices = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("data", "weights", "indices")
        )
        indptr = np.concatenate([*starts, offsets[-1:]])
        return WeightedCSR(data, weights, indices, indptr, parts[0].shape[1])


def weigh(V: Any, weights: Any, missing: str | None) -> WeightedCSR:
    """The entries of V whose weight is not 0, with their weights, in the dtypes of both.

    Parameters
    ----------
    V, weights : (m, d) arrays or CSR arrays
        What sparse weights do not store is 0. What a sparse V does not store is 0 too, unless
        ``missing`` is ``"zeros"``. CSR is canonical. NaN among the weights is kept, to be refused.
    missing : {None, "nan", "zeros"}
        Entries of V that are unobserved besides those of weight 0.
    """
    if isinstance(weights, np.ndarray):
        found = _by_dense(V, weights)
    else:
        found = _by_sparse(V, weights, missing)
    if missing == "nan" and found.data.dtype.kind == "f":
        return _picked(found, ~np.isnan(found.data))
    return found


def _by_dense(V: Any, weights: np.ndarray) -> WeightedCSR:
    if not isinstance(V, np.ndarray):  # its stored entries alone
        of_entries = weights[_rows(V), V.indices]
        whole = WeightedCSR(V.data, of_entries, V.indices, V.indptr, V.shape[1])
        return _picked(whole, of_entries != 0)
    observed = weights != 0
    counts = np.count_nonzero(observed, axis=1)
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    indices = np.broadcast_to(np.arange(V.shape[1], dtype=np.int32), V.shape)[observed]
    return WeightedCSR(V[observed], weights[observed], indices, indptr, V.shape[1])


def _by_sparse(V: Any, weights: Any, missing: str | None) -> WeightedCSR:
    if isinstance(V, np.ndarray):
        data, keep = V[_rows(weights), weights.indices], weights.data != 0
    else:
        places = _look_up(*csr_arrays(V)[1:], *csr_arrays(weights)[1:])
        data = np.zeros(places.size, V.data.dtype)
        data[places >= 0] = V.data[places[places >= 0]]
        keep = weights.data != 0
        if missing == "zeros":
            keep &= places >= 0
    whole = WeightedCSR(data, weights.data, weights.indices, weights.indptr, V.shape[1])
    return whole if keep.all() else _picked(whole, keep)


def _picked(X: WeightedCSR, keep: np.ndarray) -> WeightedCSR:
    if keep.all():
        return X
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep)])
    parts = X.data[keep], X.weights[keep], X.indices[keep]
    return WeightedCSR(*parts, before[X.indptr], X.shape[1])


def _rows(X: Any) -> np.ndarray:
    """The row of every stored entry."""
    return np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))


@kernel
def _look_up(indices, indptr, wanted, wanted_indptr):  # type: ignore[no-untyped-def]
    # where each wanted entry is among those stored, -1 where it is not
    places = np.full(wanted.size, -1, np.int64)
    for i in range(indptr.size - 1):
        p = indptr[i]
        for q in range(wanted_indptr[i], wanted_indptr[i + 1]):
            while p < indptr[i + 1] and indices[p] < wanted[q]:
                p += 1
            if p < indptr[i + 1] and indices[p] == wanted[q]:
                places[q] = p
    return places


def column_counts(V: Any) -> np.ndarray:
    """Sums of the observed entries of the columns, whatever they weigh, and their numbers.

    Returns
    -------
    (2, d) float64 array
    """
    parts = V.data, np.ones(V.data.size)
    return np.stack([np.bincount(V.indices, part, minlength=V.shape[1]) for part in parts])
