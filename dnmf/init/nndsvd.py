"""NNDSVD: a start of H from the singular vectors (Boutsidis and Gallopoulos 2008)."""

from __future__ import annotations

from typing import Any

import numpy as np

from dnmf.linalg.counter import uniform
from dnmf.linalg.streams import Stream

__all__ = ["NNDSVD", "nndsvd_H", "singular_vectors"]

NNDSVD = ("nndsvd", "nndsvda", "nndsvdar")

OVERSAMPLING = 10
POWERS = 4
SMALL = 0.01


def singular_vectors(V: Any, k: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the k leading singular triplets by a randomized range finder (Halko et al. 2011).

    Parameters
    ----------
    V : (m, d) array or CSR array
    k : int
        At most min(m, d) triplets are found.
    seed : int

    Returns
    -------
    U : (m, r) array
    S : (r,) array
        Falling.
    Vt : (r, d) array
    """
    width = min(k + OVERSAMPLING, *V.shape)
    draws = uniform(seed, Stream.NNDSVD_RANGE, np.arange(V.shape[1]), np.arange(width))
    Q = np.linalg.qr(V @ (draws - 0.5).astype(V.dtype))[0]
    for _ in range(POWERS):  # subspace iteration, kept orthogonal
        Q = np.linalg.qr(V.T @ Q)[0]
        Q = np.linalg.qr(V @ Q)[0]
    U, S, Vt = np.linalg.svd((V.T @ Q).T, full_matrices=False)
    rank = min(k, S.size)
    return (Q @ U)[:, :rank], S[:rank], Vt[:rank]


def nndsvd_H(V: Any, k: int, seed: int, variant: str, positive: bool) -> np.ndarray:
    """Compute the H of NNDSVD.

    Parameters
    ----------
    V : (m, d) array or CSR array
        All rows, or a sample of them.
    k : int
    seed : int
    variant : {"nndsvd", "nndsvda", "nndsvdar"}
        Zeros stay, become the mean of V, or small random numbers.
    positive : bool
        No zero may stay, since multiplicative steps never leave it: "nndsvd" then fills them
        with a hundredth of the mean.

    Returns
    -------
    (k, d) array of the dtype of V
        Rows beyond the rank of V are the mean row, perturbed.
    """
    U, S, Vt = singular_vectors(V, k, seed)
    d = V.shape[1]
    mean = np.asarray(V.sum(axis=0), np.float64).ravel() / V.shape[0]
    noise = uniform(seed, Stream.NNDSVD_NOISE, np.arange(k), np.arange(d))
    H = 2.0 * noise * mean
    for j in range(S.size):
        H[j] = np.sqrt(S[j]) * (np.abs(Vt[j]) if j == 0 else _larger_part(U[:, j], Vt[j]))
    level = float(mean.mean())
    empty = 1e-6 * H.max(axis=1, keepdims=True) >= H
    fill = np.full_like(H, level if variant == "nndsvda" else SMALL * level * positive)
    if variant == "nndsvdar":
        fill = SMALL * level * noise
    H[empty] = fill[empty]
    H[:, mean == 0] = 0.0  # columns of zeros stay so
    return H.astype(V.dtype)


def _larger_part(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the positive or the negative part of v, whichever pair of u and v holds more."""
    pairs = [(np.maximum(s * u, 0), np.maximum(s * v, 0)) for s in (1.0, -1.0)]
    sizes = [np.linalg.norm(a) * np.linalg.norm(b) for a, b in pairs]
    best = int(np.argmax(sizes))
    norm = np.linalg.norm(pairs[best][1])
    return np.sqrt(sizes[best]) * pairs[best][1] / max(norm, np.finfo(v.dtype).tiny)
