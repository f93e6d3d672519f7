"""Logarithms of many numbers at once, inside kernels."""

from __future__ import annotations

import math

import numpy as np

from dnmf.linalg.jit import fused_kernel, inlined, kernel
from dnmf.linalg.simd import LANES, bits, load, number, total

__all__ = ["entropy", "log", "sum_of"]

HALVES = 0x3FE6A09E << 32
"""The bits of about sqrt(1/2): a number is split as 2^e z with sqrt(1/2) <= z < sqrt(2)."""

LN2 = math.log(2.0)


@inlined
def log(x):  # type: ignore[no-untyped-def]
    """Return the natural logarithm of a positive normal float64, to a few units in the last digit.

    Without branches, so that a loop becomes vectors: log z = 2 artanh((z - 1) / (z + 1)), whose
    series ends below 2^-53 of its first term for z between sqrt(1/2) and sqrt(2).
    """
    whole = bits(x)
    exponent = (whole - HALVES) >> 52
    f = number(whole - (exponent << 52)) - 1.0
    s = f / (2.0 + f)
    y = s * s
    tail = 1 / 17 + y * (1 / 19 + y * (1 / 21))
    tail = 1 / 9 + y * (1 / 11 + y * (1 / 13 + y * (1 / 15 + y * tail)))
    tail = 1 / 3 + y * (1 / 5 + y * (1 / 7 + y * tail))
    return np.float64(exponent) * LN2 + 2.0 * (s + s * (y * tail))


@fused_kernel
def entropy(values):  # type: ignore[no-untyped-def]
    """Return the sum of v log v over positive numbers of a one-dimensional array; others add 0."""
    found = 0.0
    for p in range(values.size):
        v = np.float64(values[p])
        found += v * log(v) if v > 0.0 else 0.0
    return found


@kernel
def sum_of(x, size):  # type: ignore[no-untyped-def]
    """Return the sum of the first numbers of an array, as vectors and then the rest."""
    found = x.dtype.type(0)
    whole = size - size % LANES
    if whole > 0:
        sums = load(x, 0)
        for p in range(LANES, whole, LANES):
            sums = sums + load(x, p)
        found = total(sums)
    for p in range(whole, size):
        found += x[p]
    return found
