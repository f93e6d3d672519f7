"""Kullback-Leibler: what H needs of one CSR tile, and the steps of H."""

from __future__ import annotations

import numpy as np

from dnmf.linalg.jit import kernel
from dnmf.linalg.kl import HIGHEST, LOWEST, em_step
from dnmf.linalg.tiles import add_gram, add_rows, dot

__all__ = ["kl_H", "kl_columns"]

GATHER = 64
SWEEPS = 100


@kernel
def kl_columns(  # type: ignore[no-untyped-def]
    data, weights, starts, rows, places, W, Ht, k, curvature, masked, total, of_rows
):
    """Add S and K of a tile to ``total`` (d, r); returns sums for the objective.

    Parameters
    ----------
    data, weights : (nnz,) arrays
        Entries times their weights, and these; empty where each weighs 1.
    starts, rows, places
        From `column_order`.
    curvature : int
        0: only S; 1: S and the diagonal of K; 2: S and K packed by rows of its lower triangle.
    masked : bool
        Add the sums of W over each column's entries, as the last k of its sums.
    of_rows : (m,) float64 array
        Receives the rows' sums of v log(v / wh) - v + wh over their nonzeros.

    Returns
    -------
    divergence, fitted : float
        Sums over the nonzeros of v log(v / wh) - v + wh, and of wh.
    """
    kp = W.shape[1]
    g = np.zeros(kp, W.dtype)
    K = np.zeros((kp, kp), W.dtype)
    present = np.zeros(kp, W.dtype)
    A = np.zeros((GATHER, kp), W.dtype)
    q = np.empty(GATHER, W.dtype)
    m = np.ones(GATHER, W.dtype)
    s = np.empty(GATHER, W.dtype)
    tiny = np.finfo(W.dtype).tiny
    divergence = 0.0
    fitted = 0.0
    for c in range(starts.size - 1):
        if starts[c] == starts[c + 1]:
            continue
        h = Ht[c]
        g[:] = 0
        present[:] = 0
        if curvature:
            K[:] = 0
        for at in range(starts[c], starts[c + 1], GATHER):
            size = min(GATHER, starts[c + 1] - at)
            for p in range(size):
                v = data[places[at + p]]
                A[p] = W[rows[at + p]]
                wh = dot(A[p], h)
                fitted += np.float64(wh)
                wh = max(wh, tiny)
                weighed = np.float64(wh)
                if weights.size:
                    m[p] = weights[places[at + p]]
                    weighed *= np.float64(m[p])
                part = weighed - np.float64(v)
                if v > 0:
                    part += np.float64(v) * np.log(np.float64(v) / weighed)
                divergence += part
                of_rows[rows[at + p]] += part
                q[p] = v / wh
                s[p] = q[p] / wh
            add_rows(g, q, A, size)
            if masked:
                add_rows(present, m, A, size)
            if curvature == 2:
                add_gram(K, s, A, size, k)
            elif curvature == 1:
                for p in range(size):
                    for t in range(k):
                        K[t, t] += s[p] * A[p, t] * A[p, t]
        sums = total[c]
        if masked:
            for t in range(k):
                sums[total.shape[1] - k + t] += present[t]
        at_K = k
        for t in range(k):
            sums[t] += h[t] * g[t]
            if curvature == 1:
                sums[k + t] += h[t] * h[t] * K[t, t]
            elif curvature == 2:
                for u in range(t + 1):
                    sums[at_K] += h[t] * h[u] * K[t, u]
                    at_K += 1
    return divergence, fitted


