"""Missing entries between two reads: V as W H of the pass completes it.

Where V is observed V~ is V, elsewhere it is W H at the pair of the pass. For every other pair
1/2 |V~ - W H|^2 is at least the loss over observed entries, and at this one they are equal, with
equal gradients: alternation on V~ never raises the loss (expectation-maximization, as Zhang, Wang,
Ford and Makedon 2006 do it for ratings). With R = V - W H where V is observed and 0 elsewhere,
V~ = W H + R, so that products of V~ are those of R and of factors.
"""

from __future__ import annotations

import numpy as np
import scipy

from dnmf.linalg.masked import entry_residuals
from dnmf.linalg.products import product_VHt
from dnmf.linalg.tiles import packed_size, padded
from dnmf.losses.nonzeros import tiles
from dnmf.losses.values import Factor, Matrix

__all__ = ["completed_WtV", "completed_rows"]


def completed_rows(
    V: Matrix,
    W: np.ndarray,
    factor: Factor,
    B: np.ndarray,
    entries: int,
    Y: np.ndarray,
) -> None:
    """Compute V~ B' of a block at its W.

    Parameters
    ----------
    V : CSR array
        Its stored entries are observed.
    W : (m, k) array
    factor : Factor
        H of the pass, with H'.
    B : (r, d) array
        Rows that span H.
    entries : int
        Of V, whose residuals are there at once.
    Y : (m, r) array
        Receives V~ B'.
    """
    assert factor.Ht is not None
    Bt = padded(B.T)
    Y[:] = W @ (factor.H.astype(np.float64) @ B.T.astype(np.float64)).astype(W.dtype)
    for a, tile in tiles(V, entries):
        b = a + tile.shape[0]
        left = np.empty_like(tile.data)
        entry_residuals(tile.data, tile.indices, tile.indptr, padded(W[a:b]), factor.Ht, left)
        R = scipy.sparse.csr_array(tile.shape, dtype=tile.dtype)
        R.data, R.indices, R.indptr = left, tile.indices, tile.indptr
        Y[a:b] += product_VHt(R, B, Bt)


def completed_WtV(wide: np.ndarray, WtW: np.ndarray, H: np.ndarray) -> np.ndarray:
    """Return W'V~ of some columns.

    Parameters
    ----------
    wide : (r, slab) float64 array
        W'V over observed entries, then each column's W'W over them, packed; or W'(W H) over them
        and what else there is.
    WtW : (k, k) float64 array
    H : (k, slab) array
        Of the pass.

    Returns
    -------
    (k, slab) float64 array
    """
    k, H = len(WtW), H.astype(np.float64)
    if wide.shape[0] != k + packed_size(k):
        observed = wide[k : 2 * k]
    else:
        observed, row = np.zeros_like(H), k
        for t in range(k):  # the lower triangle, row by row
            for u in range(t + 1):
                observed[t] += wide[row] * H[u]
                if u < t:
                    observed[u] += wide[row] * H[t]
                row += 1
    return np.asarray(wide[:k] - observed + WtW @ H)
