"""Common parts of kernels on CSR tiles: padded factors, order by columns, small sums.

Factors are padded with zeros to whole vectors of components, so that inner loops have no rest.
"""

from __future__ import annotations

import numpy as np

from dnmf.linalg.jit import inlined, kernel
from dnmf.linalg.simd import (
    LANES,
    LINE,
    fma,
    load,
    prefetch,
    splat_at,
    store,
    store_totals,
    total,
)

__all__ = ["MOST_VECTORS", "add_gram", "add_rows", "column_order", "dot", "dots", "fetch_ahead",
           "four_dots", "gather", "packed_size", "padded", "padded_size", "padded_zeros",
           "rows_in_lines", "vectors_of", "width"]  # fmt: skip

AHEAD = 16
"""Entries by which rows are asked for before their use; of 4, 8 and 32 none was better."""

MOST_VECTORS = 4
"""Vectors of components up to which kernels are compiled for their number."""

TALL = 8
"""Rows of a Gram matrix that are summed in registers at once; `_gram_tile` writes them out."""


def padded(X: np.ndarray) -> np.ndarray:
    """Return a C-contiguous copy of a (r, k) array, padded with zero columns to whole vectors."""
    out = padded_zeros(X.shape[0], X.shape[1], X.dtype)
    out[:, : X.shape[1]] = X
    return out


