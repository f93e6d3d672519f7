"""V H' and W' V of CSR blocks by explicit vectors: every nonzero takes whole vectors of components.

Rows of H', and of the sums that W' V is added to, are `padded`: they have no rest.
"""

from __future__ import annotations

import numpy as np

from dnmf.linalg.jit import inlined, kernel
from dnmf.linalg.simd import LANES, fma, load, splat_at, store
from dnmf.linalg.tiles import fetch_ahead, width

__all__ = ["csr_VHt", "csr_add_VtW"]

RUN = 512
"""Entries of a row that are summed before they join the sum of the row."""


@kernel
def csr_VHt(data, indices, indptr, Ht, out, vectors):  # type: ignore[no-untyped-def]
    """Compute V H' of a block.

    Entries are summed in runs, as one long float32 sum drifts by several units of rounding.

    Parameters
    ----------
    data, indices, indptr
        A CSR block.
    Ht : (d, kp) array
        H', `padded`.
    out : (m, k) array
        Receives the product.
    vectors : tuple
        From `vectors_of`.
    """
    k, kp = out.shape[1], width(Ht, vectors)
    part, zeros = np.empty(kp, out.dtype), np.zeros(LANES, out.dtype)
    for i in range(out.shape[0]):
        part[:] = 0
        for first in range(indptr[i], indptr[i + 1], RUN):
            last = min(first + RUN, indptr[i + 1])
            pairs = kp // (2 * LANES) * 2 * LANES
            for u in range(0, pairs, 2 * LANES):
                _two(part, zeros, data, indices, first, last, Ht, kp, u)
            if pairs < kp:
                _one(part, zeros, data, indices, first, last, Ht, kp, pairs)
        for t in range(k):
            out[i, t] = part[t]


# Four entries at a time, whichever of the two it is: where a component lies among those that share
# a product must not change the order of its sum.


@inlined
def _two(part, zeros, data, indices, first, last, Ht, kp, u):  # type: ignore[no-untyped-def]
    # two vectors of components
    x0 = load(zeros, 0)
    x1, x2, x3, y0, y1, y2, y3 = x0, x0, x0, x0, x0, x0, x0
    whole = first + (last - first) // 4 * 4
    for p in range(first, whole, 4):
        a, v = np.int64(indices[p]) * kp + u, splat_at(data, p)
        x0, y0 = fma(v, load(Ht, a), x0), fma(v, load(Ht, a + LANES), y0)
        a, v = np.int64(indices[p + 1]) * kp + u, splat_at(data, p + 1)
        x1, y1 = fma(v, load(Ht, a), x1), fma(v, load(Ht, a + LANES), y1)
        a, v = np.int64(indices[p + 2]) * kp + u, splat_at(data, p + 2)
        x2, y2 = fma(v, load(Ht, a), x2), fma(v, load(Ht, a + LANES), y2)
        a, v = np.int64(indices[p + 3]) * kp + u, splat_at(data, p + 3)
        x3, y3 = fma(v, load(Ht, a), x3), fma(v, load(Ht, a + LANES), y3)
    for p in range(whole, last):
        a, v = np.int64(indices[p]) * kp + u, splat_at(data, p)
        x0, y0 = fma(v, load(Ht, a), x0), fma(v, load(Ht, a + LANES), y0)
    store(part, u, load(part, u) + ((x0 + x1) + (x2 + x3)))
    store(part, u + LANES, load(part, u + LANES) + ((y0 + y1) + (y2 + y3)))


@inlined
def _one(part, zeros, data, indices, first, last, Ht, kp, u):  # type: ignore[no-untyped-def]
    # one vector
    x0 = load(zeros, 0)
    x1, x2, x3 = x0, x0, x0
    whole = first + (last - first) // 4 * 4
    for p in range(first, whole, 4):
        x0 = fma(splat_at(data, p), load(Ht, np.int64(indices[p]) * kp + u), x0)
        x1 = fma(splat_at(data, p + 1), load(Ht, np.int64(indices[p + 1]) * kp + u), x1)
        x2 = fma(splat_at(data, p + 2), load(Ht, np.int64(indices[p + 2]) * kp + u), x2)
        x3 = fma(splat_at(data, p + 3), load(Ht, np.int64(indices[p + 3]) * kp + u), x3)
    for p in range(whole, last):
        x0 = fma(splat_at(data, p), load(Ht, np.int64(indices[p]) * kp + u), x0)
    store(part, u, load(part, u) + ((x0 + x1) + (x2 + x3)))


@kernel
def csr_add_VtW(data, indices, indptr, W, total, vectors):  # type: ignore[no-untyped-def]
    """Add V' W of a block to ``total``.

    Parameters
    ----------
    data, indices, indptr
        A CSR block.
    W : (m, k) array
    total : (d, k) array
        The first k columns of an array of `padded_zeros`: what lies beyond stays 0.
    vectors : tuple
        From `vectors_of`.
    """
    k, kp = W.shape[1], width(total, vectors)
    stride = total.strides[0] // total.itemsize
    w = np.zeros(kp, W.dtype)
    for i in range(W.shape[0]):
        for t in range(k):
            w[t] = W[i, t]
        for p in range(indptr[i], indptr[i + 1]):
            fetch_ahead(total, indices, p, stride, kp)
            c, v = np.int64(indices[p]) * stride, splat_at(data, p)
            for u in range(0, kp, LANES):
                store(total, c + u, fma(v, load(w, u), load(total, c + u)))
