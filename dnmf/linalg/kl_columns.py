"""Kullback-Leibler: what H needs of one CSR tile, and the steps of H."""

from __future__ import annotations

import numpy as np

from dnmf.linalg.floats import TINY
from dnmf.linalg.jit import kernel
from dnmf.linalg.kl import GROW, SHRINK
from dnmf.linalg.lanes import BOXED, GRADIENT, HIGHEST, INVERSE, LOWEST, X, descend
from dnmf.linalg.logs import log, sum_of
from dnmf.linalg.simd import LANES
from dnmf.linalg.tiles import add_gram, add_rows, gather, rows_in_lines

__all__ = ["kl_H", "kl_columns"]

GATHER = 64
SWEEPS = 100
NEAR = 1e-6


@kernel
def kl_columns(  # type: ignore[no-untyped-def]
    ratios, seconds, weights, starts, rows, positions, W, Ht, k, curvature, masked, total
):
    """Add S and K of a tile to ``total`` (d, r).

    Parameters
    ----------
    ratios, seconds : (nnz,) arrays
        v / wh and v / wh^2 from `kl_rows`.
    weights : (nnz,) array
        Empty where each weighs 1.
    starts, rows, positions
        From `column_order`.
    curvature : int
        0: only S; 1: S and the diagonal of K; 2: S and K packed by rows of its lower triangle.
    masked : bool
        Add the sums of W over each column's entries, as the last k of its sums.
    """
    kp = W.shape[1]
    sums = np.zeros((2, kp), W.dtype)
    K, A = rows_in_lines(kp, W), rows_in_lines(GATHER, W)
    q, s, m = np.empty(GATHER, W.dtype), np.empty(GATHER, W.dtype), np.ones(GATHER, W.dtype)
    for c in range(starts.size - 1):
        if starts[c] == starts[c + 1]:
            continue
        sums[:] = 0
        if curvature:
            K[:] = 0
        for begin in range(starts[c], starts[c + 1], GATHER):
            size = min(GATHER, starts[c + 1] - begin)
            gather(A, W, rows, begin, size)
            for p in range(size):
                position = positions[begin + p]
                q[p] = ratios[position]
                s[p] = seconds[position]
                if weights.size:
                    m[p] = weights[position]
            add_rows(sums, 0, q, 0, A, 0, size)
            if masked:
                add_rows(sums, 1, m, 0, A, 0, size)
            if curvature == 2:
                add_gram(K, s, 0, A, 0, size, k)
            elif curvature == 1:
                _add_diagonal(K, s, A, size, k)
        _add_column(total, Ht, c, sums, K, k, curvature, masked)


@kernel
def _add_diagonal(K, s, A, size, k):  # type: ignore[no-untyped-def]
    for p in range(size):
        for t in range(k):
            K[t, t] += s[p] * A[p, t] * A[p, t]


@kernel
def _add_column(total, Ht, c, sums, K, k, curvature, masked):  # type: ignore[no-untyped-def]
    if masked:
        for t in range(k):
            total[c, total.shape[1] - k + t] += sums[1, t]
    row = k
    for t in range(k):
        h = Ht[c, t]
        total[c, t] += h * sums[0, t]
        if curvature == 1:
            total[c, k + t] += h * h * K[t, t]
        elif curvature == 2:
            for u in range(t + 1):
                total[c, row + u] += h * Ht[c, u] * K[t, u]
            row += t + 1


@kernel
def _fill_K(K, wide, S, k, r, c):  # type: ignore[no-untyped-def]
    # K of column c in lane r: its diagonal with off-diagonals r_t r_u / sum(r), r = S - diag K
    everything = 0.0
    for t in range(k):
        everything += max(S[t, c] - wide[k + t, c], 0.0)
    row = 0
    for t in range(k):
        for u in range(t):
            rest = max(S[t, c] - wide[k + t, c], 0.0) * max(S[u, c] - wide[k + u, c], 0.0)
            K[row + u, r] = rest / everything if everything > 0.0 else 0.0
        K[row + t, r] = wide[k + t, c]
        row += t + 1


@kernel
def _model(r, c, first, h, w_sums, l2, S, K, boxed):  # type: ignore[no-untyped-def]
    # lane r: (D - S)'(e - 1) + 1/2 (e - 1)' K (e - 1) in the box; returns the trace of K
    size = 0.0
    for t in range(h.shape[0]):
        diagonal = t * (t + 1) // 2 + t
        x = h[t, c]
        K[diagonal, r] += l2 * x * x
        boxed[X, t, r] = 1.0
        boxed[GRADIENT, t, r] = x * (w_sums[t, c] + l2 * x) - S[t, c]
        moves = t >= first and K[diagonal, r] > 0.0 and S[t, c] > 0.0
        boxed[INVERSE, t, r] = 1.0 / K[diagonal, r] if moves else 0.0
        boxed[LOWEST, t, r] = SHRINK if moves else 1.0
        boxed[HIGHEST, t, r] = GROW if moves else 1.0
        if moves:
            size += K[diagonal, r]
    return size


