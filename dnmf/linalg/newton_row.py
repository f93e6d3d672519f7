"""What `newton` reads of one row of V: its entries, and rows of H' at them in float64."""

from __future__ import annotations

import math

import numpy as np

from dnmf.linalg.jit import kernel
from dnmf.linalg.tiles import add_gram, add_rows, dots

__all__ = ["COLUMNS", "absent_sums", "fit_row", "open_row", "scale_row", "sum_row"]

COLUMNS = 1024
"""Entries whose rows of H' are copied together."""


@kernel
def _gather(H, Ht, columns, begin, first, size, A):  # type: ignore[no-untyped-def]
    # rows of H' of some entries; without ``columns`` of all columns, without H' from H
    for p in range(size):
        c = np.int64(columns[begin + first + p]) if columns.size else first + p
        if Ht.shape[0]:
            for t in range(H.shape[0]):
                A[p, t] = Ht[c, t]
        else:
            for t in range(H.shape[0]):
                A[p, t] = H[t, c]


@kernel
def fit_row(H, Ht, columns, begin, size, W, A, part, fits):  # type: ignore[no-untyped-def]
    # w h of all entries, for W (1, kp); short rows are in A already
    for a in range(0, size, COLUMNS):
        some = min(COLUMNS, size - a)
        if size > COLUMNS:
            _gather(H, Ht, columns, begin, a, some, A)
        dots(part, A, 0, some, W, 0)
        for p in range(some):
            fits[a + p] = part[p]


@kernel
def sum_row(H, Ht, columns, begin, size, slope, curvature, A, g, K, whole):  # type: ignore[no-untyped-def]
    # g += sum_p slope_p h_p, and K += sum_p curvature_p h_p' h_p where ``whole``
    for a in range(0, size, COLUMNS):
        some = min(COLUMNS, size - a)
        if size > COLUMNS:
            _gather(H, Ht, columns, begin, a, some, A)
        add_rows(g, 0, slope, a, A, 0, some)
        if whole:
            add_gram(K, curvature, a, A, 0, some, H.shape[0])


@kernel
def absent_sums(Ht, columns, begin, size, linear):  # type: ignore[no-untyped-def]
    # sums of H over the columns that the row does not store: no digit cancels
    p = 0
    linear[:] = 0.0
    for c in range(Ht.shape[0]):
        while p < size and columns[begin + p] < c:
            p += 1
        if p < size and columns[begin + p] == c:
            continue
        for t in range(linear.size):
            linear[t] += Ht[c, t]


@kernel
def open_row(data, indices, indptr, weights, i, full, d, v, weight):  # type: ignore[no-untyped-def]
    # entries of row i; returns where they begin, and their number
    if not indptr.size:  # dense
        begin, size = i * d, np.int64(d)
    else:
        begin, size = np.int64(indptr[i]), np.int64(indptr[i + 1] - indptr[i])
    if full and indptr.size:  # what is not stored counts too
        for c in range(d):
            v[c], weight[c] = 0.0, 1.0
        for p in range(begin, begin + size):
            v[indices[p]] = data[p]
        return np.int64(0), np.int64(d)
    for p in range(size):
        v[p] = data[begin + p]
        weight[p] = weights[begin + p] if weights.size else 1.0
    return begin, size


@kernel
def scale_row(v, weight, lost, A, H, Ht, columns, begin, size):  # type: ignore[no-untyped-def]
    # divide v by a power of two, which is returned, 0 for a row of zeros; entries that H does not
    # reach are left out: ``lost`` receives their weights
    largest = 0.0
    for a in range(0, size, COLUMNS):
        some = min(COLUMNS, size - a)
        _gather(H, Ht, columns, begin, a, some, A)
        for p in range(some):
            reached = False
            for t in range(H.shape[0]):
                reached |= A[p, t] > 0.0
            lost[a + p] = 0.0 if reached else weight[a + p]
            if not reached:
                weight[a + p] = 0.0
            elif weight[a + p] > 0.0:
                largest = max(largest, v[a + p])
    if not largest > 0.0:
        return 0.0
    scale = 2.0 ** math.frexp(largest)[1]
    for p in range(size):
        v[p] /= scale
    return scale
