"""Kullback-Leibler: rows of W on one CSR tile. Only nonzeros are visited.

Rows are taken in batches, whose nonzeros' rows of H' stay in the processor's nearer caches for all
inner steps; the small problems of a batch's rows are solved side by side (`lanes`).
"""

from __future__ import annotations

import numpy as np

from dnmf.linalg.floats import eps_of, tiny_of
from dnmf.linalg.jit import kernel
from dnmf.linalg.kl_row import divergence, em, kkt_of_row, start_row, widened
from dnmf.linalg.lanes import BOXED, GRADIENT, HIGHEST, INVERSE, LOWEST, X, descend
from dnmf.linalg.logs import log, sum_of
from dnmf.linalg.simd import LANES
from dnmf.linalg.tiles import add_gram, add_rows, dots, gather, rows_in_lines

__all__ = ["GROW", "SHRINK", "kl_rows"]

SHRINK = 0.01
GROW = 20.0
SEED = 1e-3
GONE = 1e-12
SWEEPS = 30
NEAR = 1e-4


# Of row i, lane r: its entries begin at ``a`` of the tile, at ``o`` of the batch.
# Kernels that other kernels call are compiled for int32 and for int64: all offsets are the latter.


@kernel
def _linear(W, i, h_rows, r, l2):  # type: ignore[no-untyped-def]
    # w h_sums + l2 / 2 w^2
    found = 0.0
    for t in range(W.shape[1]):
        w = np.float64(W[i, t])
        found += w * np.float64(h_rows[r, t]) + 0.5 * l2 * w * w
    return found


@kernel
def _logs(v, a, wh, o, size, logs):  # type: ignore[no-untyped-def]
    # v log(w h)
    tiny = tiny_of(wh)
    for p in range(size):
        logs[p] = np.float64(v[a + p]) * log(max(np.float64(wh[o + p]), tiny))


@kernel
def _model(W, i, g, h_rows, r, l2, gram, k, mass, boxed, K):  # type: ignore[no-untyped-def]
    # lane r: the second-order model in the box SHRINK w <= x <= GROW w, which lets components
    # at zero enter; returns the size of a step that moves all of w
    size = 0.0
    row = 0
    for t in range(k):
        for u in range(t + 1):
            K[row + u, r] = gram[t, u]
        row += t + 1
        K[row - 1, r] += l2
        curvature, w, h_sum = np.float64(K[row - 1, r]), np.float64(W[i, t]), h_rows[r, t]
        boxed[X, t, r] = w
        boxed[GRADIENT, t, r] = np.float64(h_sum) - np.float64(g[r, t]) + l2 * w
        if curvature > 0.0 and h_sum > 0:
            boxed[INVERSE, t, r] = 1.0 / curvature
            boxed[LOWEST, t, r] = SHRINK * w
            boxed[HIGHEST, t, r] = max(GROW * w, SEED * mass / np.float64(h_sum))
            size += curvature * w * w
        else:
            boxed[INVERSE, t, r] = 0
            boxed[LOWEST, t, r] = w
            boxed[HIGHEST, t, r] = w
    return size


@kernel
def _clear(W, i):  # type: ignore[no-untyped-def]
    for t in range(W.shape[1]):
        W[i, t] = 0


@kernel
def _ratios(v, a, wh, o, q, s, size):  # type: ignore[no-untyped-def]
    zero = wh.dtype.type(0)
    for p in range(size):
        fit = wh[o + p]
        ratio = v[a + p] / fit
        second = ratio / fit
        q[a + p] = ratio if fit > zero else zero
        s[a + p] = second if fit > zero else zero


@kernel
def _sums_of_h(h_rows, r, weights, a, A, o, size, l1, k):  # type: ignore[no-untyped-def]
    # over the row's entries
    for t in range(h_rows.shape[1]):
        h_rows[r, t] = 0
    add_rows(h_rows, r, weights, a, A, o, size)
    for t in range(k):
        h_rows[r, t] += l1 if h_rows[r, t] > 0 else 0.0


