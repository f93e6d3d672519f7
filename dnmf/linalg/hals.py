"""Small non-negative least squares, many at once: coordinate descent that keeps the gradient.

Rows of W solve ``min_w 1/2 w G w' - c w' + l1 sum(w)``, w >= 0, independently (Cichocki and
Phan 2009; HALS). The gradient ``g = G w - c + l1`` is kept up to date. Many rows are processed
together: the inner loops run over rows, which are independent, and not over components, each of
which waits for the one before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnmf.linalg.active_set import quadratic_rows
from dnmf.linalg.floats import tiny_of
from dnmf.linalg.jit import inlined, kernel, unlocked

__all__ = ["ROWS_AT_ONCE", "RowSolution", "cold_start", "solve_exactly", "solve_rows"]


ROWS_AT_ONCE = 128
"""Rows that are processed together: enough to hide what a loop costs, and few enough for the
fastest cache."""

VECTOR = 16
"""Rows that the processor takes at once, or a multiple of them."""

TOGETHER = 4
"""Components whose steps join the other gradients at once; `_add_steps` writes them out."""


@dataclass
class RowSolution:
    """Results of `solve_rows` besides W, which it changes in place.

    Attributes
    ----------
    residual_sumsq : (m,) float64 array
        |v|^2 - 2 c w' + w G w' of each row (may be slightly negative by rounding).
    cross : float
        Sum over rows of c w'.
    total, sumsq : float
        Sum of W and of its squares.
    start_kkt, kkt : float
        Sum over rows and components of G_jj (w - max(0, w - g / G_jj))^2, of the start and at
        the end.
    gain : float
        How much lower the sum of the rows' objectives is: of each step of a coordinate
        -(g delta + G_jj delta^2 / 2), which cancels nothing.
    sweeps : int
        Sweeps of all rows together.
    open_rows : int
        Rows that were still moving when their sweeps ended, and were not solved exactly.
    """

    residual_sumsq: np.ndarray
    cross: float
    total: float
    sumsq: float
    start_kkt: float
    kkt: float
    gain: float
    sweeps: int
    open_rows: int = 0


def cold_start(C: np.ndarray, G: np.ndarray) -> np.ndarray:
    """Return a start without a guess: the unconstrained solution, clipped at zero.

    From it rows need 3 to 5 sweeps where a start at zero needs 16 to 130 (planted Poisson data,
    k = 20 and 50), and end nearer to the solution.

    Parameters
    ----------
    C : (m, k) array
    G : (k, k) float64 array
        May be singular: a ridge of 1e-6 of its mean diagonal is added.

    Returns
    -------
    (m, k) array of the dtype of C
    """
    k = G.shape[0]
    ridge = 1e-6 * np.trace(G) / k
    if not ridge > 0:
        return np.zeros_like(C)
    inverse = np.linalg.inv(G + ridge * np.eye(k)).astype(C.dtype)
    return np.maximum(C @ inverse, 0)


def solve_rows(
    W: np.ndarray,
    C: np.ndarray,
    G: np.ndarray,
    row_sumsq: np.ndarray,
    *,
    tau: float,
    l1: float = 0.0,
    max_sweeps: int = 200,
    exact: bool = False,
    noise: float = 0.0,
) -> RowSolution:
    """Improve every row of W until the last sweep moved little against its residual.

    A row stops when ``sum_j G_jj delta_j^2 <= tau^2 max(residual^2, eps |v|^2)``: a rule that
    does not punish a warm start, and that no other row can influence. Those that
    ``max_sweeps`` ends before may be solved exactly, by an active set.

    Parameters
    ----------
    W : (m, k) array, C-contiguous
        The start; changed in place. Coordinates whose ``G_jj`` is 0 or denormal
        become 0.
    C : (m, k) array
        Right-hand sides in the dtype of W, e.g. V H'.
    G : (k, k) float64 array
        Symmetric, e.g. H H' (plus l2 on its diagonal).
    row_sumsq : (m,) float64 array
        |v|^2 of each row.
    tau : float
        Relative tolerance.
    l1 : float
        Added to the gradient.
    max_sweeps : int
        Bound for rows that converge slowly; at least 1.
    exact : bool
        Solve rows exactly that are not done after ``max_sweeps``.
    noise : float
        Relative error of C, where it is larger than the rounding of its dtype.
    """
    residual = np.empty(W.shape[0], np.float64)
    eps = float(np.finfo(W.dtype).eps)
    one = W.dtype.type
    C, row_sumsq = unlocked(C), unlocked(row_sumsq)
    G_W = np.ascontiguousarray(G.astype(W.dtype, copy=False))
    until, slow = (tau * tau, eps, one(l1)), np.zeros(W.shape[0], bool)
    found = _hals_rows(W, C, G_W, row_sumsq, *until, max_sweeps, residual, exact, slow)
    if not (exact and slow.any()):
        done = RowSolution(residual, *found)
        done.open_rows = int(np.count_nonzero(slow))
        return done
    which = np.flatnonzero(slow)
    fall = solve_exactly(W, C, G, float(one(l1)), which, max(eps, noise))[1]
    rows, of_rows = W[which], np.empty(which.size)
    given = np.ascontiguousarray(C[which]), G_W, row_sumsq[which]
    more = _hals_rows(rows, *given, *until, 1, of_rows, False, slow)
    W[which], residual[which] = rows, of_rows
    cross, total, sumsq, _, kkt, gain, _ = np.add(found, more)
    return RowSolution(residual, cross, total, sumsq, found[3], kkt, gain + fall, found[6])


def solve_exactly(
    W: np.ndarray, C: np.ndarray, G: np.ndarray, l1: float, which: np.ndarray, noise: float = 0.0
) -> tuple[np.ndarray, float]:
    """Solve some rows by an active set.

    Parameters
    ----------
    W : (m, k) array
        The start; rows in ``which`` become solutions.
    C : (m, k) array
    G : (k, k) float64 array
    l1 : float
    which : (r,) int array
    noise : float
        Relative error of C.

    Returns
    -------
    poor : (r,) bool array
        Rows that need more digits than C and G have.
    fall : float
        How much lower the sum of the rows' objectives is.
    """
    poor = np.zeros(which.size, bool)
    return poor, float(quadratic_rows(W, C, G, l1, which, noise, poor))


@kernel
def _hals_rows(W, C, G, row_sumsq, tau2, eps, l1, max_sweeps, residual, exact, slow):  # type: ignore[no-untyped-def]
    # Each of the ROWS_AT_ONCE rows has a lane of its own: its operations and their order are those
    # of one row alone. The last row takes the lane of one that is done.
    m, k = W.shape
    diagonal, inverse, padded = _padded(G)
    w, c, g, d = _lanes(padded), _lanes(padded), _lanes(padded), _lanes(padded[:TOGETHER])
    moved, fallen, left = np.empty(ROWS_AT_ONCE), np.empty(ROWS_AT_ONCE), np.empty(ROWS_AT_ONCE)
    row = np.empty(ROWS_AT_ONCE, np.int64)
    cross = total = sumsq = start_kkt = kkt = gain = 0.0
    sweeps = 0
    for first in range(0, m, ROWS_AT_ONCE):
        active = min(ROWS_AT_ONCE, m - first)
        _load(W, C, inverse, first, active, w, c, row)
        _start_gradient(w, c, g, d, padded, l1)
        start_kkt += _kkt(w, g, inverse, diagonal, active)
        fallen[:] = 0.0
        done = 0
        while active > 0:
            width = (active + VECTOR - 1) // VECTOR * VECTOR
            _sweep(w, g, d, padded, inverse, diagonal, moved, fallen, width)
            _residuals(w, c, g, l1, row_sumsq, row, left, active, k)
            sweeps += active
            done += 1
            r = 0
            while r < active:
                size = row_sumsq[row[r]]
                still = moved[r] > tau2 * max(left[r], eps * size) and moved[r] > 0.0
                if still and done < max_sweeps:
                    r += 1
                    continue
                residual[row[r]], slow[row[r]] = left[r], still
                parts = _finish(W, row[r], w, c, g, r, inverse, diagonal)
                if not (exact and still):
                    cross, total = cross + parts[0], total + parts[1]
                    sumsq, kkt = sumsq + parts[2], kkt + parts[3]
                gain += fallen[r]
                active -= 1
                _move(r, active, w, c, g, moved, fallen, left, row)
    return cross, total, sumsq, start_kkt, kkt, gain, sweeps


@kernel
def _padded(G):  # type: ignore[no-untyped-def]
    # the diagonal, its inverse (0 where it is 0 or denormal: of those it is infinite), and G with
    # rows of zeros to a multiple of TOGETHER
    k = G.shape[0]
    size = (k + TOGETHER - 1) // TOGETHER * TOGETHER
    diagonal, inverse = np.zeros(size), np.zeros(size, G.dtype)
    padded = np.zeros((size, size), G.dtype)
    smallest = tiny_of(G)
    for j in range(k):
        diagonal[j] = G[j, j]
        if G[j, j] >= smallest:
            inverse[j] = G.dtype.type(1) / G[j, j]
        for t in range(k):
            padded[j, t] = G[j, t]
    return diagonal, inverse, padded


@inlined
def _lanes(like):  # type: ignore[no-untyped-def]
    return np.zeros((like.shape[0], ROWS_AT_ONCE), like.dtype)


@inlined
def _load(W, C, inverse, first, active, w, c, row):  # type: ignore[no-untyped-def]
    # lanes without a row get zeros, which do not move
    w[:] = 0
    c[:] = 0
    for r in range(active):
        row[r] = first + r
        for j in range(W.shape[1]):
            if inverse[j] != 0:
                w[j, r] = W[first + r, j]
            c[j, r] = C[first + r, j]


@inlined
def _start_gradient(w, c, g, d, G, l1):  # type: ignore[no-untyped-def]
    for t in range(g.shape[0]):
        for r in range(ROWS_AT_ONCE):
            g[t, r] = l1 - c[t, r]
    for j in range(0, g.shape[0], TOGETHER):
        for b in range(TOGETHER):  # not as slices: their error messages take seconds to compile
            for r in range(ROWS_AT_ONCE):
                d[b, r] = w[j + b, r]
        _add_steps(g, d, G, j, 0, g.shape[0], ROWS_AT_ONCE)


@inlined
def _add_steps(g, d, G, j, begin, end, width):  # type: ignore[no-untyped-def]
    # g += G' d, four rows at once: an entry of g is read and written once for four products
    for t in range(begin, end):
        first, second, third, fourth = G[j, t], G[j + 1, t], G[j + 2, t], G[j + 3, t]
        for r in range(width):
            x = g[t, r] + first * d[0, r]
            x += second * d[1, r]
            x += third * d[2, r]
            g[t, r] = x + fourth * d[3, r]


@inlined
def _sweep(w, g, d, G, inverse, diagonal, moved, fallen, width):  # type: ignore[no-untyped-def]
    # gradients of four components follow each of their steps, all others after the four
    zero = w.dtype.type(0)
    for r in range(width):
        moved[r] = 0.0
    for j in range(0, w.shape[0], TOGETHER):
        for b in range(TOGETHER):
            step, weight = inverse[j + b], diagonal[j + b]
            for r in range(width):
                old = w[j + b, r]
                new = old - g[j + b, r] * step
                new = new if new > zero else zero  # NaN too becomes 0
                delta = new - old
                w[j + b, r] = new
                d[b, r] = delta
                size = weight * (np.float64(delta) * np.float64(delta))
                moved[r] += size
                fallen[r] -= np.float64(g[j + b, r]) * np.float64(delta) + 0.5 * size
            for t in range(TOGETHER):
                x = G[j + b, j + t]
                for r in range(width):
                    g[j + t, r] += x * d[b, r]
        _add_steps(g, d, G, j, 0, j, width)
        _add_steps(g, d, G, j, j + TOGETHER, g.shape[0], width)


@inlined
def _kkt(w, g, inverse, diagonal, active):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(w.shape[0]):
        for r in range(active):
            value = np.float64(w[j, r])
            step = value - max(0.0, value - np.float64(g[j, r]) * np.float64(inverse[j]))
            total += diagonal[j] * step * step
    return total


@inlined
def _residuals(w, c, g, l1, row_sumsq, row, left, active, k):  # type: ignore[no-untyped-def]
    for r in range(active):
        left[r] = row_sumsq[row[r]]
    for j in range(k):
        for r in range(active):
            part = np.float64(g[j, r]) - np.float64(l1) - np.float64(c[j, r])
            left[r] += np.float64(w[j, r]) * part


@inlined
def _finish(W, i, w, c, g, r, inverse, diagonal):  # type: ignore[no-untyped-def]
    # write a row that is done, and return its part of cross, total, sumsq and kkt
    cross = total = sumsq = kkt = 0.0
    for j in range(W.shape[1]):
        W[i, j] = w[j, r]
        value, step = np.float64(w[j, r]), np.float64(inverse[j])
        cross += np.float64(c[j, r]) * value
        total += value
        sumsq += value * value
        if step != 0.0:
            change = value - max(0.0, value - np.float64(g[j, r]) * step)
            kkt += diagonal[j] * change * change
    return cross, total, sumsq, kkt


@inlined
def _move(r, last, w, c, g, moved, fallen, left, row):  # type: ignore[no-untyped-def]
    # the last lane's row takes lane r; numbers that stay in the lane it leaves are not read
    if r == last:
        return
    for j in range(w.shape[0]):
        w[j, r], c[j, r], g[j, r] = w[j, last], c[j, last], g[j, last]
    moved[r], fallen[r] = moved[last], fallen[last]
    left[r], row[r] = left[last], row[last]