@kernel
def _model_column(h, first, w_sums, l2, S, K, e, gradient):  # type: ignore[no-untyped-def]
    # minimise (D - S)'(e - 1) + 1/2 (e - 1)' K (e - 1) in the box; returns the model's decrease
    k = h.size
    for t in range(k):
        e[t] = 1.0
        gradient[t] = h[t] * (w_sums[t] + l2 * h[t]) - S[t]
    decrease = 0.0
    for _ in range(SWEEPS):
        moved = 0.0
        size = 0.0
        for t in range(first, k):
            curvature = K[t, t] + l2 * h[t] * h[t]
            if not curvature > 0.0:
                continue
            x = min(max(e[t] - gradient[t] / curvature, LOWEST), HIGHEST)
            delta = x - e[t]
            size += curvature
            if delta != 0.0:
                decrease -= delta * (gradient[t] + 0.5 * curvature * delta)
                e[t] = x
                gradient[t] += l2 * h[t] * h[t] * delta
                for u in range(k):
                    gradient[u] += delta * K[t, u]
                moved += curvature * delta * delta
        if moved <= 1e-8 * size:
            break
    return decrease


@kernel
def _fill_K(k, S, K, wide):  # type: ignore[no-untyped-def]
    # K of one column: packed, or its diagonal with off-diagonals r_t r_u / sum(r), r = S - diag K
    if wide.size == k + k * (k + 1) // 2:
        position = k
        for t in range(k):
            for u in range(t + 1):
                K[t, u] = wide[position]
                K[u, t] = wide[position]
                position += 1
        return
    total = 0.0
    for t in range(k):
        total += max(S[t] - wide[k + t], 0.0)
    for t in range(k):
        for u in range(k):
            rest = max(S[t] - wide[k + t], 0.0) * max(S[u] - wide[k + u], 0.0)
            K[t, u] = rest / total if total > 0.0 else 0.0
        K[t, t] = wide[k + t]


@kernel
def kl_H(wide, Ht, first, w_all, l2, columns, rescale, em, bold):  # type: ignore[no-untyped-def]
    """The multiplicative and the curvature step of a slab's columns.

    Parameters
    ----------
    wide : (slab, r) float64 array
        S and, where r > k, K of each column.
    Ht : (slab, k) float64 array
    first : int
        Components before it are held.
    w_all : (slab, k) float64 array
        Sums of the columns of W (over each column's entries), plus the l1 penalty.
    columns : (slab,) float64 array
        Sums of V's columns.
    rescale : bool
        Scale bold columns so that sum_t w_sums_t h_t is the column's sum.
    em, bold : (slab, k) float64 arrays
        Receive the new columns.

    Returns
    -------
    kkt, gain, bold_gain : float
        The projected gradient in the metric of the multiplicative step; what that step lowers the
        objective by at least; what the curvature step lowers the second-order model by.
    """
    k = Ht.shape[1]
    K = np.zeros((k, k))
    e, gradient = np.empty(k), np.empty(k)
    kkt = 0.0
    gain = 0.0
    bold_gain = 0.0
    for c in range(Ht.shape[0]):
        h, S, w_sums = Ht[c], wide[c, :k], w_all[c]
        em_step(h, S / np.where(h > 0.0, h, 1.0), w_sums, l2, em[c], k)
        if columns[c] <= 0.0:  # nothing was seen, or nothing but zeros
            em[c] = 0.0
        em[c, :first] = h[:first]
        for t in range(first, k):
            should = h[t] * (w_sums[t] + l2 * h[t])
            if should > 0.0:
                kkt += (should - S[t]) ** 2 / should
                x = em[c, t]
                gain += w_sums[t] * (h[t] - x) + 0.5 * l2 * (h[t] * h[t] - x * x)
                if S[t] > 0.0 and x > 0.0:
                    gain += S[t] * np.log(x / h[t])
        if wide.shape[1] == k:
            continue
        _fill_K(k, S, K, wide[c])
        bold_gain += _model_column(h, first, w_sums, l2, S, K, e, gradient)
        mass = 0.0
        wanted = columns[c]
        for t in range(k):
            bold[c, t] = h[t] * e[t]
            if t < first:
                wanted -= w_sums[t] * bold[c, t]
            else:
                mass += w_sums[t] * bold[c, t]
        if rescale and mass > 0.0 and wanted > 0.0:
            bold[c, first:] *= wanted / mass
    return kkt, gain, bold_gain
