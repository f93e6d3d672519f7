"""Limits of floating point numbers, for kernels.

Numba's own ``np.finfo`` makes every process that loads such a kernel import SciPy's linear algebra.
"""

from __future__ import annotations

import numpy as np

from dnmf.linalg.jit import inlined

__all__ = ["TINY", "eps_of", "tiny_of"]

TINY = float(np.finfo(np.float64).tiny)
"""The smallest normal float64."""

TINY32 = float(np.finfo(np.float32).tiny)
EPS = float(np.finfo(np.float64).eps)
EPS32 = float(np.finfo(np.float32).eps)


@inlined
def tiny_of(X):  # type: ignore[no-untyped-def]
    """Return the smallest normal number of the dtype of an array, as float64."""
    return TINY32 if X.itemsize == 4 else TINY


@inlined
def eps_of(X):  # type: ignore[no-untyped-def]
    """Return the distance from 1 to the next number of the dtype of an array, as float64."""
    return EPS32 if X.itemsize == 4 else EPS
