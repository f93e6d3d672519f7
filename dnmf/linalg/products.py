"""V H', W' V and residuals of one block, dense or CSR."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from dnmf.linalg.csr_products import csr_add_VtW, csr_VHt
from dnmf.linalg.jit import csr_arrays, fused_kernel, unlocked
from dnmf.linalg.matrix import Matrix
from dnmf.linalg.tiles import padded_size, padded_zeros, vectors_of

__all__ = ["add_WtV", "gram", "product_VHt", "residual_sumsq", "row_residual", "wide_VHt",
           "zero_WtV"]  # fmt: skip


WIDE_ROWS = 1 << 18
"""Entries of a dense block that are copied to float64 at once."""

AT_ONCE = 16
"""Rows of H that are."""


def product_VHt(V: Matrix, H: np.ndarray, Ht: np.ndarray | None) -> np.ndarray:
    """Compute V H' of a block.

    Parameters
    ----------
    V : (m, d) array or CSR array
    H : (k, d) array
        H in the dtype of V.
    Ht : (d, kp) array
        H', `padded`, needed for CSR only: a nonzero then touches one contiguous row.

    Returns
    -------
    (m, k) array, C-contiguous
    """
    if isinstance(V, np.ndarray):
        return V @ H.T
    assert Ht is not None
    out = np.empty((V.shape[0], H.shape[0]), H.dtype)
    csr_VHt(*csr_arrays(V), unlocked(Ht), out, vectors_of(H.shape[0]))
    return out


def wide_VHt(V: Matrix, H: np.ndarray) -> np.ndarray:
    """Compute V H' of a float32 block in float64, with float64 copies of some rows at a time."""
    out = np.empty((V.shape[0], H.shape[0]))
    height = max(1, WIDE_ROWS // max(V.shape[1], 1)) if isinstance(V, np.ndarray) else V.shape[0]
    for t in range(0, H.shape[0], AT_ONCE):
        some = H[t : t + AT_ONCE].T.astype(np.float64, order="C")
        for a in range(0, V.shape[0], height):
            out[a : a + height, t : t + AT_ONCE] = V[a : a + height].astype(np.float64) @ some
    return out


def zero_WtV(k: int, d: int, dtype: np.dtype, sparse: bool) -> np.ndarray:
    """Return the (k, d) zeros that `add_WtV` adds to: float64 for a dense V.

    For CSR they have the dtype of W and lie by columns, in rows of whole vectors.
    """
    return padded_zeros(d, k, dtype)[:, :k].T if sparse else np.zeros((k, d))


def add_WtV(V: Matrix, W: np.ndarray, total: np.ndarray) -> None:
    """Add W' V of a block to ``total``, which is from `zero_WtV` (or some rows of it, dense)."""
    if isinstance(V, np.ndarray):
        total += W.T @ V
        return
    k = W.shape[1]
    if total.strides[1] < padded_size(k) * total.itemsize:
        raise ValueError("W' V of a sparse block is added to an array from zero_WtV")
    csr_add_VtW(*csr_arrays(V), unlocked(W), total.T, vectors_of(k))


def gram(X: np.ndarray) -> np.ndarray:
    """Compute X' X of a tall (m, k) array from a float64 copy; exactly symmetric."""
    X64 = X.astype(np.float64, copy=False)
    out = np.ascontiguousarray(X64.T @ X64)
    above = _above(out.shape[0])
    out[above] = out.T[above]
    return out


@lru_cache(maxsize=64)
def _above(k: int) -> tuple[np.ndarray, ...]:
    """Return which entries of a k x k matrix are above its diagonal."""
    return np.triu_indices(k, 1)


def residual_sumsq(
    V: Matrix, W: np.ndarray, H: np.ndarray, Ht: np.ndarray | None, G: np.ndarray, tile: int
) -> float:
    """Sum |V - W H|^2 entry by entry: exact where |V|^2 - 2 <V H', W> + ... cancels.

    ``G`` is H H' in float64; it and ``Ht`` are what CSR needs. Of a dense V ``tile`` entries of W H
    are made at once, or one row.
    """
    if not isinstance(V, np.ndarray):
        assert Ht is not None
        return float(_csr_residual(*csr_arrays(V), unlocked(W), unlocked(Ht), G))
    total, height = 0.0, max(1, tile // V.shape[1])
    for start in range(0, V.shape[0], height):
        rows = slice(start, start + height)
        total += float(_sumsq_difference(unlocked(V[rows]), W[rows] @ H))
    return total


def row_residual(V: Matrix, row: int, w: np.ndarray, H: np.ndarray) -> np.ndarray:
    """Return the non-negative part of ``v - w H`` of one row, a (d,) array."""
    if isinstance(V, np.ndarray):
        v = V[row]
    else:
        v = np.zeros(V.shape[1], H.dtype)
        part = slice(V.indptr[row], V.indptr[row + 1])
        v[V.indices[part]] = V.data[part]
    return np.maximum(v - w @ H, 0)


@fused_kernel
def _sumsq_difference(A, B):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(A.shape[0]):
        for j in range(A.shape[1]):
            x = np.float64(A[i, j]) - np.float64(B[i, j])
            total += x * x
    return total


@fused_kernel
def _csr_residual(data, indices, indptr, W, Ht, G):  # type: ignore[no-untyped-def]
    # sum over nonzeros of (v - wh)^2, and w G w' less the nonzeros' (wh)^2 for the zeros
    k = W.shape[1]
    total = 0.0
    for i in range(W.shape[0]):
        w = W[i]
        zeros = 0.0
        for s in range(k):
            for t in range(k):
                zeros += np.float64(w[s]) * G[s, t] * np.float64(w[t])
        for p in range(indptr[i], indptr[i + 1]):
            h = Ht[indices[p]]
            fit = 0.0
            for t in range(k):
                fit += np.float64(w[t]) * np.float64(h[t])
            zeros -= fit * fit
            difference = np.float64(data[p]) - fit
            total += difference * difference
        total += max(zeros, 0.0)
    return total
