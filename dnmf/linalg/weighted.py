"""Entries joined with their weights, and sums over what is observed."""

from __future__ import annotations

from typing import Any

import numpy as np

from dnmf.linalg.jit import csr_arrays, kernel
from dnmf.linalg.matrix import WeightedCSR, csr_structure

__all__ = ["column_counts", "weigh"]


def weigh(V: Any, weights: Any, missing: str | None) -> WeightedCSR:
    """Return the entries of V whose weight is not 0, with their weights, in the dtypes of both.

    Parameters
    ----------
    V, weights : (m, d) arrays or CSR arrays
        What sparse weights do not store is 0. What a sparse V does not store is 0 too, unless
        ``missing`` is ``"zeros"``. CSR is canonical. NaN weights stay, for the scan to refuse.
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
    return WeightedCSR(V[observed], weights[observed], *csr_structure(observed), V.shape[1])


def _by_sparse(V: Any, weights: Any, missing: str | None) -> WeightedCSR:
    if isinstance(V, np.ndarray):
        data, observed = V[_rows(weights), weights.indices], weights.data != 0
    else:
        found = _look_up(*csr_arrays(V)[1:], *csr_arrays(weights)[1:])
        data = np.zeros(found.size, V.data.dtype)
        data[found >= 0] = V.data[found[found >= 0]]
        observed = weights.data != 0
        if missing == "zeros":
            observed &= found >= 0
    whole = WeightedCSR(data, weights.data, weights.indices, weights.indptr, V.shape[1])
    return whole if observed.all() else _picked(whole, observed)


def _picked(X: WeightedCSR, observed: np.ndarray) -> WeightedCSR:
    if observed.all():
        return X
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(observed)])
    parts = X.data[observed], X.weights[observed], X.indices[observed]
    return WeightedCSR(*parts, before[X.indptr], X.shape[1])


def _rows(X: Any) -> np.ndarray:
    """Return the row of every stored entry."""
    return np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))


@kernel
def _look_up(indices, indptr, wanted, wanted_indptr):  # type: ignore[no-untyped-def]
    # where each wanted entry is among those stored, -1 where it is not
    found = np.full(wanted.size, -1, np.int64)
    for i in range(indptr.size - 1):
        p = indptr[i]
        for q in range(wanted_indptr[i], wanted_indptr[i + 1]):
            while p < indptr[i + 1] and indices[p] < wanted[q]:
                p += 1
            if p < indptr[i + 1] and indices[p] == wanted[q]:
                found[q] = p
    return found


def column_counts(V: Any) -> np.ndarray:
    """Return the columns' sums of observed entries, whatever they weigh, and their numbers.

    Returns
    -------
    (2, d) float64 array
    """
    parts = V.data, np.ones(V.data.size)
    return np.stack([np.bincount(V.indices, part, minlength=V.shape[1]) for part in parts])