@kernel
def _from_lane(boxed, h_rows, r, mass, new):  # type: ignore[no-untyped-def]
    for t in range(boxed.shape[1]):
        gone = np.float64(boxed[X, t, r]) * np.float64(h_rows[r, t]) < GONE * mass
        new[0, t] = 0 if gone else boxed[X, t, r]


@kernel
def _keep(W, i, new, wh, wh_new, o, size):  # type: ignore[no-untyped-def]
    for t in range(W.shape[1]):
        W[i, t] = new[0, t]
    for p in range(o, o + size):
        wh[p] = wh_new[p]


@kernel
def _start_batch(  # type: ignore[no-untyped-def]
    data, indptr, weights, W, first, last, A, wh, logs, ones, h_rows, l1, l2, k, masked, mass,
    value, going,
):  # fmt: skip
    for i in range(first, last):
        r, a, o = i - first, np.int64(indptr[i]), np.int64(indptr[i] - indptr[first])
        size = indptr[i + 1] - a
        widened(data, a, size, logs)
        mass[r] = sum_of(logs, size)
        if masked and weights.size:
            _sums_of_h(h_rows, r, weights, a, A, o, size, l1, k)
        elif masked:
            _sums_of_h(h_rows, r, ones, 0, A, o, size, l1, k)
        if going[r] and mass[r] > 0.0:
            start_row(W, i, h_rows, r, mass[r], k)
        elif going[r]:
            _clear(W, i)
            going[r] = False
        dots(wh, A, o, size, W, i)
        if going[r]:
            _logs(data, a, wh, o, size, logs)
            value[r] = _linear(W, i, h_rows, r, l2) - sum_of(logs, size)


@kernel
def _model_batch(  # type: ignore[no-untyped-def]
    data, indptr, W, first, last, A, wh, h_rows, l2, k, q_all, s_all, g, gram,
    mass, going, boxed, K, limit, still,
):  # fmt: skip
    # ratios and g of the rows that go on, and their models
    for i in range(first, last):
        r, a, o = i - first, np.int64(indptr[i]), np.int64(indptr[i] - indptr[first])
        size = indptr[i + 1] - a
        still[r] = 0
        if not going[r]:
            continue
        _ratios(data, a, wh, o, q_all, s_all, size)
        _clear(g, r)
        add_rows(g, r, q_all, a, A, o, size)
        for t in range(k):
            _clear(gram, t)
        add_gram(gram, s_all, a, A, o, size, k)
        size = _model(W, i, g, h_rows, r, l2, gram, k, mass[r], boxed, K)
        limit[r] = NEAR * size
        still[r] = 1


@kernel
def _step_batch(  # type: ignore[no-untyped-def]
    data, indptr, W, first, last, A, wh, wh_new, new, logs, h_rows, l2, k, tau, g, mass, value,
    going, boxed,
):  # fmt: skip
    # a step of the rows that go on; returns their number
    eps = eps_of(W)
    taken = 0
    for i in range(first, last):
        r, a, o = i - first, np.int64(indptr[i]), np.int64(indptr[i] - indptr[first])
        size = indptr[i + 1] - a
        if not going[r]:
            continue
        taken += 1
        _from_lane(boxed, h_rows, r, mass[r], new)
        dots(wh_new, A, o, size, new, 0)
        _logs(data, a, wh_new, o, size, logs)
        better = _linear(new, 0, h_rows, r, l2) - sum_of(logs, size)
        if not better <= value[r]:
            em(W, i, g, h_rows, r, l2, new, k)
            dots(wh_new, A, o, size, new, 0)
            _logs(data, a, wh_new, o, size, logs)
            better = _linear(new, 0, h_rows, r, l2) - sum_of(logs, size)
        going[r] = value[r] - better > tau * mass[r]
        if better <= value[r] + eps * mass[r]:  # else rounding only: keep what there is
            _keep(W, i, new, wh, wh_new, o, size)
            value[r] = better
    return taken


