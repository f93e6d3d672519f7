"""Small non-negative quadratic problems, solved exactly by an active set.

``min_x g (x - x0)' + 1/2 (x - x0) B (x - x0)'``, x >= 0, from a feasible x0. What is solved is the
step, and the gradient is kept: where B is ill-conditioned, a gradient at x0 that was summed from
residuals decides how many digits of x are right, as in iterative refinement.
"""

from __future__ import annotations

import numpy as np

from dnmf.linalg.floats import EPS
from dnmf.linalg.jit import inlined, kernel

__all__ = [
    "POOR",
    "far_rows",
    "most_changes",
    "quadratic_rows",
    "ridge_of",
    "solve_quadratic",
    "workspace",
]

SWEEPS = 8
"""Most sweeps of coordinate descent before the active set, which find most of it cheaply: they end
with the first one that leaves the same coordinates at 0."""

POOR = 1e-7
"""A pivot, of a matrix whose diagonal is 1, below which the digits of a product such as H H' are
too few: the gradient is to be summed from residuals."""

SCALED, START, AT, SLOPE, FIRST, STEP = range(6)
VECTORS = 6


@kernel
def workspace(k):  # type: ignore[no-untyped-def]
    """Return what `solve_quadratic` needs for k coordinates: a factor, vectors, places."""
    return np.zeros((k, k)), np.zeros((VECTORS, k)), np.zeros(k, np.int64), np.zeros(k, np.bool_)


@inlined
def ridge_of(k):  # type: ignore[no-untyped-def]
    """Return a ridge that keeps steps of k coordinates finite, and is little beside POOR."""
    return 2e-14 + 4.0 * k * EPS


@inlined
def most_changes(k):  # type: ignore[no-untyped-def]
    """Return how often k coordinates may leave and enter: several times what any row took."""
    return 10 * k + 100


@kernel
def _scale(B, g, x0, z):  # type: ignore[no-untyped-def]
    # coordinates of curvature 1: columns of any size are alike
    k = B.shape[0]
    for t in range(k):
        root = np.sqrt(B[t, t]) if B[t, t] > 0.0 else 0.0
        z[SCALED, t] = 1.0 / root if root > 0.0 else 0.0
        z[START, t] = x0[t] * root
        z[AT, t] = z[START, t]
        z[SLOPE, t] = g[t] * z[SCALED, t]
        z[FIRST, t] = z[SLOPE, t]


@kernel
def _move_one(B, z, t, delta):  # type: ignore[no-untyped-def]
    # coordinate t by delta, and the gradients of all
    size = delta * z[SCALED, t]
    for u in range(z.shape[1]):
        z[SLOPE, u] += size * B[t, u] * z[SCALED, u]


@kernel
def _factorize(B, z, free, places, count, ridge, U):  # type: ignore[no-untyped-def]
    # U' U = the scaled B of the free coordinates + ridge; returns the least pivot without ridge
    least = np.inf
    for i in range(count):
        t = places[i]
        for j in range(i, count):
            u = places[j]
            U[i, j] = B[t, u] * z[SCALED, t] * z[SCALED, u]
        U[i, i] += ridge
    for i in range(count):
        pivot = U[i, i]
        least = min(least, pivot - ridge)
        root = np.sqrt(max(pivot, ridge))
        U[i, i] = root
        for j in range(i + 1, count):
            U[i, j] /= root
        for r in range(i + 1, count):
            x = U[i, r]
            for j in range(r, count):
                U[r, j] -= x * U[i, j]
    return least


@kernel
def _newton_step(z, places, count, U):  # type: ignore[no-untyped-def]
    # STEP of the free coordinates, -(U' U)^-1 SLOPE, at their places in U
    for i in range(count):
        z[STEP, i] = -z[SLOPE, places[i]]
    for i in range(count):
        x = z[STEP, i] / U[i, i]
        z[STEP, i] = x
        for j in range(i + 1, count):
            z[STEP, j] -= x * U[i, j]
    for r in range(count):
        i = count - 1 - r
        x = z[STEP, i]
        for j in range(i + 1, count):
            x -= U[i, j] * z[STEP, j]
        z[STEP, i] = x / U[i, i]


@kernel
def _go(B, z, free, places, count):  # type: ignore[no-untyped-def]
    # as far along STEP as coordinates stay feasible; whether that is all of it
    share, first = 1.0, -1
    for i in range(count):
        x, step = z[AT, places[i]], z[STEP, i]
        if x + share * step < 0.0:
            share, first = x / -step, i
    for i in range(count):
        t = places[i]
        new = z[AT, t] + share * z[STEP, i]
        if i == first or new < 0.0:
            new = 0.0
            free[t] = first < 0  # rounding alone
        _move_one(B, z, t, new - z[AT, t])
        z[AT, t] = new
    return first < 0


