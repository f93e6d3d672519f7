"""Rows of W solved exactly, for any beta-divergence: Newton steps with the full matrix.

Each step minimises the second-order model over w >= 0 by an active set (`active_set`). The gradient
is summed from residuals in float64, whatever V and H are stored in, so that an ill-conditioned H
costs only those digits of W that V does not tell.
"""

from __future__ import annotations

import numpy as np

from dnmf.linalg.active_set import (
    POOR,
    most_changes,
    ridge_of,
    solve_quadratic,
    workspace,
)
from dnmf.linalg.floats import EPS, tiny_of
from dnmf.linalg.jit import inlined, kernel
from dnmf.linalg.logs import log
from dnmf.linalg.newton_row import (
    COLUMNS,
    absent_sums,
    fit_row,
    open_row,
    scale_row,
    sum_row,
)
from dnmf.linalg.simd import LANES
from dnmf.linalg.tiles import rows_in_lines

__all__ = ["newton_rows", "newton_scratch"]

FLOOR = 1e-75
"""The least product w h whose powers are taken, beside entries of V of about 1."""

NEAR, NEAR32 = 1e-9, 1e-6
"""The last step is the one after which the next would be at most this, relative to W."""

CLIPPED = 0.05
"""Share of y^(beta - 2), the Gauss-Newton curvature, that an entry has at least in steps where the
true curvature, of a divergence that is not convex, does not do."""

CLIPPED_STEPS = 3
"""So many steps with clipped curvature come before the true one is tried again."""

HALVINGS = 60
LEAST_SHARE = 0.02
"""A step leaves an entry above 0 at least this share of w h, for beta below 2: there its divergence
is infinitely steep at 0, which no second-order model knows."""

WILD = 0.5
"""A row is not solved by a step that moved w h of an entry by more than this share of it."""

STARVED, FED = 1e-6, 1e-3
"""A start whose w h is below this share of an entry is raised to this share of an even one: steps
from nearly 0 are as small, and say nothing."""

ENOUGH = 1e-8
"""A row is solved where the next step is expected to lower its divergence by this share of it."""


