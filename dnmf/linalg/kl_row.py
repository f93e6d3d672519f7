"""Kullback-Leibler: what the kernels of a row of W share."""

from __future__ import annotations

import numpy as np

from dnmf.linalg.floats import TINY, tiny_of
from dnmf.linalg.jit import inlined, kernel
from dnmf.linalg.logs import log

__all__ = ["divergence", "em", "kkt_of_row", "start_row", "widened"]


# Of row i, lane r: its entries begin at ``a`` of the tile, at ``o`` of the batch.


@kernel
def em(W, i, g, h_rows, r, l2, new, k):  # type: ignore[no-untyped-def]
    for t in range(k):
        s = float(W[i, t]) * float(g[r, t])
        b = float(h_rows[r, t])
        if b <= 0.0 and l2 <= 0.0:
            new[0, t] = W[i, t]
        elif l2 > 0.0:
            new[0, t] = 2.0 * s / (b + np.sqrt(b * b + 4.0 * l2 * s)) if s > 0.0 else 0.0
        else:
            new[0, t] = s / b


@kernel
def start_row(W, i, h_rows, r, mass, k):  # type: ignore[no-untyped-def]
    # a positive start where all is zero
    active = 0
    idle = 0
    for t in range(k):
        if not h_rows[r, t] > 0:
            W[i, t] = 0
        else:
            active += 1
            idle += W[i, t] == 0
    if idle == active:
        for t in range(k):
            if h_rows[r, t] > 0:
                W[i, t] = mass / (active * float(h_rows[r, t]))


@inlined
def _term(x, fit):  # type: ignore[no-untyped-def]
    return fit - x + x * log(max(x, TINY) / max(fit, TINY))


@kernel
def divergence(v, weights, a, wh, o, logs, size):  # type: ignore[no-untyped-def]
    # v log(v / wh) - v + wh of a row's nonzeros; two loops, since one that asks for the weights of
    # each entry does not become vectors
    least = tiny_of(wh)
    if weights.size:
        for p in range(size):
            fit = max(np.float64(wh[o + p]), least) * np.float64(weights[a + p])
            logs[p] = _term(np.float64(v[a + p]), fit)
    else:
        for p in range(size):
            logs[p] = _term(np.float64(v[a + p]), max(np.float64(wh[o + p]), least))


@kernel
def kkt_of_row(W, i, h_rows, r, g, l2, k):  # type: ignore[no-untyped-def]
    kkt = 0.0
    for t in range(k):
        x = float(W[i, t])
        should = x * (float(h_rows[r, t]) + l2 * x)
        if should > 0.0:
            kkt += (should - x * float(g[r, t])) ** 2 / should
    return kkt


@kernel
def widened(v, a, size, out):  # type: ignore[no-untyped-def]
    for p in range(size):
        out[p] = np.float64(v[a + p])