@kernel
def solve_quadratic(B, g, x0, ridge, most, work, x):  # type: ignore[no-untyped-def]
    """Solve one problem.

    Parameters
    ----------
    B : (k, k) float64 array
        Symmetric, its diagonal >= 0. A coordinate whose diagonal is 0 becomes 0.
    g, x0 : (k,) float64 arrays
        The gradient at x0; x0 >= 0.
    ridge : float
        Added to the diagonal of B, scaled to 1: steps then stay finite where B is singular.
    most : int
        Most times that a coordinate leaves or enters.
    work : tuple
        From `workspace`.
    x : (k,) float64 array
        Receives the solution.

    Returns
    -------
    least : float
        The least pivot of the scaled B over free coordinates: small where it is ill-conditioned.
    fall : float
        How much the objective falls.
    moved, size : float
        |x - x0|^2 and |x|^2, each coordinate times its curvature.
    done : bool
        Whether this is the solution, not the end of ``most``.
    """
    U, z, places, free = work
    k = B.shape[0]
    _scale(B, g, x0, z)
    for _ in range(SWEEPS):
        same = True
        for t in range(k):
            new = max(z[AT, t] - z[SLOPE, t], 0.0) if z[SCALED, t] > 0.0 else 0.0
            delta = new - z[AT, t]
            if delta != 0.0:
                same &= (new > 0.0) == (z[AT, t] > 0.0)
                _move_one(B, z, t, delta)
                z[AT, t] = new
        if same:
            break
    for t in range(k):
        free[t] = z[AT, t] > 0.0
    least = np.inf
    done = False
    for _ in range(most):
        count = 0
        for t in range(k):
            if free[t]:
                places[count] = t
                count += 1
        whole = True
        if count > 0:
            least = min(least, _factorize(B, z, free, places, count, ridge, U))
            _newton_step(z, places, count, U)
            whole = _go(B, z, free, places, count)
        if not whole:
            continue
        size = 0.0
        for t in range(k):
            size = max(size, z[AT, t], abs(z[FIRST, t]))
        enters, steepest = -1, -8.0 * EPS * size
        for t in range(k):
            if not free[t] and z[SCALED, t] > 0.0 and z[SLOPE, t] < steepest:
                enters, steepest = t, z[SLOPE, t]
        if enters < 0:
            done = True
            break
        free[enters] = True
    fall = moved = size = 0.0
    for t in range(k):
        delta = z[AT, t] - z[START, t]
        fall -= 0.5 * (z[FIRST, t] + z[SLOPE, t]) * delta
        moved += delta * delta
        size += z[AT, t] * z[AT, t]
        x[t] = z[AT, t] * z[SCALED, t]
    return least, fall, moved, size, done


@kernel
def quadratic_rows(W, C, G, l1, which, noise, poor):  # type: ignore[no-untyped-def]
    """Solve some rows of W exactly: ``min_w 1/2 w G w' - c w' + l1 sum(w)``, w >= 0.

    Parameters
    ----------
    W : (m, k) array
        Starts; rows in ``which`` become solutions.
    C : (m, k) array
    G : (k, k) float64 array
    l1 : float
    which : (r,) int array
        Numbers of rows.
    noise : float
        Relative error of C: no steps are taken in directions that it hides.
    poor : (r,) bool array
        Receives whether the row needs more digits than G and C have. One of a singular G does not:
        no digits of it are told.

    Returns
    -------
    float
        How much the objective of all rows falls.
    """
    k = G.shape[0]
    work, ridge, most = workspace(k), max(ridge_of(k), 16.0 * noise), most_changes(k)
    g, w, x = np.zeros(k), np.zeros(k), np.zeros(k)
    fallen = 0.0
    for r in range(which.size):
        i = which[r]
        for t in range(k):
            w[t] = W[i, t]
        for t in range(k):
            g[t] = l1 - C[i, t]
        for t in range(k):
            if w[t] != 0.0:
                for u in range(k):
                    g[u] += w[t] * G[t, u]
        least, fall, _, _, done = solve_quadratic(G, g, w, ridge, most, work, x)
        for t in range(k):
            W[i, t] = x[t]
        poor[r] = 4.0 * ridge < least < POOR or not done
        fallen += fall
    return fallen


@kernel
def far_rows(W, C, G, l1, limit, far):  # type: ignore[no-untyped-def]
    """Find rows of W whose gradient does not say that they are solved.

    Parameters
    ----------
    W, C : (m, k) arrays
    G : (k, k) float64 array
    l1 : float
        As for `quadratic_rows`.
    limit : float
        How large the projected gradient may be, relative to w, each coordinate of it divided and
        of w times the root of its curvature.
    far : (m,) bool array
        Receives whether it is larger.
    """
    k = G.shape[0]
    g = np.zeros(k)
    for i in range(W.shape[0]):
        for t in range(k):
            g[t] = l1 - C[i, t]
        for t in range(k):
            w = np.float64(W[i, t])
            if w != 0.0:
                for u in range(k):
                    g[u] += w * G[t, u]
        left = size = 0.0
        for t in range(k):
            if G[t, t] > 0.0:
                w = np.float64(W[i, t])
                step = w - max(0.0, w - g[t] / G[t, t])
                left += G[t, t] * step * step
                size += G[t, t] * w * w
        far[i] = left > limit * limit * size