def newton_scratch(k: int, longest: int) -> int:
    """Return the bytes that `newton_rows` takes for rows of at most so many entries."""
    kp = -(-k // LANES) * LANES
    return 8 * (7 * longest + (min(longest, COLUMNS) + 3 * kp + 16) * kp)


# A row is a tuple of arrays by entry: v, its weight, w h, w h of a trial, and the slope and the
# curvature of its divergence; v and w are scaled so that the largest v is about 1.


@inlined
def _divergence(v, fit, beta):  # type: ignore[no-untyped-def]
    y = max(fit, FLOOR)
    if beta == 2.0:
        return 0.5 * (v - fit) * (v - fit)
    if beta == 1.0:
        return y - v + v * log(v / y) if v > 0.0 else fit
    if beta == 0.0:
        return v / y - log(v / y) - 1.0
    if v == 0.0:
        return fit**beta / beta
    low = y ** (beta - 1.0)
    return (v**beta + low * ((beta - 1.0) * y - beta * v)) / (beta * (beta - 1.0))


@kernel
def _value(v, weight, fits, size, beta):  # type: ignore[no-untyped-def]
    total = 0.0
    for p in range(size):
        if weight[p] > 0.0:
            total += weight[p] * _divergence(v[p], fits[p], beta)
    return total


@kernel
def _lost(v, lost, size, scale, beta, least):  # type: ignore[no-untyped-def]
    # the divergence of entries that H does not reach; v was divided by the scale, unless it is 0
    total, unit = 0.0, scale if scale > 0.0 else 1.0
    for p in range(size):
        if lost[p] > 0.0 and v[p] > 0.0:
            x = v[p] * unit
            if beta == 1.0:
                total += lost[p] * (x * log(max(x, least) / least) - x)
            else:
                total += lost[p] * _divergence(v[p], 0.0, beta) * unit**beta
    return total


@kernel
def _slopes(v, weight, fits, slope, curvature, size, beta, clipped):  # type: ignore[no-untyped-def]
    # returns the sum of the sizes of all terms of the divergence, which round by EPS
    sizes = 0.0
    for p in range(size):
        y, m = max(fits[p], FLOOR), weight[p]
        if beta == 2.0:
            low = m
        elif beta == 1.0:
            low = m / y
        else:
            low = m * y ** (beta - 2.0)
        slope[p] = low * (fits[p] - v[p]) if beta == 2.0 else low * (y - v[p])
        bent = low if beta == 2.0 else low / y * ((beta - 1.0) * y - (beta - 2.0) * v[p])
        curvature[p] = max(bent, CLIPPED * low) if clipped else bent
        sizes += low * y * (y + v[p])
    return sizes


@kernel
def _curvature(K, G, B, l2):  # type: ignore[no-untyped-def]
    # B from what `add_gram` leaves, or G
    for t in range(B.shape[0]):
        for u in range(t + 1):
            B[t, u] = G[t, u] if G.size else K[t, u]
            B[u, t] = B[t, u]
        B[t, t] += l2


@kernel
def _linear(w, linear, l2):  # type: ignore[no-untyped-def]
    total = 0.0
    for t in range(linear.size):
        total += w[0, t] * (linear[t] + 0.5 * l2 * w[0, t])
    return total


@kernel
def _search(  # type: ignore[no-untyped-def]
    H, Ht, columns, begin, size, row, A, part, w, x, new, linear, l2, beta, value, fall, noise
):
    # the longest step to x, halved until the objective falls and no entry starves; where it is, or
    # NaN, and how much the next step may be of this one: a model of w h is as wrong as w h moves,
    # relative to itself
    v, weight, fits, trial = row[0], row[1], row[2], row[3]
    share = 1.0
    for _ in range(HALVINGS):
        for t in range(x.size):
            new[0, t] = x[t] if share == 1.0 else w[0, t] + share * (x[t] - w[0, t])
        fit_row(H, Ht, columns, begin, size, new, A, part, trial)
        found = _value(v, weight, trial, size, beta) + _linear(new, linear, l2)
        starves = False
        if beta < 2.0:
            for p in range(size):
                if weight[p] > 0.0 and v[p] > 0.0 and fits[p] > FLOOR:
                    starves |= trial[p] < LEAST_SHARE * fits[p]
        rounds = fall <= noise and found <= value + noise
        if not starves and (rounds or found <= value - 1e-4 * share * fall):
            for t in range(x.size):
                w[0, t] = new[0, t]
            rest = 0.0 if share == 1.0 else 1.0
            for p in range(size):
                if beta != 2.0 and weight[p] > 0.0 and (v[p] > 0.0 or beta != 1.0):
                    rest = max(rest, abs(trial[p] - fits[p]) / max(fits[p], FLOOR))
                fits[p] = trial[p]
            return found, rest
        share *= 0.5
        if 1e-4 * share * fall <= EPS * abs(value):  # no fall that could be told
            break
    return np.nan, 1.0


@kernel
def _feed(H, Ht, columns, begin, size, row, A, part, w, g, K):  # type: ignore[no-untyped-def]
    # raise a start that leaves entries above 0 nearly without w h
    v, weight, fits, ones = row[0], row[1], row[2], row[4]
    starved, mass = False, 0.0
    for p in range(size):
        ones[p] = 1.0
        if weight[p] > 0.0:
            starved |= fits[p] < STARVED * v[p]
            mass += v[p]
    if not starved:
        return
    g[:] = 0.0
    sum_row(H, Ht, columns, begin, size, ones, ones, A, g, K, False)
    for t in range(H.shape[0]):
        if g[0, t] > 0.0:
            w[0, t] = max(w[0, t], FED * mass / (H.shape[0] * g[0, t]))
    fit_row(H, Ht, columns, begin, size, w, A, part, fits)


@kernel
def _newton(  # type: ignore[no-untyped-def]
    H, Ht, columns, begin, size, row, A, part, G, w, g, K, B, x, new, linear, absent, l1, l2,
    beta, steps, near, ridge, work,
):  # fmt: skip
    # solve one row from w, (1, kp); returns the objective and whether it is solved
    k = H.shape[0]
    v, weight, fits, slope, curvature = row[0], row[1], row[2], row[4], row[5]
    fit_row(H, Ht, columns, begin, size, w, A, part, fits)
    if beta != 2.0:
        _feed(H, Ht, columns, begin, size, row, A, part, w, g, K)
    value = _value(v, weight, fits, size, beta) + _linear(w, linear, l2)
    before, clipped_left, convex = np.inf, 0, 1.0 <= beta <= 2.0
    for step in range(steps):
        clipped = clipped_left > 0
        sizes = _slopes(v, weight, fits, slope, curvature, size, beta, clipped)
        noise = 8.0 * EPS * (sizes / (1.0 if convex else min(1.0, abs(beta) + 1e-3)) + abs(value))
        for t in range(k):
            g[0, t] = linear[t] + l2 * w[0, t]
        whole = not G.size and (beta != 2.0 or step == 0)
        if whole:
            K[:] = 0.0
        sum_row(H, Ht, columns, begin, size, slope, curvature, A, g, K, whole)
        if whole or step == 0:
            _curvature(K, G, B, l2)
        bent = 0.0
        for t in range(k):
            bent = min(bent, B[t, t])
        least, fall, moved, length, done = solve_quadratic(
            B, g[0], w[0], ridge, most_changes(k), work, x
        )
        if not convex and not clipped and not (bent >= 0.0 and least > -ridge and fall >= 0.0):
            clipped_left = CLIPPED_STEPS
            continue
        clipped_left = max(clipped_left - 1, 0)
        if not (np.isfinite(fall) and np.isfinite(moved)):
            return value, False
        if least < POOR and absent:
            absent = False
            absent_sums(Ht, columns, begin, size, linear)
            for t in range(k):
                linear[t] += l1
            continue
        found, rest = _search(
            H, Ht, columns, begin, size, row, A, part, w, x, new, linear, l2, beta, value, fall,
            noise,
        )  # fmt: skip
        if not (np.isfinite(found) or convex or clipped):  # the step led upwards
            clipped_left = CLIPPED_STEPS
            continue
        if not np.isfinite(found):
            return value, fall <= ENOUGH * abs(value) + 1e3 * noise
        value, wild = found, beta < 2.0 and rest > WILD
        if least < POOR or clipped:  # digits that are lost, or a model that is not the true one
            rest = 1.0
        if done and not wild and min(rest, 1.0) ** 2 * moved <= near * near * length:
            return value, True
        if not wild and fall <= noise and (moved >= 0.25 * before or least <= 4.0 * ridge):
            return value, True
        before = moved
        if step == steps - 1:
            return value, fall <= ENOUGH * abs(value)
    return value, False


@kernel
def newton_rows(  # type: ignore[no-untyped-def]
    data, indices, indptr, weights, H, Ht, G, sums, full, which, W, beta, l1, l2, steps,
    of_rows, is_open,
):  # fmt: skip
    """Solve some rows of W.

    Parameters
    ----------
    data, indices, indptr, weights
        A CSR tile, and weights of its entries, empty where each weighs 1. Of a dense tile its
        entries row by row, the others empty.
    H : (k, d) array
    Ht : (d, kp) array
        H', `padded`; empty where entries are all columns.
    G : (k, k) float64 array
        The curvature of every row, where it is one for all; else empty.
    sums : (k,) float64 array
        Sums of the rows of H, where columns that are not stored count by them; else empty.
    full : bool
        Columns that are not stored count as entries of 0.
    which : (r,) int array
        Numbers of rows.
    W : (m, k) array
        Starts; rows in ``which`` become solutions.
    beta, l1, l2 : float
        The divergence and the penalties.
    steps : int
        Most steps of a row.
    of_rows : (m,) float64 array
        Receives the divergences of the rows. Entries that H does not reach are in them, as if W H
        were the least number there where it is infinite at 0.
    is_open : (m,) bool array
        Receives whether rows are not solved.
    """
    k, d = H.shape
    longest = d
    if indptr.size and not full:
        longest = 1
        for i in which:
            longest = max(longest, indptr[i + 1] - indptr[i])
    kp = (k + LANES - 1) // LANES * LANES
    like = np.zeros((1, kp))
    A, K, w = rows_in_lines(min(longest, COLUMNS), like), rows_in_lines(kp, like), like.copy()
    g, new, B, x = like.copy(), like.copy(), np.zeros((k, k)), np.zeros(k)
    linear, work, part = np.zeros(k), workspace(k), np.empty(min(longest, COLUMNS))
    row = (np.empty(longest), np.empty(longest), np.empty(longest), np.empty(longest),
           np.empty(longest), np.empty(longest))  # fmt: skip
    columns = indices[:0] if full else indices
    ridge, near = ridge_of(k), NEAR32 if W.itemsize == 4 else NEAR
    for i in which:
        begin, size = open_row(data, indices, indptr, weights, i, full, d, row[0], row[1])
        scale = scale_row(row[0], row[1], row[4], A, H, Ht, columns, begin, size)
        of_rows[i], is_open[i] = _lost(row[0], row[4], size, scale, beta, tiny_of(W)), False
        if not scale > 0.0:
            for t in range(k):
                W[i, t] = 0.0
            continue
        one, two = l1 * scale ** (1.0 - beta), l2 * scale ** (2.0 - beta)
        for t in range(k):
            w[0, t] = np.float64(W[i, t]) / scale
            linear[t] = one
        if sums.size:
            for p in range(size):
                row[4][p] = -1.0
            for t in range(k):
                g[0, t] = sums[t]
            sum_row(H, Ht, columns, begin, size, row[4], row[5], A, g, K, False)
            for t in range(k):
                linear[t] += max(g[0, t], 0.0)
        _, solved = _newton(
            H, Ht, columns, begin, size, row, A, part, G, w, g, K, B, x, new, linear,
            sums.size > 0, one, two, beta, steps, near, ridge, work,
        )  # fmt: skip
        is_open[i] = not solved
        for t in range(k):
            W[i, t] = w[0, t] * scale
        value = _value(row[0], row[1], row[2], size, beta)
        for t in range(k):
            value += w[0, t] * (linear[t] - one) if sums.size else 0.0
        of_rows[i] += value * scale**beta
