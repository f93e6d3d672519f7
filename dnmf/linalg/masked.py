"""Least squares over the stored entries of a CSR tile alone: what is not stored is unknown."""

from __future__ import annotations

from typing import Any

import numpy as np

from dnmf.linalg.active_set import most_changes, ridge_of, solve_quadratic, workspace
from dnmf.linalg.floats import eps_of
from dnmf.linalg.jit import kernel
from dnmf.linalg.matrix import WeightedCSR
from dnmf.linalg.tiles import add_gram, add_rows, dots, gather

__all__ = [
    "ALWAYS",
    "NEVER",
    "WHERE_OPEN",
    "entry_residuals",
    "entry_weights",
    "masked_columns",
    "masked_rows",
    "observed_residual",
    "solve_columns",
]

GATHER = 64

NEVER, WHERE_OPEN, ALWAYS = range(3)
"""When a row goes on by an active set: never, where sweeps come to no end, always after one."""


@kernel
def _exactly(w, first, G, l2, g, least, work, B, x):  # type: ignore[no-untyped-def]
    # the solution of what `_descend` minimises, from w with gradient g; w stays where a pivot is
    # below ``least``, so that noise would tell the solution
    k = w.size
    for t in range(k):
        for u in range(k):
            free = t >= first and u >= first
            B[t, u] = G[t, u] if free else 0.0
        B[t, t] += l2 if t >= first else 0.0
    pivot = solve_quadratic(B, g, w, ridge_of(k), most_changes(k), work, x)[0]
    if pivot < least:
        return False
    for t in range(first, k):
        delta = x[t] - w[t]
        w[t] = x[t]
        if delta != 0.0:
            for u in range(k):
                g[u] += delta * G[t, u]
            g[t] += l2 * delta
    return True


@kernel
def _descend(w, first, c, G, l1, l2, floor, tau2, sweeps, g, exact, least, work, B, x):  # type: ignore[no-untyped-def]
    # coordinate descent on 1/2 w G w' - c w' + l1 sum(w) + l2/2 |w|^2 from coordinate ``first`` on,
    # then an active set as ``exact`` and ``least`` say; returns sweeps, kkt, and whether w
    # still moved at its end
    k = w.size
    for t in range(k):
        g[t] = l1 - c[t] + l2 * w[t]
        for u in range(k):
            g[t] += G[t, u] * w[u]
    done, still = 0, sweeps > 0
    for _ in range(sweeps):
        done += 1
        moved = 0.0
        for t in range(first, k):
            curvature = G[t, t] + l2
            if not curvature > 0.0:
                w[t] = 0.0
                continue
            new = max(w[t] - g[t] / curvature, 0.0)
            delta = new - w[t]
            if delta != 0.0:
                w[t] = new
                for u in range(k):
                    g[u] += delta * G[t, u]
                g[t] += l2 * delta
                moved += curvature * delta * delta
        if moved <= tau2 * floor:
            still = False
        if done == 1 and exact == ALWAYS and _exactly(w, first, G, l2, g, least, work, B, x):
            still = False
        if not still:
            break
    if still and exact != NEVER:
        still = not _exactly(w, first, G, l2, g, least, work, B, x)
    kkt = 0.0
    for t in range(first, k):
        curvature = G[t, t] + l2
        if curvature > 0.0:
            step = w[t] - max(0.0, w[t] - g[t] / curvature)
            kkt += curvature * step * step
    return done, kkt, still


