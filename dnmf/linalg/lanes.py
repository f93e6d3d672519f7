"""Bounded coordinate descent on many small quadratic problems at once, as vectors."""

from __future__ import annotations

from dnmf.linalg.jit import kernel
from dnmf.linalg.simd import LANES, fma, greater, largest, load, smallest, store, total

__all__ = ["BOXED", "GRADIENT", "HIGHEST", "INVERSE", "LOWEST", "X", "descend"]

X, GRADIENT, INVERSE, LOWEST, HIGHEST = range(5)
"""First indices of ``boxed``: the numbers that a problem has for each coordinate."""

BOXED = 5


@kernel
def descend(boxed, K, limit, still, sweeps):  # type: ignore[no-untyped-def]
    """Minimise ``g (x - x0) + 1/2 (x - x0) K (x - x0)'`` in a box, for `LANES` problems.

    Problems do not influence one another: one that is done stands still.

    Parameters
    ----------
    boxed : (BOXED, k, LANES) array
        x and its gradient, which change in place; the inverse of the diagonal of K, 0 where a
        coordinate may not move, and its bounds, which then hold it.
    K : (k (k + 1) / 2, LANES) array
        Packed by rows of its lower triangle.
    limit : (LANES,) array
        A problem is done when a sweep moves at most this, in ``sum_t K_tt delta_t^2``.
    still : (LANES,) array
        1 for a problem to solve, else 0; changed in place.
    sweeps : int
        At most.
    """
    k = boxed.shape[1]
    size = k * LANES
    gradients = GRADIENT * size
    for _ in range(sweeps):
        wanted = load(still, 0)
        moved = wanted - wanted
        row = 0
        for t in range(k):
            here = t * LANES
            old = load(boxed, X * size + here)
            step = load(boxed, gradients + here) * load(boxed, INVERSE * size + here)
            new = largest(old - step, load(boxed, LOWEST * size + here))
            new = smallest(new, load(boxed, HIGHEST * size + here))
            delta = (new - old) * wanted
            store(boxed, X * size + here, old + delta)
            moved = fma(load(K, row + here) * delta, delta, moved)
            for u in range(0, here + LANES, LANES):
                g = fma(delta, load(K, row + u), load(boxed, gradients + u))
                store(boxed, gradients + u, g)
            row += here + LANES
            below = row + here
            for u in range(here + LANES, size, LANES):
                g = fma(delta, load(K, below), load(boxed, gradients + u))
                store(boxed, gradients + u, g)
                below += u + LANES
        wanted = wanted * greater(moved, load(limit, 0))
        store(still, 0, wanted)
        if not total(wanted) > 0:
            break
