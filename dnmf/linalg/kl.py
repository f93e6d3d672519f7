"""Kullback-Leibler: rows of W on one CSR tile. Only nonzeros are visited."""

from __future__ import annotations

import numpy as np

from dnmf.linalg.jit import kernel
from dnmf.linalg.tiles import add_gram, add_rows, dot

__all__ = ["HIGHEST", "LOWEST", "em_step", "kl_rows"]

LOWEST = 0.01
HIGHEST = 20.0
SEED = 1e-3
GONE = 1e-12


@kernel
def _row_value(A, v, w, h_sums, l2, wh, wanted):  # type: ignore[no-untyped-def]
    # w h of each nonzero; if wanted, the sum of w h_sums + l2 / 2 w^2 - v log(w h), else 0
    tiny = np.finfo(wh.dtype).tiny
    total = 0.0
    for t in range(w.size):
        total += float(w[t]) * float(h_sums[t]) + 0.5 * l2 * float(w[t]) * float(w[t])
    for p in range(v.size):
        wh[p] = dot(A[p], w)
    if not wanted:  # logarithms take a third of a multiplicative step
        return 0.0
    for p in range(v.size):
        if v[p] > 0:
            total -= float(v[p]) * np.log(float(max(wh[p], tiny)))
    return total


@kernel
def em_step(w, g, h_sums, l2, new, k):  # type: ignore[no-untyped-def]
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
def _newton_step(w, g, h_sums, l2, K, new, gradient, k, mass):  # type: ignore[no-untyped-def]
    # coordinate descent on the quadratic model in the box LOWEST w <= x <= HIGHEST w, which lets
    # components at zero enter; a share of the row below GONE is zero: denormal numbers are slow
    for t in range(k):
        new[t] = w[t]
        gradient[t] = float(h_sums[t]) - float(g[t]) + l2 * float(w[t])
    for _ in range(30):
        moved = 0.0
        size = 0.0
        for t in range(k):
            curvature = float(K[t, t]) + l2
            if not (curvature > 0.0 and h_sums[t] > 0):
                continue
            x = float(new[t]) - gradient[t] / curvature
            highest = max(HIGHEST * float(w[t]), SEED * mass / float(h_sums[t]))
            x = min(max(x, LOWEST * float(w[t])), highest)
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
        if moved <= 1e-4 * size:
            break
    for t in range(k):
        if float(new[t]) * float(h_sums[t]) < GONE * mass:
            new[t] = 0


@kernel
def _start_row(A, v, mass, w, h_sums, l2, k, wh, wanted):  # type: ignore[no-untyped-def]
    # a positive start where all is zero; returns the row's value
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
    return _row_value(A, v, w, h_sums, l2, wh, wanted)


@kernel
def _ratios(v, wh, q, s):  # type: ignore[no-untyped-def]
    zero = wh.dtype.type(0)
    for p in range(v.size):
        q[p] = v[p] / wh[p] if wh[p] > zero else zero
        s[p] = q[p] / wh[p] if wh[p] > zero else zero


@kernel
def kl_rows(  # type: ignore[no-untyped-def]
    data, indices, indptr, weights, W, Ht, h_all, l1, l2, k, steps, tau, newton, masked
):
    """Improve rows of W in place.

    Each row minimises ``sum_t h_sums_t w_t + l2/2 |w|^2 - sum_c v_c log (w h)_c``. A Newton step
    (bounded coordinate descent on the exact second-order model) is kept only if the row's
    objective falls; else the row takes a multiplicative step, which cannot rise. A row stops when
    a step lowers its objective by at most ``tau`` of its sum of v.

    Parameters
    ----------
    data : (nnz,) array
        Entries times their weights.
    weights : (nnz,) array
        Used where ``masked``; empty where each weighs 1.
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
                if weights.size:
                    for t in range(k):
                        h_sums[t] += weights[begin + p] * A[p, t]
                else:
                    h_sums += A[p]
            for t in range(k):
                h_sums[t] += l1 if h_sums[t] > 0 else 0.0
        value = _start_row(A, v, mass, w, h_sums, l2, k, wh, newton)
        for _ in range(steps):
            taken += 1
            g[:] = 0
            _ratios(v, wh, q, s)
            add_rows(g, q, A, size)
            better = value
            if newton:
                K[:] = 0
                add_gram(K, s, A, size, k)
                _newton_step(w, g, h_sums, l2, K, new, gradient, k, mass)
                better = _row_value(A, v, new, h_sums, l2, wh_new[:size], newton)
            if not (newton and better <= value):
                em_step(w, g, h_sums, l2, new, k)
                better = _row_value(A, v, new, h_sums, l2, wh_new[:size], newton)
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
        add_rows(g, q, A, size)
        for t in range(k):
            x = float(w[t])
            should = x * (float(h_sums[t]) + l2 * x)
            if should > 0.0:
                kkt += (should - x * float(g[t])) ** 2 / should
    return taken, kkt
