"""Kullback-Leibler: one multiplicative step of rows of W and what H needs of them, fused.

Each nonzero's row of H' is met twice, at the old and at the new w, and its share of S is added at
the second time: no order by columns, no copies of rows.
"""

from __future__ import annotations

import numpy as np

from dnmf.linalg.jit import kernel
from dnmf.linalg.kl_row import divergence, em, kkt_of_row, start_row, widened
from dnmf.linalg.logs import sum_of
from dnmf.linalg.simd import LANES, fma, load, splat_at, store
from dnmf.linalg.tiles import dot, fetch_ahead, four_dots, width

__all__ = ["kl_mu"]

# ``size`` entries of a row begin at ``a`` of the tile; ``vectors`` makes the number of vectors in
# a row of H' known to the compiler.


@kernel
def _fit(wh, W, i, Ht, S, indices, a, size, again, vectors):  # type: ignore[no-untyped-def]
    # ``again``: rows of H' and S are near
    kp = width(Ht, vectors)
    whole = size - size % 4
    for p in range(0, whole, 4):
        b = a + p
        if not again:
            for q in range(b, b + 4):
                fetch_ahead(Ht, indices, q, kp, kp)
                fetch_ahead(S, indices, q, kp, kp)
        c0, c1 = np.int64(indices[b]) * kp, np.int64(indices[b + 1]) * kp
        c2, c3 = np.int64(indices[b + 2]) * kp, np.int64(indices[b + 3]) * kp
        four_dots(wh, p, Ht, c0, c1, c2, c3, W, i * kp, kp)
    for p in range(whole, size):
        wh[p] = dot(Ht, np.int64(indices[a + p]) * kp, W, i * kp, kp)


@kernel
def _divide(q, data, a, wh, size):  # type: ignore[no-untyped-def]
    zero = wh.dtype.type(0)
    for p in range(size):
        fit = wh[p]
        ratio = data[a + p] / fit
        q[p] = ratio if fit > zero else zero


@kernel
def _explain(g, q, Ht, indices, a, size, vectors):  # type: ignore[no-untyped-def]
    # g = sum_p q_p h_p, in four sums
    kp = width(Ht, vectors)
    g[:] = 0
    whole = size - size % 4
    for u in range(0, kp, LANES):
        x0 = load(g, u)
        x1, x2, x3 = x0, x0, x0
        for p in range(0, whole, 4):
            b = a + p
            x0 = fma(splat_at(q, p), load(Ht, np.int64(indices[b]) * kp + u), x0)
            x1 = fma(splat_at(q, p + 1), load(Ht, np.int64(indices[b + 1]) * kp + u), x1)
            x2 = fma(splat_at(q, p + 2), load(Ht, np.int64(indices[b + 2]) * kp + u), x2)
            x3 = fma(splat_at(q, p + 3), load(Ht, np.int64(indices[b + 3]) * kp + u), x3)
        for p in range(whole, size):
            x0 = fma(splat_at(q, p), load(Ht, np.int64(indices[a + p]) * kp + u), x0)
        store(g, u, (x0 + x1) + (x2 + x3))


@kernel
def _spread(S, g, q, W, i, Ht, indices, a, size, vectors):  # type: ignore[no-untyped-def]
    # g = sum_p q_p h_p, and S of each entry's column += q_p w h_p
    kp = width(Ht, vectors)
    for u in range(0, kp, LANES):
        w = load(W, i * kp + u)
        x = w - w
        for p in range(size):
            c = np.int64(indices[a + p]) * kp + u
            explained = splat_at(q, p) * load(Ht, c)
            x = x + explained
            store(S, c, fma(explained, w, load(S, c)))
        store(g, u, x)


@kernel
def kl_mu(  # type: ignore[no-untyped-def]
    data, indices, indptr, W, Ht, h_all, l2, k, moves, S, of_rows, vectors
):
    """Take one multiplicative step of the rows of W in place, and sum S at the new W.

    Lee and Seung (2001): ``w_t <- w_t sum_c (v_c / (w h)_c) h_tc / h_sums_t``, for each row.

    Parameters
    ----------
    data, indices, indptr
        A CSR tile.
    W : (m, kp) array
        `padded`; rows of zeros start with equal shares.
    Ht : (d, kp) array
        H', `padded`.
    h_all : (kp,) array
        Sums of the rows of H, plus the l1 penalty.
    l2 : float
        Penalty.
    k : int
        Components.
    moves : bool
        Else W stays as it is.
    S : (d, kp) array
        ``sum_i w_it h_tc v_ic / (w h)_ic`` is added to it.
    of_rows : (m,) float64 array
        Receives the rows' sums of v log(v / wh) - v + wh over their nonzeros.
    vectors : tuple of int
        From `vectors_of`.

    Returns
    -------
    kkt, fitted : float
        Returned like those of `kl_rows`.
    """
    m, kp = W.shape
    most = 0
    for i in range(m):
        most = max(most, indptr[i + 1] - indptr[i])
    wh, q, logs = np.empty(most, W.dtype), np.empty(most, W.dtype), np.empty(most)
    g, new = np.zeros((1, kp), W.dtype), np.zeros((1, kp), W.dtype)
    h_rows = np.zeros((1, kp), W.dtype)
    for t in range(kp):  # not as slices: their error messages take seconds to compile
        h_rows[0, t] = h_all[t]
    none = np.zeros(0, W.dtype)
    kkt = fitted = 0.0
    for i in range(m):
        a, size = np.int64(indptr[i]), np.int64(indptr[i + 1] - indptr[i])
        if moves:
            widened(data, a, size, logs)
            mass = sum_of(logs, size)
            if mass > 0.0:
                start_row(W, i, h_rows, 0, mass, k)
                _fit(wh, W, i, Ht, S, indices, a, size, False, vectors)
                _divide(q, data, a, wh, size)
                _explain(g, q, Ht, indices, a, size, vectors)
                em(W, i, g, h_rows, 0, l2, new, k)
                for t in range(kp):
                    W[i, t] = new[0, t]
            else:
                W[i] = 0
        _fit(wh, W, i, Ht, S, indices, a, size, moves, vectors)
        _divide(q, data, a, wh, size)
        _spread(S, g, q, W, i, Ht, indices, a, size, vectors)
        if moves:
            kkt += kkt_of_row(W, i, h_rows, 0, g, l2, k)
        widened(wh, 0, size, logs)
        fitted += sum_of(logs, size)
        divergence(data, none, a, wh, 0, logs, size)
        of_rows[i] = sum_of(logs, size)
    return kkt, fitted