@kernel
def masked_rows(  # type: ignore[no-untyped-def]
    data, indices, indptr, weights, W, Ht, l1, l2, k, tau2, sweeps, exact, least, of_rows
):
    """Solve every row of W on its own entries; returns sweeps, kkt and open rows of all together.

    Parameters
    ----------
    weights : (nnz,) array
        Weights of the entries; empty where each weighs 1.
    W : (m, kp) array
        `padded`; the start, changed in place.
    Ht : (d, kp) array
        H', `padded`.
    tau2 : float
        A row stops when a sweep moves at most this share of its residual, both squared.
    exact : {NEVER, WHERE_OPEN, ALWAYS}
        When it goes on by an active set.
    least : float
        Pivot, of a matrix whose diagonal is 1, below which the digits of W do not tell a solution.
    of_rows : (m,) float64 array
        Receives the rows' (weighted) sums of squared residuals.
    """
    kp = W.shape[1]
    most = 1
    for i in range(W.shape[0]):
        most = max(most, indptr[i + 1] - indptr[i])
    A, s, q = np.zeros((most, kp), W.dtype), np.ones(most, W.dtype), np.empty(most, W.dtype)
    gram, c32 = np.zeros((kp, kp), W.dtype), np.zeros((1, kp), W.dtype)
    fits = np.empty(most, W.dtype)
    G, c, w, g = np.zeros((k, k)), np.zeros(k), np.zeros(k), np.zeros(k)
    room = workspace(k), np.zeros((k, k)), np.zeros(k)
    taken = open_rows = 0
    kkt = 0.0
    for i in range(W.shape[0]):
        begin = np.int64(indptr[i])
        size = indptr[i + 1] - begin
        v = data[begin : begin + size]
        sumsq = 0.0
        left = 0.0
        gather(A, Ht, indices, begin, size)
        dots(fits, A, 0, size, W, i)
        for p in range(size):
            if weights.size:
                s[p] = weights[begin + p]
            q[p] = s[p] * v[p]
            sumsq += np.float64(q[p]) * np.float64(v[p])
            fit = np.float64(v[p]) - np.float64(fits[p])
            left += np.float64(s[p]) * fit * fit
        gram[:] = 0
        c32[:] = 0
        add_gram(gram, s, 0, A, 0, size, k)
        add_rows(c32, 0, q, 0, A, 0, size)
        for t in range(k):
            c[t] = c32[0, t]
            w[t] = W[i, t]
            for u in range(t + 1):
                G[t, u] = gram[t, u]
                G[u, t] = gram[t, u]
        floor = max(left, eps_of(W) * sumsq)
        until = floor, tau2, sweeps, g, exact, least
        done, part, still = _descend(w, 0, c, G, l1, l2, *until, *room)
        taken += done
        open_rows += still
        kkt += part
        for t in range(k):
            W[i, t] = w[t]
        left = 0.0
        dots(fits, A, 0, size, W, i)
        for p in range(size):
            fit = np.float64(v[p]) - np.float64(fits[p])
            left += np.float64(s[p]) * fit * fit
        of_rows[i] = left
    return taken, kkt, open_rows


@kernel
def masked_columns(data, weights, starts, rows, positions, W, Ht, k, exact, total):  # type: ignore[no-untyped-def]
    """Add W' V and, per column, W' W over its entries to ``total`` (d, r).

    Packed where ``exact``, else W' W h and the diagonal.
    Weights multiply every entry's part of all sums.
    """
    kp = W.shape[1]
    A = np.zeros((GATHER, kp), W.dtype)
    q, s = np.empty(GATHER, W.dtype), np.ones(GATHER, W.dtype)
    sums32, gram = np.zeros((2, kp), W.dtype), np.zeros((kp, kp), W.dtype)
    c, below = sums32[0], sums32[1]
    fits, diagonal = np.empty(GATHER, W.dtype), np.zeros(kp, W.dtype)
    for column in range(starts.size - 1):
        if starts[column] == starts[column + 1]:
            continue
        c[:] = 0
        below[:] = 0
        diagonal[:] = 0
        gram[:] = 0
        for at in range(starts[column], starts[column + 1], GATHER):
            size = min(GATHER, starts[column + 1] - at)
            gather(A, W, rows, at, size)
            dots(fits, A, 0, size, Ht, column)
            for p in range(size):
                if weights.size:
                    s[p] = weights[positions[at + p]]
                q[p] = s[p] * data[positions[at + p]]
                fits[p] *= s[p]
            add_rows(sums32, 0, q, 0, A, 0, size)
            if exact:
                add_gram(gram, s, 0, A, 0, size, k)
            else:
                add_rows(sums32, 1, fits, 0, A, 0, size)
                for p in range(size):
                    for t in range(kp):
                        diagonal[t] += s[p] * A[p, t] * A[p, t]
        sums = total[column]
        position = k
        for t in range(k):
            sums[t] += c[t]
            if exact:
                for u in range(t + 1):
                    sums[position] += gram[t, u]
                    position += 1
            else:
                sums[k + t] += below[t]
                sums[2 * k + t] += diagonal[t]


