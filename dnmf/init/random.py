"""Random starts scaled to the data, drawn by counter: no number depends on who draws it."""

from __future__ import annotations

import numpy as np

from dnmf.linalg.counter import exponential
from dnmf.linalg.streams import STARTS

__all__ = ["random_H"]


def random_H(
    seed: int, start: int, k: int, first_column: int, column_sums: np.ndarray, dtype: str
) -> np.ndarray:
    """Draw H whose rows are V's mean row times independent exponential noise.

    A start that knows the columns' means needs only to find how components differ; columns of
    zeros start, and stay, at zero. Scaling V scales the start exactly.

    Parameters
    ----------
    seed, start : int
        Starts of one seed are independent.
    k : int
    first_column : int
        Global index of the first column drawn.
    column_sums : (c,) float64 array
        Sums of the columns drawn.

    Returns
    -------
    (k, c) array of ``dtype``
    """
    columns = np.arange(first_column, first_column + column_sums.size)
    if not 0 <= start < STARTS:
        raise ValueError(f"start {start} has no stream of its own")
    noise = exponential(seed, start, np.arange(k), columns)
    noise *= column_sums
    return noise.astype(dtype)
