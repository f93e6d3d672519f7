"""Rows and columns that a fold leaves out: drawn by counter, so that nobody stores them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from dnmf.linalg.counter import uniform
from dnmf.linalg.streams import Stream

__all__ = ["COLUMNS", "ROWS", "SPECKLED", "fold_of", "speckled"]

ROWS, COLUMNS = 0, 1
AXES = (Stream.FOLD_ROWS, Stream.FOLD_COLUMNS)
SPECKLED = 0.1
RANKED = 1 << 20
"""Up to so many rows or columns folds are of equal size; above, of equal probability."""


def fold_of(seed: int, axis: int, index: np.ndarray, count: int, folds: int) -> np.ndarray:
    """Return the fold of rows or columns, a function of the seed and their number in V alone.

    Parameters
    ----------
    seed : int
        Another seed is another partition.
    axis : int
        `ROWS` or `COLUMNS`, which are cut independently.
    index : (m,) int array
        Global numbers.
    count : int
        Rows or columns in all.
    folds : int
        At least 2.

    Returns
    -------
    (m,) int array from 0 to folds - 1
    """
    if count <= RANKED:
        return _ranked(seed, axis, count, folds)[index]
    return (_draw(seed, axis, index) * folds).astype(np.int64)


def speckled(seed: int, rows: np.ndarray, columns: np.ndarray, fold: int, folds: int) -> np.ndarray:
    """Return which entries a fold leaves out, one by one: (rows, columns) bool.

    A share of `SPECKLED` of all entries, less where folds are many; folds do not overlap.
    """
    numbers = uniform(seed, Stream.SPECKLED, rows, columns)
    first = fold / folds
    return (numbers >= first) & (numbers < first + min(SPECKLED, 1 / folds))


def _draw(seed: int, axis: int, index: np.ndarray) -> np.ndarray:
    return uniform(seed, AXES[axis], index, np.zeros(1, np.int64))[:, 0]


@lru_cache(maxsize=64)
def _ranked(seed: int, axis: int, count: int, folds: int) -> np.ndarray:
    order = np.argsort(_draw(seed, axis, np.arange(count)), kind="stable")
    found = np.empty(count, np.int64)
    found[order] = np.arange(count) * folds // count
    found.flags.writeable = False
    return found