@kernel
def solve_columns(wide, Ht, first, l1, l2, columns, tau2, sweeps, exact, least, new):  # type: ignore[no-untyped-def]
    """Solve columns of H (slab, k), each with its own W' W.

    Returns kkt at H, the gain, and how many columns are open.

    Components before ``first`` are fixed.
    ``columns`` are the sums of squares of V's columns; ``new`` (slab, k) receives the solution.
    Columns go on by an active set as ``exact`` and ``least`` say, as for `masked_rows`.
    """
    k = Ht.shape[1]
    G, g, h = np.zeros((k, k)), np.zeros(k), np.zeros(k)
    room = workspace(k), np.zeros((k, k)), np.zeros(k)
    kkt = 0.0
    gain = 0.0
    open_columns = 0
    for column in range(Ht.shape[0]):
        position = k
        for t in range(k):
            for u in range(t + 1):
                G[t, u] = wide[column, position]
                G[u, t] = wide[column, position]
                position += 1
        c = wide[column, :k]
        for t in range(k):  # not as slices: their error messages take seconds to compile
            h[t] = Ht[column, t]
        _, part, _ = _descend(h, first, c, G, l1, l2, 0.0, 0.0, 0, g, NEVER, least, *room)
        kkt += part
        for t in range(k):
            gain += (0.5 * (g[t] + l1 - c[t])) * h[t]
        left = columns[column]
        for t in range(k):
            left += h[t] * (g[t] - l1 - c[t])
        floor = max(left, 2.0**-52 * columns[column])
        _, _, still = _descend(h, first, c, G, l1, l2, floor, tau2, sweeps, g, exact, least, *room)
        open_columns += still
        for t in range(k):
            gain -= (0.5 * (g[t] + l1 - c[t])) * h[t]
            new[column, t] = h[t]
    return kkt, gain, open_columns


@kernel
def entry_residuals(data, indices, indptr, W, Ht, out):  # type: ignore[no-untyped-def]
    """Compute v - w h of every stored entry.

    Parameters
    ----------
    data, indices, indptr
        Of CSR.
    W : (m, kp) array
        `padded`.
    Ht : (d, kp) array
        H', `padded`.
    out : (nnz,) array
        Receives them.
    """
    kp = W.shape[1]
    A, fits = np.zeros((GATHER, kp), W.dtype), np.empty(GATHER, W.dtype)
    for i in range(W.shape[0]):
        begin = indptr[i]
        while begin < indptr[i + 1]:
            size = min(GATHER, indptr[i + 1] - begin)
            gather(A, Ht, indices, begin, size)
            dots(fits, A, 0, size, W, i)
            for p in range(size):
                out[begin + p] = data[begin + p] - fits[p]
            begin += size


def observed_residual(V: Any, row: int, w: np.ndarray, H: np.ndarray) -> np.ndarray:
    """Return the non-negative part of v - w H of one row, 0 where it is unobserved, (d,)."""
    span = slice(int(V.indptr[row]), int(V.indptr[row + 1]))
    columns = V.indices[span]
    left = V.data[span] - w @ H[:, columns]
    out = np.zeros(H.shape[1], H.dtype)
    out[columns] = np.maximum(left, 0)
    return out


def entry_weights(V: Any) -> np.ndarray:
    """Return the weights of the stored entries; empty where each weighs 1."""
    return V.weights if isinstance(V, WeightedCSR) else np.zeros(0, V.data.dtype)
