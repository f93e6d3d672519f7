"""Small non-negative least squares, many at once: coordinate descent that keeps the gradient.

Rows of W solve ``min_w 1/2 w G w' - c w' + l1 sum(w)``, w >= 0, independently (Cichocki and
Phan 2009; HALS). The gradient ``g = G w - c + l1`` is kept up to date and is touched only for
coordinates that move, so that a coordinate at rest costs two flops.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnmf.linalg.jit import kernel

__all__ = ["RowSolution", "better_start", "cold_start", "solve_rows"]


@dataclass
class RowSolution:
    """What `solve_rows` found besides W, which it changes in place.

    Attributes
    ----------
    residual_sumsq : (m,) float64 array
        |v|^2 - 2 c w' + w G w' of each row (may be slightly negative by rounding).
    cross : float
        Sum over rows of c w'.
    total, sumsq : float
        Sum of W and of its squares.
    kkt : float
        Sum over rows and components of G_jj (w - max(0, w - g / G_jj))^2.
    sweeps : int
        Sweeps of all rows together.
    """

    residual_sumsq: np.ndarray
    cross: float
    total: float
    sumsq: float
    kkt: float
    sweeps: int


def cold_start(C: np.ndarray, G: np.ndarray) -> np.ndarray:
    """A start where there is none: the unconstrained solution, clipped at zero.

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


def better_start(W: np.ndarray, C: np.ndarray, G: np.ndarray) -> None:
    """Replace the rows of W for which the clipped unconstrained solution is better.

    A warm start that is better stays, so that no row gets worse.

    Parameters
    ----------
    W : (m, k) array
        The warm start, zeros where there is none; changed in place.
    C : (m, k) array
        Of the dtype of W.
    G : (k, k) float64 array
    """
    clipped = cold_start(C, G)
    half = (0.5 * G).astype(W.dtype)
    _take_better(W, clipped, W @ half, clipped @ half, C)


@kernel
def _take_better(W, X, W_half, X_half, C):  # type: ignore[no-untyped-def]
    # rows of W give way to rows of X of lower 1/2 x G x' - c x'
    for i in range(W.shape[0]):
        difference = 0.0
        for j in range(W.shape[1]):
            difference += np.float64(W[i, j]) * (np.float64(W_half[i, j]) - np.float64(C[i, j]))
            difference -= np.float64(X[i, j]) * (np.float64(X_half[i, j]) - np.float64(C[i, j]))
        if difference > 0.0:
            for j in range(W.shape[1]):
                W[i, j] = X[i, j]


def solve_rows(
    W: np.ndarray,
    C: np.ndarray,
    G: np.ndarray,
    row_sumsq: np.ndarray,
    *,
    tau: float,
    l1: float = 0.0,
    max_sweeps: int = 200,
) -> RowSolution:
    """Improve every row of W until the last sweep moved little against its residual.

    A row stops when ``sum_j G_jj delta_j^2 <= tau^2 max(residual^2, eps |v|^2)``: a rule that
    does not punish a warm start, and that no other row can influence.

    Parameters
    ----------
    W : (m, k) array, C-contiguous
        The start; changed in place. Coordinates with ``G_jj == 0`` become 0.
    C : (m, k) array
        Of the dtype of W, e.g. V H'.
    G : (k, k) array
        Symmetric, of the dtype of W, e.g. H H' (plus l2 on its diagonal).
    row_sumsq : (m,) float64 array
        |v|^2 of each row.
    tau : float
        Relative tolerance.
    l1 : float
        Added to the gradient.
    max_sweeps : int
        Bound for rows that converge slowly.
    """
    residual = np.empty(W.shape[0], np.float64)
    eps = float(np.finfo(W.dtype).eps)
    one = W.dtype.type
    cross, total, sumsq, kkt, sweeps = _hals_rows(
        W, C, np.ascontiguousarray(G), row_sumsq, tau * tau, eps, one(l1), max_sweeps, residual
    )
    return RowSolution(residual, cross, total, sumsq, kkt, sweeps)


@kernel
def _hals_rows(W, C, G, row_sumsq, tau2, eps, l1, max_sweeps, residual):  # type: ignore[no-untyped-def]
    m, k = W.shape
    g = np.empty(k, W.dtype)
    inverse = np.zeros(k, W.dtype)
    zero = W.dtype.type(0)
    for j in range(k):
        if G[j, j] > 0:
            inverse[j] = W.dtype.type(1) / G[j, j]
    cross = 0.0
    total = 0.0
    sumsq = 0.0
    kkt = 0.0
    sweeps = 0
    for i in range(m):
        w = W[i]
        c = C[i]
        for j in range(k):
            g[j] = l1 - c[j]
            if inverse[j] == zero:
                w[j] = zero
        for j in range(k):
            value = w[j]
            if value != zero:
                row = G[j]
                for t in range(k):
                    g[t] += value * row[t]
        for _ in range(max_sweeps):
            sweeps += 1
            moved = 0.0
            for j in range(k):
                old = w[j]
                new = old - g[j] * inverse[j]
                if not new > zero:
                    new = zero
                delta = new - old
                if delta != zero and inverse[j] != zero:
                    w[j] = new
                    row = G[j]
                    for t in range(k):
                        g[t] += delta * row[t]
                    moved += np.float64(G[j, j]) * np.float64(delta) * np.float64(delta)
            if moved == 0.0:
                break
            left = row_sumsq[i]
            for j in range(k):
                left += np.float64(w[j]) * (np.float64(g[j]) - np.float64(l1) - np.float64(c[j]))
            if moved <= tau2 * max(left, eps * row_sumsq[i]):
                break
        left = row_sumsq[i]
        for j in range(k):
            value = np.float64(w[j])
            left += value * (np.float64(g[j]) - np.float64(l1) - np.float64(c[j]))
            cross += np.float64(c[j]) * value
            total += value
            sumsq += value * value
            if inverse[j] != zero:
                step = value - max(0.0, value - np.float64(g[j]) * np.float64(inverse[j]))
                kkt += np.float64(G[j, j]) * step * step
        residual[i] = left
    return cross, total, sumsq, kkt, sweeps
