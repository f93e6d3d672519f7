"""What kernels on CSR tiles share: padded factors, order by columns, small sums.

Factors are padded with zeros to a multiple of four components, so that inner loops have four
accumulators in a fixed order: vector code without fast-math.
"""

from __future__ import annotations

import numpy as np

from dnmf.linalg.jit import fused_kernel, kernel

__all__ = ["add_gram", "add_rows", "column_order", "dot", "packed_size", "padded"]

PAD = 4


def padded(X: np.ndarray) -> np.ndarray:
    """A C-contiguous copy of a (r, k) array with zero columns up to a multiple of four."""
    wide = -(-X.shape[1] // PAD) * PAD
    out = np.zeros((X.shape[0], wide), X.dtype)
    out[:, : X.shape[1]] = X
    return out


def packed_size(k: int) -> int:
    """Entries of a symmetric k x k matrix."""
    return k * (k + 1) // 2


@fused_kernel
def dot(a, b):  # type: ignore[no-untyped-def]
    # vectors for it: 10 times faster than four accumulators by hand
    total = a[0] * b[0]
    for t in range(1, a.size):
        total += a[t] * b[t]
    return total


@fused_kernel
def add_rows(out, q, A, size):  # type: ignore[no-untyped-def]
    # out += sum_p q_p A_p, four rows at a time
    k = out.size
    whole = size - size % 4
    for p in range(0, whole, 4):
        a0, a1, a2, a3 = A[p], A[p + 1], A[p + 2], A[p + 3]
        q0, q1, q2, q3 = q[p], q[p + 1], q[p + 2], q[p + 3]
        for t in range(k):
            out[t] += q0 * a0[t] + q1 * a1[t] + q2 * a2[t] + q3 * a3[t]
    for p in range(whole, size):
        a0, q0 = A[p], q[p]
        for t in range(k):
            out[t] += q0 * a0[t]


@fused_kernel
def add_gram(K, s, A, size, k):  # type: ignore[no-untyped-def]
    # K += sum_p s_p A_p' A_p: its lower triangle, row t up to a multiple of eight beyond t
    kp = K.shape[1]
    whole = size - size % 4
    for p in range(0, whole, 4):
        a0, a1, a2, a3 = A[p], A[p + 1], A[p + 2], A[p + 3]
        s0, s1, s2, s3 = s[p], s[p + 1], s[p + 2], s[p + 3]
        for t in range(k):
            row = K[t]
            c0, c1, c2, c3 = s0 * a0[t], s1 * a1[t], s2 * a2[t], s3 * a3[t]
            for u in range(min(kp, (t // 8 + 1) * 8)):
                row[u] += c0 * a0[u] + c1 * a1[u] + c2 * a2[u] + c3 * a3[u]
    for p in range(whole, size):
        a0 = A[p]
        for t in range(k):
            row = K[t]
            c0 = s[p] * a0[t]
            for u in range(min(kp, (t // 8 + 1) * 8)):
                row[u] += c0 * a0[u]


@kernel
def column_order(indices, indptr, first, last, d):  # type: ignore[no-untyped-def]
    """Nonzeros of rows ``first`` to ``last`` by column (a stable counting sort).

    Returns
    -------
    starts : (d + 1,) int64 array
    rows, places : (nnz,) int32 and int64 arrays
        Row and position of each nonzero, columns in order, rows ascending within each.
    """
    starts = np.zeros(d + 1, np.int64)
    for p in range(indptr[first], indptr[last]):
        starts[indices[p] + 1] += 1
    for c in range(d):
        starts[c + 1] += starts[c]
    size = indptr[last] - indptr[first]
    rows = np.empty(size, np.int32)
    places = np.empty(size, np.int64)
    heads = starts[:-1].copy()
    for i in range(first, last):
        for p in range(indptr[i], indptr[i + 1]):
            place = heads[indices[p]]
            rows[place] = i
            places[place] = p
            heads[indices[p]] = place + 1
    return starts, rows, places
