"""Fewer components at the least cost: pairs that are best told by one are merged."""

from __future__ import annotations

import numpy as np

from dnmf.linalg.products import gram

__all__ = ["merge_components", "merge_costs"]


def merge_costs(WtW: np.ndarray, HHt: np.ndarray) -> np.ndarray:
    """Return the cost of replacing two components by the best single one.

    The product of two columns of W and two rows of H has rank 2; its best approximation of rank
    1 misses half the square of its second singular value, the smaller eigenvalue of the product
    of the two 2 x 2 Gram matrices. No data are needed.

    Parameters
    ----------
    WtW, HHt : (k, k) float64 array

    Returns
    -------
    (k, k) float64 array, infinite on the diagonal
    """
    a, g = np.diag(WtW), np.diag(HHt)
    size = a * g
    trace = size[:, None] + size[None, :] + 2.0 * WtW * HHt
    det = (np.outer(a, a) - WtW * WtW) * (np.outer(g, g) - HHt * HHt)
    root = np.sqrt(np.maximum(trace * trace / 4.0 - det, 0.0))
    # det / (trace / 2 + root) instead of trace / 2 - root, in which digits would cancel
    low = np.divide(det, trace / 2.0 + root, out=np.zeros_like(det), where=trace > 0)
    cost = 0.5 * np.maximum(low, 0.0)
    np.fill_diagonal(cost, np.inf)
    return cost


def merge_components(H: np.ndarray, WtW: np.ndarray, k: int) -> np.ndarray:
    """Merge the pair that costs least until k components are left.

    Which one that is does not depend on the scale of either factor: costs are products of four
    norms, so both are first brought near 1, by powers of 2, which change no digit.

    Parameters
    ----------
    H : (more, d) array
    WtW : (more, more) float64 array
        W' W of the W that belongs to this H.
    k : int

    Returns
    -------
    (k, d) array of the dtype of H
    """
    of_H, of_A = _exponent(H), _exponent(WtW)
    rows, A = np.ldexp(H.astype(np.float64), -of_H), np.ldexp(WtW, -of_A)
    while len(rows) > k:
        G = gram(rows.T)
        cost = merge_costs(A, G)
        i, j = sorted(divmod(int(np.argmin(cost)), len(rows)))
        pair = np.ix_([i, j], [i, j])
        mix = _leading(A[pair], G[pair])
        h = mix @ rows[[i, j]]
        square = float(h @ h)
        into = np.eye(len(rows))
        if square > 0:
            rows[i] = h
            # the column of W that goes with h: W_pair H_pair h' / |h|^2
            into[[i, j], i] = G[pair] @ mix / square
        rows, into = np.delete(rows, j, axis=0), np.delete(into, j, axis=1)
        A = into.T @ A @ into
    return np.ldexp(rows, of_H).astype(H.dtype)


def _exponent(X: np.ndarray) -> int:
    """Return the exponent of the power of 2 just above the largest entry; 0 if all are zero."""
    return int(np.frexp(np.max(X, initial=0.0))[1])


def _leading(A: np.ndarray, G: np.ndarray) -> np.ndarray:
    """Return the combination of two rows of H that is W H's leading right singular vector.

    It solves A G y = s y; of non-negative matrices it is non-negative.
    """
    values, vectors = np.linalg.eig(A @ G)
    leading = np.abs(np.real(vectors[:, int(np.argmax(np.real(values)))]))
    return leading / max(float(leading.max()), np.finfo(float).tiny)