@kernel
def _extrapolated_columns(wide, H, first, w_sums, l2, extrapolated):  # type: ignore[no-untyped-def]
    # `extrapolated` receives H's columns at the minimum of their models in the box; returns the
    # decrease
    k, columns = H.shape
    packed = k * (k + 1) // 2
    K, boxed = np.zeros((packed, LANES)), np.zeros((BOXED, k, LANES))
    before = np.zeros((k, LANES))
    limit, still = np.zeros(LANES), np.zeros(LANES)
    decrease = 0.0
    for begin in range(0, columns, LANES):
        width = min(LANES, columns - begin)
        still[:] = 0
        for t in range(packed if wide.shape[0] == k + packed else 0):
            for r in range(width):
                K[t, r] = wide[k + t, begin + r]
        for r in range(width):
            if wide.shape[0] != k + packed:
                _fill_K(K, wide, wide, k, r, begin + r)
            limit[r] = NEAR * _model(r, begin + r, first, H, w_sums, l2, wide, K, boxed)
            still[r] = 1
        for t in range(k):  # not as slices: their error messages take seconds to compile
            for r in range(LANES):
                before[t, r] = boxed[GRADIENT, t, r]
        descend(boxed, K, limit, still, SWEEPS)
        for t in range(k):
            for r in range(width):
                x, weight = H[t, begin + r], w_sums[t, begin + r]
                if t >= first and wide[t, begin + r] <= 0.0 and (weight > 0.0 or l2 > 0.0):
                    extrapolated[t, begin + r] = (
                        0.0  # nothing of V is there: no curvature, but a slope
                    )
                    decrease += weight * x + 0.5 * l2 * x * x
                    continue
                step = boxed[X, t, r] - 1.0
                extrapolated[t, begin + r] = x * boxed[X, t, r]
                decrease -= 0.5 * (before[t, r] + boxed[GRADIENT, t, r]) * step
    return decrease


@kernel
def _rescale(extrapolated, first, w_sums, columns):  # type: ignore[no-untyped-def]
    for c in range(extrapolated.shape[1]):
        mass = 0.0
        wanted = columns[c]
        for t in range(extrapolated.shape[0]):
            if t < first:
                wanted -= w_sums[t, c] * extrapolated[t, c]
            else:
                mass += w_sums[t, c] * extrapolated[t, c]
        if mass > 0.0 and wanted > 0.0:
            for t in range(first, extrapolated.shape[0]):
                extrapolated[t, c] *= wanted / mass


@kernel
def _em_row(wide, H, t, w_sums, l2, columns, em, kkts, gains):  # type: ignore[no-untyped-def]
    # component t; no branch but by l2, so that the loops become vectors
    for c in range(H.shape[1]):
        h, w_sum = H[t, c], w_sums[t, c]
        S = wide[t, c] if h > 0.0 else 0.0  # where h is 0, S is
        if l2 > 0.0:
            x = 2.0 * S / (w_sum + np.sqrt(w_sum * w_sum + 4.0 * l2 * S)) if S > 0.0 else 0.0
        else:
            x = S / w_sum if w_sum > 0.0 else h
        em[t, c] = x if columns[c] > 0.0 else 0.0  # nothing was seen, or nothing but zeros
    for c in range(H.shape[1]):
        h, S, w_sum, x = H[t, c], wide[t, c], w_sums[t, c], em[t, c]
        should = h * (w_sum + l2 * h)
        kkts[c] = (should - S) * (should - S) / should if should > 0.0 else 0.0
        lost = w_sum * (h - x) + 0.5 * l2 * (h * h - x * x)
        won = S * log(max(x / h, TINY)) if S > 0.0 and x > 0.0 else 0.0
        gains[c] = lost + won if should > 0.0 else 0.0


@kernel
def kl_H(wide, H, first, w_sums, l2, columns, rescale, em, extrapolated):  # type: ignore[no-untyped-def]
    """Take the multiplicative and the curvature step of a slab's columns.

    Parameters
    ----------
    wide : (r, slab) float64 array
        S and, where r > k, K of each column.
    H : (k, slab) float64 array
    first : int
        Components before it are fixed.
    w_sums : (k, slab) float64 array
        Sums of the columns of W (over each column's entries), plus the l1 penalty.
    columns : (slab,) float64 array
        Sums of V's columns.
    rescale : bool
        Scale extrapolated columns so that sum_t w_sums_t h_t is the column's sum.
    em, extrapolated : (k, slab) float64 arrays
        Receive the new columns.

    Returns
    -------
    kkt, gain, extrapolated_gain : float
        The projected gradient in the metric of the multiplicative step; what that step lowers the
        objective by at least; what the curvature step lowers the second-order model by.
    """
    kkt = gain = extrapolated_gain = 0.0
    slab = H.shape[1]
    kkts, gains = np.empty(slab), np.empty(slab)
    for t in range(H.shape[0]):
        if t < first:
            for c in range(slab):
                em[t, c] = H[t, c]
            continue
        _em_row(wide, H, t, w_sums, l2, columns, em, kkts, gains)
        kkt += sum_of(kkts, slab)
        gain += sum_of(gains, slab)
    if wide.shape[0] > H.shape[0]:
        extrapolated_gain = _extrapolated_columns(wide, H, first, w_sums, l2, extrapolated)
        if rescale:
            _rescale(extrapolated, first, w_sums, columns)
    return kkt, gain, extrapolated_gain
