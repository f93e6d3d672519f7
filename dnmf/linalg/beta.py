"""Beta-divergences of dense tiles, their derivatives, and the bounded second-order step of H."""

from __future__ import annotations

import numpy as np

from dnmf.linalg.jit import kernel

__all__ = [
    "below_floor",
    "bounded_steps",
    "divergence_rows",
    "exponent",
    "floored",
    "of_means",
    "own_sum",
    "pair_products",
    "powers",
]

FLOOR = 1e-100
"""The least product W H: smaller ones count as this, since their powers must stay finite."""

SMALL_BETA = 0.1
"""The beta below which FLOOR to the power beta is not small beside other entries' powers."""

LOWEST = 0.01
HIGHEST = 20.0
SWEEPS = 100


def exponent(beta: float) -> float:
    """Return the multiplicative rule's power that never raises the divergence (Fevotte 2011)."""
    if beta < 1:
        return 1.0 / (2.0 - beta)
    return 1.0 / (beta - 1.0) if beta > 2 else 1.0


def floored(Y: np.ndarray) -> np.ndarray:
    """Raise Y to FLOOR in place, and return it."""
    return np.maximum(Y, FLOOR, out=Y)


def powers(Y: np.ndarray, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Return Y^(beta - 2) and Y^(beta - 1); Y is raised to FLOOR in place."""
    floored(Y)
    if beta == 0:
        below = 1.0 / Y
        return below * below, below
    low = np.power(Y, beta - 2.0)
    return low, low * Y


def divergence_rows(V: np.ndarray, Y: np.ndarray, beta: float) -> np.ndarray:
    """Sum over each row of d(v | y), for beta other than 1; Y > 0.

    scikit-learn's definition: v/y - log(v/y) - 1 for beta = 0, else
    (v^b + (b - 1) y^b - b v y^(b - 1)) / (b (b - 1)). Where beta <= 0 it is infinite or not a
    number at zeros of V, which are refused elsewhere.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if beta == 0:
            ratio = V / Y
            return np.sum(ratio - np.log(ratio) - 1.0, axis=1)
        low = np.power(Y, beta - 1.0)
        terms = np.power(V, beta) + low * ((beta - 1.0) * Y - beta * V)
    return np.sum(terms, axis=1) / (beta * (beta - 1.0))


def below_floor(V: np.ndarray, Y: np.ndarray, beta: float) -> np.ndarray | float:
    """Return what `divergence_rows` counts too much where Y is raised to FLOOR and V is 0, <= 0.

    Each row's sum of d(0 | y) - d(0 | FLOOR) = (y^beta - FLOOR^beta) / beta over y < FLOOR.
    """
    if not 0 < beta < SMALL_BETA:
        return 0.0
    excess = np.where((V == 0) & (Y < FLOOR), np.power(Y, beta) - FLOOR**beta, 0.0)
    return np.asarray(np.sum(excess, axis=1) / beta)


def own_sum(V: np.ndarray, beta: float) -> float:
    """Sum over entries the part of d(v | y) that has no y, for `of_means`."""
    with np.errstate(all="ignore"):  # entries that are refused are seen too
        if beta == 0:
            return -float(np.sum(np.log(V, dtype=np.float64)))
        return float(np.sum(np.power(V, beta, dtype=np.float64))) / (beta * (beta - 1.0))


def of_means(own: float, means: np.ndarray, rows: int, beta: float) -> float:
    """Return the divergence of V from its column means, from its `own_sum`.

    With y the mean of v, the other terms add up to -y^beta / (beta (beta - 1)) for each entry.
    """
    seen = means[means > 0]
    if beta == 0:
        return own + rows * float(np.sum(np.log(seen)))
    return own - rows * float(np.sum(np.power(seen, beta))) / (beta * (beta - 1.0))


def pair_products(X: np.ndarray) -> np.ndarray:
    """Return x_t x_u of each row for u <= t, (m, k (k + 1) / 2)."""
    rows, columns = np.tril_indices(X.shape[1])
    return X[:, rows] * X[:, columns]


@kernel
def bounded_steps(H, first, gradient, K, l2, out):  # type: ignore[no-untyped-def]
    """Minimise the second-order model of each column in the box LOWEST h <= x <= HIGHEST h.

    Parameters
    ----------
    H, gradient : (slab, k) float64 arrays
        The penalty's part is in the gradient.
    first : int
        Components before it are fixed.
    K : (slab, k (k + 1) / 2) float64 array
        Packed curvature, without l2.
    out : (slab, k) float64 array

    Returns
    -------
    float
        How much the model falls.
    """
    k = H.shape[1]
    full = np.empty((k, k))
    g = np.empty(k)
    decrease = 0.0
    for c in range(H.shape[0]):
        position = 0
        for t in range(k):
            g[t] = gradient[c, t]
            out[c, t] = H[c, t]
            for u in range(t + 1):
                full[t, u] = K[c, position]
                full[u, t] = K[c, position]
                position += 1
            full[t, t] += l2
        for _ in range(SWEEPS):
            moved = 0.0
            size = 0.0
            for t in range(first, k):
                h = H[c, t]
                if not (full[t, t] > 0.0 and h > 0.0):
                    continue
                x = min(max(out[c, t] - g[t] / full[t, t], LOWEST * h), HIGHEST * h)
                delta = x - out[c, t]
                size += full[t, t] * h * h
                if delta != 0.0:
                    decrease -= delta * (g[t] + 0.5 * full[t, t] * delta)
                    out[c, t] = x
                    for u in range(k):
                        g[u] += delta * full[t, u]
                    moved += full[t, t] * delta * delta
            if moved <= 1e-8 * size:
                break
    return decrease
