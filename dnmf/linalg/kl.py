"""Kullback-Leibler kernels on one CSR tile: W row by row, then the sums that H needs.

Only nonzeros are visited. Factors are padded with zeros to a multiple of four components, so
that inner loops have four accumulators in a fixed order: vector code without fast-math.
"""

from __future__ import annotations

import numpy as np

from dnmf.linalg.jit import kernel

__all__ = ["column_order", "kl_H", "kl_columns", "kl_rows", "packed_size", "padded"]

PAD = 4
LOWEST = 0.01
HIGHEST = 20.0
GATHER = 64
SEED = 1e-3
SWEEPS = 100


def padded(X: np.ndarray) -> np.ndarray:
    """A C-contiguous copy of a (r, k) array with zero columns up to a multiple of four."""
    wide = -(-X.shape[1] // PAD) * PAD
    out = np.zeros((X.shape[0], wide), X.dtype)
    out[:, : X.shape[1]] = X
    return out


def packed_size(k: int) -> int:
    """Entries of a symmetric k x k matrix."""
    return k * (k + 1) // 2


@kernel
def _dot(a, b):  # type: ignore[no-untyped-def]
    s0 = a[0] * b[0]
    s1 = a[1] * b[1]
    s2 = a[2] * b[2]
    s3 = a[3] * b[3]
    for t in range(4, a.size - 3, 4):
        s0 += a[t] * b[t]
        s1 += a[t + 1] * b[t + 1]
        s2 += a[t + 2] * b[t + 2]
        s3 += a[t + 3] * b[t + 3]
    return (s0 + s1) + (s2 + s3)


@kernel
def _add_rows(out, q, A, size):  # type: ignore[no-untyped-def]
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


@kernel
def _add_gram(K, s, A, size, k):  # type: ignore[no-untyped-def]
    # K += sum_p s_p A_p' A_p
    kp = K.shape[1]
    whole = size - size % 4
    for p in range(0, whole, 4):
        a0, a1, a2, a3 = A[p], A[p + 1], A[p + 2], A[p + 3]
        s0, s1, s2, s3 = s[p], s[p + 1], s[p + 2], s[p + 3]
        for t in range(k):
            row = K[t]
            c0, c1, c2, c3 = s0 * a0[t], s1 * a1[t], s2 * a2[t], s3 * a3[t]
            for u in range(kp):
                row[u] += c0 * a0[u] + c1 * a1[u] + c2 * a2[u] + c3 * a3[u]
    for p in range(whole, size):
        a0 = A[p]
        for t in range(k):
            row = K[t]
            c0 = s[p] * a0[t]
            for u in range(kp):
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


@kernel
def _row_value(A, v, w, h_sums, l2, wh):  # type: ignore[no-untyped-def]
    # sum of w (h_sums) + l2 / 2 w^2 - v log(w h), and w h of each nonzero
    tiny = np.finfo(wh.dtype).tiny
    total = 0.0
    for t in range(w.size):
        total += float(w[t]) * float(h_sums[t]) + 0.5 * l2 * float(w[t]) * float(w[t])
    for p in range(v.size):
        wh[p] = _dot(A[p], w)
        if v[p] > 0:
            total -= float(v[p]) * np.log(float(max(wh[p], tiny)))
    return total


@kernel
def _em_step(w, g, h_sums, l2, new, k):  # type: ignore[no-untyped-def]
    for t in range(k):
        s = float(w[t]) * float(g[t])
        b = float(h_sums[t])
        if b <= 0.0 and l2 <= 0.0:
            new[t] = w[t]
        elif l2 > 0.0:
            new[t] = 2.0 * s / (b + np.sqrt(b * b + 4.0 * l2 * s)) if s > 0.0 else 0.0
        else:
            new[t] = s / b


@kernel
def _newton_step(w, g, h_sums, l2, K, new, gradient, k):  # type: ignore[no-untyped-def]
    # coordinate descent on the quadratic model in the box LOWEST w <= x <= HIGHEST w
    for t in range(k):
        new[t] = w[t]
        gradient[t] = float(h_sums[t]) - float(g[t]) + l2 * float(w[t])
    for _ in range(30):
        moved = 0.0
        size = 0.0
        for t in range(k):
            curvature = float(K[t, t]) + l2
            if not (curvature > 0.0 and w[t] > 0):
                continue
            x = float(new[t]) - gradient[t] / curvature
            x = min(max(x, LOWEST * float(w[t])), HIGHEST * float(w[t]))
            delta = x - float(new[t])
            size += curvature * float(w[t]) * float(w[t])
            if delta != 0.0:
                new[t] = x
                gradient[t] += l2 * delta
                for u in range(t):
                    gradient[u] += delta * float(K[t, u])
                gradient[t] += delta * float(K[t, t])
                for u in range(t + 1, k):
                    gradient[u] += delta * float(K[u, t])
                moved += curvature * delta * delta
        if moved <= 1e-6 * size:
            break


@kernel
def _start_row(A, v, mass, w, h_sums, l2, k, wh, trial):  # type: ignore[no-untyped-def]
    # a positive start where all is zero; components at zero re-enter where that lowers the value
    zero = w.dtype.type(0)
    active = 0
    idle = 0
    for t in range(k):
        if not h_sums[t] > zero:
            w[t] = zero
        else:
            active += 1
            idle += w[t] == zero
    if active == 0:
        w[:] = zero
    elif idle == active:
        for t in range(k):
            if h_sums[t] > zero:
                w[t] = mass / (active * float(h_sums[t]))
    value = _row_value(A, v, w, h_sums, l2, wh)
    if idle == 0 or idle == active:
        return value
    for t in range(k):
        trial[t] = w[t]
        if w[t] == zero and h_sums[t] > zero:
            g = 0.0
            for p in range(v.size):
                if wh[p] > zero:
                    g += float(v[p]) / float(wh[p]) * float(A[p, t])
            if g > float(h_sums[t]):
                trial[t] = SEED * mass / float(h_sums[t])
    better = _row_value(A, v, trial, h_sums, l2, wh)
    if better < value:
        w[:] = trial
        return better
    return _row_value(A, v, w, h_sums, l2, wh)


@kernel
def _ratios(v, wh, q, s):  # type: ignore[no-untyped-def]
    zero = wh.dtype.type(0)
    for p in range(v.size):
        q[p] = v[p] / wh[p] if wh[p] > zero else zero
        s[p] = q[p] / wh[p] if wh[p] > zero else zero


@kernel
def kl_rows(data, indices, indptr, W, Ht, h_all, l1, l2, k, steps, tau, newton, masked):  # type: ignore[no-untyped-def]
    """Improve rows of W in place.

    Each row minimises ``sum_t h_sums_t w_t + l2/2 |w|^2 - sum_c v_c log (w h)_c``. A Newton step
    (bounded coordinate descent on the exact second-order model) is kept only if the row's
    objective falls; else the row takes a multiplicative step, which cannot rise. A row stops when
    a step lowers its objective by at most ``tau`` of its sum of v.

    Parameters
    ----------
    W : (m, kp) array
        `padded`; rows of zeros start with equal shares.
    Ht : (d, kp) array
        H', `padded`.
    h_all : (kp,) array
        Sums of the rows of H, plus the l1 penalty.
    l1, l2 : float
        Penalties.
    k, steps : int
        Components; most inner steps.
    newton : bool
        Else multiplicative steps only.
    masked : bool
        Sum H over the row's entries instead: others are unobserved.

    Returns
    -------
    taken : int
        Inner steps of all rows together.
    kkt : float
        Sum of (w h_sums + l2 w^2 - w g)^2 / (w h_sums + l2 w^2), w g being what each component
        explains of v.
    """
    kp = W.shape[1]
    most = 1
    for i in range(W.shape[0]):
        most = max(most, indptr[i + 1] - indptr[i])
    A_all = np.zeros((most, kp), W.dtype)
    wh_all, wh_new = np.empty(most, W.dtype), np.empty(most, W.dtype)
    q_all, s_all = np.empty(most, W.dtype), np.empty(most, W.dtype)
    g, new, K = np.zeros(kp, W.dtype), np.zeros(kp, W.dtype), np.zeros((kp, kp), W.dtype)
    gradient, h_sums = np.zeros(kp, np.float64), h_all.copy()
    eps = float(np.finfo(W.dtype).eps)
    taken = 0
    kkt = 0.0
    for i in range(W.shape[0]):
        begin = indptr[i]
        size = indptr[i + 1] - begin
        w = W[i]
        A, v, wh = A_all[:size], data[begin : begin + size], wh_all[:size]
        q, s = q_all[:size], s_all[:size]
        mass = 0.0
        for p in range(size):
            A[p] = Ht[indices[begin + p]]
            mass += float(v[p])
        if mass <= 0.0:
            w[:] = 0
            continue
        if masked:
            h_sums[:] = 0
            for p in range(size):
                h_sums += A[p]
            for t in range(k):
                h_sums[t] += l1 if h_sums[t] > 0 else 0.0
        value = _start_row(A, v, mass, w, h_sums, l2, k, wh, new)
        for _ in range(steps):
            taken += 1
            g[:] = 0
            _ratios(v, wh, q, s)
            _add_rows(g, q, A, size)
            better = value
            if newton:
                K[:] = 0
                _add_gram(K, s, A, size, k)
                _newton_step(w, g, h_sums, l2, K, new, gradient, k)
                better = _row_value(A, v, new, h_sums, l2, wh_new[:size])
            if not (newton and better <= value):
                _em_step(w, g, h_sums, l2, new, k)
                better = _row_value(A, v, new, h_sums, l2, wh_new[:size])
            if better > value + eps * mass:  # rounding only: keep what there is
                break
            w[:] = new
            wh[:] = wh_new[:size]
            fall = value - better
            value = better
            if fall <= tau * mass:
                break
        g[:] = 0
        _ratios(v, wh, q, s)
        _add_rows(g, q, A, size)
        for t in range(k):
            x = float(w[t])
            should = x * (float(h_sums[t]) + l2 * x)
            if should > 0.0:
                kkt += (should - x * float(g[t])) ** 2 / should
    return taken, kkt


@kernel
def kl_columns(data, starts, rows, places, W, Ht, k, curvature, masked, total, of_rows):  # type: ignore[no-untyped-def]
    """Add S and K of a tile to ``total`` (d, r); returns sums for the objective.

    Parameters
    ----------
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
                wh = _dot(A[p], h)
                fitted += float(wh)
                wh = max(wh, tiny)
                part = float(wh) - float(v)
                if v > 0:
                    part += float(v) * np.log(float(v) / float(wh))
                divergence += part
                of_rows[rows[at + p]] += part
                q[p] = v / wh
                s[p] = q[p] / wh
            _add_rows(g, q, A, size)
            if masked:
                for p in range(size):
                    present += A[p]
            if curvature == 2:
                _add_gram(K, s, A, size, k)
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
def _model_column(h, w_sums, l2, S, K, e, gradient):  # type: ignore[no-untyped-def]
    # minimise (D - S)'(e - 1) + 1/2 (e - 1)' K (e - 1) in the box; returns the model's decrease
    k = h.size
    for t in range(k):
        e[t] = 1.0
        gradient[t] = h[t] * (w_sums[t] + l2 * h[t]) - S[t]
    decrease = 0.0
    for _ in range(SWEEPS):
        moved = 0.0
        size = 0.0
        for t in range(k):
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
def kl_H(wide, Ht, w_all, l2, columns, rescale, em, bold):  # type: ignore[no-untyped-def]
    """The multiplicative and the curvature step of a slab's columns.

    Parameters
    ----------
    wide : (slab, r) float64 array
        S and, where r > k, K of each column.
    Ht : (slab, k) float64 array
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
        _em_step(h, S / np.where(h > 0.0, h, 1.0), w_sums, l2, em[c], k)
        for t in range(k):
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
        bold_gain += _model_column(h, w_sums, l2, S, K, e, gradient)
        mass = 0.0
        for t in range(k):
            bold[c, t] = h[t] * e[t]
            mass += w_sums[t] * bold[c, t]
        if rescale and mass > 0.0:
            bold[c] *= columns[c] / mass
    return kkt, gain, bold_gain
