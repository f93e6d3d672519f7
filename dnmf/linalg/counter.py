"""Random numbers that depend on (seed, stream, row, column) and on nothing else.

Each number is a hash of its coordinates (the finaliser of Steele, Lea and Flood 2014,
"Fast splittable pseudorandom number generators", applied once per coordinate), so any process
can draw any part of a random array in any order.
"""

from __future__ import annotations

import numpy as np

__all__ = ["exponential", "key_of", "uniform"]

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def key_of(seed: int, stream: int) -> int:
    """Return the 64-bit key of a stream of a seed: different for every stream."""
    return _finalize_int(_finalize_int(seed) + stream)


def uniform(seed: int, stream: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return uniform numbers in (0, 1), a (len(rows), len(columns)) float64 array.

    Parameters
    ----------
    seed, stream : int
        Which array; streams of one seed are independent. `dnmf.linalg.streams` lists them.
    rows, columns : 1-d integer arrays
        Global coordinates.
    """
    row_keys = _finalize(rows.astype(np.uint64) + np.uint64(key_of(seed, stream)))
    column_keys = columns.astype(np.uint64) * np.uint64(_GOLDEN)
    bits = _finalize(row_keys[:, None] + column_keys[None, :])
    return ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52  # 53 bits would round to 1


def exponential(seed: int, stream: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return standard exponential numbers, arranged as in `uniform`."""
    return -np.log(uniform(seed, stream, rows, columns))


def _finalize(x: np.ndarray) -> np.ndarray:
    x = x + np.uint64(_GOLDEN)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _finalize_int(x: int) -> int:
    return int(_finalize(np.array([x & _MASK], np.uint64))[0])