def padded_size(k: int) -> int:
    """Return the length of a row of k numbers, padded to whole vectors."""
    return -(-k // LANES) * LANES


def padded_zeros(rows: int, k: int, dtype: np.dtype) -> np.ndarray:
    """Return zeros for padded rows of k numbers; no vector lies across two cache lines.

    NumPy aligns to 16 bytes only; then each vector of 64 takes two lines.
    """
    nbytes = rows * padded_size(k) * dtype.itemsize
    memory = np.zeros(nbytes + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + nbytes].view(dtype).reshape(rows, padded_size(k))


def packed_size(k: int) -> int:
    """Return the number of entries of a symmetric k x k matrix."""
    return k * (k + 1) // 2


@kernel
def rows_in_lines(rows, like):  # type: ignore[no-untyped-def]
    """Return `padded_zeros` for rows as wide as those of ``like``, inside kernels."""
    kp, item = like.shape[1], like.itemsize
    memory = np.zeros(rows * kp + LINE // item, like.dtype)
    start = -memory.ctypes.data % LINE // item
    return memory[start : start + rows * kp].reshape((rows, kp))


def vectors_of(k: int) -> tuple[int, ...]:
    """Return as many ones as a row of k numbers has vectors, if few.

    Kernels that take it are compiled for each number of vectors, which loops then know; with more
    than `MOST_VECTORS` they ask.
    """
    vectors = padded_size(k) // LANES
    return (1,) * vectors if vectors <= MOST_VECTORS else ()


@kernel
def width(padded, vectors):  # type: ignore[no-untyped-def]
    """Return the length of a row of a `padded` array, from what `vectors_of` says."""
    if len(vectors):
        return len(vectors) * LANES
    return (padded.shape[1] + LANES - 1) // LANES * LANES


# Kernels take arrays and positions in them, not slices of arrays: the references of a slice would
# be counted at every call, which takes as long as a row.


@inlined
def fetch_ahead(X, indices, p, stride, kp):  # type: ignore[no-untyped-def]
    """Ask for the row of X that entry p + AHEAD of a block needs; rows begin every ``stride``.

    Rows of entries lie anywhere. Where H' was larger than the second cache, two threads at once
    took 1.3 to 2 times as long as one, and as long as one since (`benchmarks/README.md`).
    """
    row = np.int64(indices[min(p + AHEAD, indices.size - 1)]) * stride
    for u in range(0, kp, LANES):
        prefetch(X, row + u)


@kernel
def gather(A, X, rows, begin, size):  # type: ignore[no-untyped-def]
    """Copy the rows of X in ``begin`` to ``begin + size`` of a list into A, one after the other."""
    kp = X.shape[1]
    for p in range(size):
        row = np.int64(rows[begin + p]) * kp
        for u in range(0, kp, LANES):
            store(A, p * kp + u, load(X, row + u))


@kernel
def dot(A, a, W, w, kp):  # type: ignore[no-untyped-def]
    """Return the product of the rows that begin at ``a`` of A and ``w`` of W."""
    x = load(A, a) * load(W, w)
    for u in range(LANES, kp, LANES):
        x = fma(load(A, a + u), load(W, w + u), x)
    return total(x)


@kernel
def four_dots(out, p, A, a, b, c, d, W, w, kp):  # type: ignore[no-untyped-def]
    """Write the products of four rows of A to ``out`` from p on: each has the bits of `dot`."""
    y = load(W, w)
    x0, x1, x2, x3 = load(A, a) * y, load(A, b) * y, load(A, c) * y, load(A, d) * y
    for u in range(LANES, kp, LANES):
        y = load(W, w + u)
        x0, x1 = fma(load(A, a + u), y, x0), fma(load(A, b + u), y, x1)
        x2, x3 = fma(load(A, c + u), y, x2), fma(load(A, d + u), y, x3)
    store_totals(out, p, x0, x1, x2, x3)


@kernel
def dots(out, A, o, size, W, i):  # type: ignore[no-untyped-def]
    """Write the products of rows of A with row i of W, at ``o`` of ``out`` too."""
    kp = A.shape[1]
    whole = o + size - size % 4
    for p in range(o, whole, 4):
        a = p * kp
        four_dots(out, p, A, a, a + kp, a + 2 * kp, a + 3 * kp, W, i * kp, kp)
    for p in range(whole, o + size):
        out[p] = dot(A, p * kp, W, i * kp, kp)


@kernel
def add_rows(out, r, q, a, A, o, size):  # type: ignore[no-untyped-def]
    """Add sum_p q_p A_p to row r of ``out``, in four sums."""
    kp = A.shape[1]
    whole = size - size % 4
    for u in range(0, kp, LANES):
        x0 = load(out, r * kp + u)
        x1 = x0 - x0
        x2, x3 = x1, x1
        for p in range(0, whole, 4):
            b = (o + p) * kp + u
            x0 = fma(splat_at(q, a + p), load(A, b), x0)
            x1 = fma(splat_at(q, a + p + 1), load(A, b + kp), x1)
            x2 = fma(splat_at(q, a + p + 2), load(A, b + 2 * kp), x2)
            x3 = fma(splat_at(q, a + p + 3), load(A, b + 3 * kp), x3)
        for p in range(whole, size):
            x0 = fma(splat_at(q, a + p), load(A, (o + p) * kp + u), x0)
        store(out, r * kp + u, (x0 + x1) + (x2 + x3))


@kernel
def add_gram(K, s, a, A, o, size, k):  # type: ignore[no-untyped-def]
    """Add sum_p s_p A_p' A_p to K: its lower triangle, in tiles that reach beyond it."""
    half = TALL // 2
    for t in range(0, k, TALL):
        wide = (t + half + LANES - 1) // (2 * LANES) * 2 * LANES if k - t <= half else 0
        for u in range(0, wide, 2 * LANES):
            _wide_tile(K, s, a, A, o, size, t, u)
        for u in range(wide, t + (half if wide else TALL), LANES):
            _gram_tile(K, s, a, A, o, size, t, u)


@inlined
def _gram_tile(K, s, a, A, o, size, t, u):  # type: ignore[no-untyped-def]
    # TALL rows, one vector wide
    kp = A.shape[1]
    x, y = t * kp + u, (t + 4) * kp + u
    k0, k1, k2, k3 = load(K, x), load(K, x + kp), load(K, x + 2 * kp), load(K, x + 3 * kp)
    k4, k5, k6, k7 = load(K, y), load(K, y + kp), load(K, y + 2 * kp), load(K, y + 3 * kp)
    for p in range(size):
        b = (o + p) * kp
        v = load(A, b + u) * splat_at(s, a + p)
        b += t
        k0 = fma(splat_at(A, b), v, k0)
        k1 = fma(splat_at(A, b + 1), v, k1)
        k2 = fma(splat_at(A, b + 2), v, k2)
        k3 = fma(splat_at(A, b + 3), v, k3)
        k4 = fma(splat_at(A, b + 4), v, k4)
        k5 = fma(splat_at(A, b + 5), v, k5)
        k6 = fma(splat_at(A, b + 6), v, k6)
        k7 = fma(splat_at(A, b + 7), v, k7)
    _store_four(K, x, kp, k0, k1, k2, k3)
    _store_four(K, y, kp, k4, k5, k6, k7)


@inlined
def _wide_tile(K, s, a, A, o, size, t, u):  # type: ignore[no-untyped-def]
    # half as tall, two vectors wide
    kp = A.shape[1]
    x, y = t * kp + u, t * kp + u + LANES
    k0, k1, k2, k3 = load(K, x), load(K, x + kp), load(K, x + 2 * kp), load(K, x + 3 * kp)
    k4, k5, k6, k7 = load(K, y), load(K, y + kp), load(K, y + 2 * kp), load(K, y + 3 * kp)
    for p in range(size):
        b = (o + p) * kp
        scale = splat_at(s, a + p)
        v, w = load(A, b + u) * scale, load(A, b + u + LANES) * scale
        b += t
        one = splat_at(A, b)
        k0, k4 = fma(one, v, k0), fma(one, w, k4)
        one = splat_at(A, b + 1)
        k1, k5 = fma(one, v, k1), fma(one, w, k5)
        one = splat_at(A, b + 2)
        k2, k6 = fma(one, v, k2), fma(one, w, k6)
        one = splat_at(A, b + 3)
        k3, k7 = fma(one, v, k3), fma(one, w, k7)
    _store_four(K, x, kp, k0, k1, k2, k3)
    _store_four(K, y, kp, k4, k5, k6, k7)


@inlined
def _store_four(K, x, kp, k0, k1, k2, k3):  # type: ignore[no-untyped-def]
    store(K, x, k0)
    store(K, x + kp, k1)
    store(K, x + 2 * kp, k2)
    store(K, x + 3 * kp, k3)


@kernel
def column_order(indices, indptr, first, last, d):  # type: ignore[no-untyped-def]
    """Order the nonzeros of rows ``first`` to ``last`` by column (a stable counting sort).

    Returns
    -------
    starts : (d + 1,) int64 array
    rows, positions : (nnz,) int32 and int64 arrays
        Row and position of each nonzero, columns in order, rows ascending within each.
    """
    starts = np.zeros(d + 1, np.int64)
    for p in range(indptr[first], indptr[last]):
        starts[indices[p] + 1] += 1
    for c in range(d):
        starts[c + 1] += starts[c]
    size = indptr[last] - indptr[first]
    rows = np.empty(size, np.int32)
    positions = np.empty(size, np.int64)
    heads = starts[:-1].copy()
    for i in range(first, last):
        for p in range(indptr[i], indptr[i + 1]):
            position = heads[indices[p]]
            rows[position] = i
            positions[position] = p
            heads[indices[p]] = position + 1
    return starts, rows, positions