@kernel
def _finish_batch(  # type: ignore[no-untyped-def]
    data, indptr, weights, W, first, last, A, wh, logs, h_rows, l2, k, q_all, s_all, g, of_rows
):
    # what the columns need, and divergences; returns kkt and the sum of w h
    kkt = fitted = 0.0
    for i in range(first, last):
        r, a, o = i - first, np.int64(indptr[i]), np.int64(indptr[i] - indptr[first])
        size = indptr[i + 1] - a
        _ratios(data, a, wh, o, q_all, s_all, size)
        _clear(g, r)
        add_rows(g, r, q_all, a, A, o, size)
        kkt += kkt_of_row(W, i, h_rows, r, g, l2, k)
        widened(wh, o, size, logs)
        fitted += sum_of(logs, size)
        divergence(data, weights, a, wh, o, logs, size)
        of_rows[i] = sum_of(logs, size)
    return kkt, fitted


@kernel
def kl_rows(  # type: ignore[no-untyped-def]
    data, indices, indptr, weights, W, Ht, h_all, l1, l2, k, steps, tau, masked, batch,
    q_all, s_all, of_rows,
):  # fmt: skip
    """Improve rows of W in place, and find what the columns need of every nonzero.

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
        Components; most inner steps, 0 to leave W as it is.
    masked : bool
        Sum H over the row's entries instead: others are unobserved.
    batch : int
        Most nonzeros of rows that are side by side; one row may have more.
    q_all, s_all : (nnz,) arrays
        Receive v / wh and v / wh^2 (0 where wh is) at the new W.
    of_rows : (m,) float64 array
        Receives the rows' sums of v log(v / wh) - v + wh over their nonzeros.

    Returns
    -------
    taken : int
        Inner steps of all rows together.
    kkt : float
        Sum of (w h_sums + l2 w^2 - w g)^2 / (w h_sums + l2 w^2), w g being what each component
        explains of v.
    fitted : float
        Sum of wh over the nonzeros.
    """
    m, kp = W.shape
    most = min(batch, indptr[m] - indptr[0])
    for i in range(m):
        most = max(most, indptr[i + 1] - indptr[i])
    A, wh, wh_new = rows_in_lines(most, W), np.empty(most, W.dtype), np.empty(most, W.dtype)
    logs, ones = np.empty(most), np.ones(most if masked else 0, W.dtype)
    g, h_rows, new = (
        np.zeros((LANES, kp), W.dtype),
        np.zeros((LANES, kp), W.dtype),
        np.zeros((1, kp), W.dtype),
    )
    for r in range(LANES):
        for t in range(kp):  # not as slices: their error messages take seconds to compile
            h_rows[r, t] = h_all[t]
    gram, boxed = rows_in_lines(kp, W), np.zeros((BOXED, k, LANES), W.dtype)
    K = np.zeros((k * (k + 1) // 2, LANES), W.dtype)
    limit, still = np.zeros(LANES, W.dtype), np.zeros(LANES, W.dtype)
    value, mass, going = np.zeros(LANES), np.zeros(LANES), np.zeros(LANES, np.bool_)
    taken, last = 0, np.int64(0)
    kkt = fitted = 0.0
    while last < m:
        first, start = last, indptr[last]
        while last < m and last < first + LANES and indptr[last + 1] - start <= most:
            last += 1
        gather(A, Ht, indices, start, indptr[last] - start)
        still[:] = 0
        going[:] = steps > 0
        _start_batch(
            data, indptr, weights, W, first, last, A, wh, logs, ones, h_rows, l1, l2, k,
            masked, mass, value, going,
        )  # fmt: skip
        for _ in range(steps):
            if not going[: last - first].any():
                break
            _model_batch(
                data, indptr, W, first, last, A, wh, h_rows, l2, k, q_all, s_all, g, gram,
                mass, going, boxed, K, limit, still,
            )  # fmt: skip
            descend(boxed, K, limit, still, SWEEPS)
            taken += _step_batch(
                data, indptr, W, first, last, A, wh, wh_new, new, logs, h_rows, l2, k, tau,
                g, mass, value, going, boxed,
            )  # fmt: skip
        found = _finish_batch(
            data, indptr, weights, W, first, last, A, wh, logs, h_rows, l2, k, q_all, s_all, g,
            of_rows,
        )  # fmt: skip
        fitted += found[1]
        if steps > 0:
            kkt += found[0]
    return taken, kkt, fitted
