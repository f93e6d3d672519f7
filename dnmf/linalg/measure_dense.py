"""Sums and validity of a dense block, in one traversal by explicit vectors."""

from __future__ import annotations

import numpy as np

from dnmf.linalg.jit import kernel
from dnmf.linalg.simd import LANES, greater, largest, load, smallest, store, total

__all__ = ["measure_dense"]

_GROUP = 4
"""Rows whose columns are added together, for one load and store of the columns' sums."""

_TILE = 1024
"""Columns at once: what is made of a group of rows stays near."""


@kernel
def measure_dense(V, row_sums, row_sumsq, column_sums, column_sumsq):  # type: ignore[no-untyped-def]
    """Measure a dense block in any layout.

    Tiles are copied as float64 into a small buffer first, so that their sums have one order
    whatever the layout of the block is. One with an entry that is negative or not finite is taken
    entry by entry, to count and to find it.

    Parameters
    ----------
    V : (m, d) array
    row_sums, row_sumsq : (m,) float64 arrays
        Added to, as the next two.
    column_sums, column_sumsq : (d,) float64 arrays, contiguous

    Returns
    -------
    tuple
        Nonzeros, bad entries, row and column of the first bad one or -1, largest entry. What is bad
        counts nowhere else.
    """
    m, d = V.shape
    rows = np.zeros(_GROUP * _TILE)
    lanes = np.zeros((4, LANES))
    sums = np.zeros((2, _GROUP))
    nonzeros = 0
    bad = 0
    first_row = -1
    first_column = -1
    highest = 0.0
    for start in range(0, m, _GROUP):
        end = min(start + _GROUP, m)
        for left in range(0, d, _TILE):
            right = min(left + _TILE, d)
            count, top = _tile(V, start, end, left, right, rows, lanes, sums)
            if count >= 0:
                for i in range(start, end):
                    row_sums[i] += sums[0, i - start]
                    row_sumsq[i] += sums[1, i - start]
                _add_columns(rows, end - start, left, right, column_sums, column_sumsq)
                nonzeros += count
                highest = max(highest, top)
                continue
            for i in range(start, end):
                wrong, column, count, top = _entries(
                    V, i, left, right, row_sums, row_sumsq, column_sums, column_sumsq
                )
                if wrong and (bad == 0 or first_row > i):
                    first_row = i
                    first_column = column
                bad += wrong
                nonzeros += count
                highest = max(highest, top)
    return nonzeros, bad, first_row, first_column, highest


@kernel
def _tile(V, start, end, left, right, rows, lanes, sums):  # type: ignore[no-untyped-def]
    """Copy a tile and sum its rows. Its nonzeros, or -1 where something is bad; largest entry."""
    width = right - left
    padded = -(-width // LANES) * LANES
    lanes[:] = 0.0
    finite = True
    for i in range(start, end):
        here = (i - start) * padded
        to, first, row = np.uint64(here), np.uint64(left), np.uint64(i)
        for j in range(width):  # unsigned: else each index is asked whether it counts from the end
            rows[to + np.uint64(j)] = V[row, first + np.uint64(j)]
        for j in range(width, padded):
            rows[here + j] = 0.0
        sums[0, i - start], sums[1, i - start] = _row(rows, here, padded, lanes)
        # Sound entries may add up to infinity too; then nothing bad is found entry by entry.
        finite &= sums[0, i - start] < np.inf
    lowest = 0.0
    highest = 0.0
    for lane in range(LANES):
        lowest = min(lowest, lanes[1, lane])
        highest = max(highest, lanes[2, lane])
    if lowest < 0.0 or not finite:
        return -1, 0.0
    return np.int64(total(load(lanes, 3 * LANES))), highest


@kernel
def _row(rows, here, padded, lanes):  # type: ignore[no-untyped-def]
    """Sum and sum of squares of a row in the buffer.

    ``lanes`` are zeros, and of a tile's rows so far the smallest and the largest entries (or 0) and
    the nonzeros.
    """
    zero = load(lanes, 0)
    low = load(lanes, LANES)
    high = load(lanes, 2 * LANES)
    nonzeros = load(lanes, 3 * LANES)
    sums = zero
    squares = zero
    for p in range(here, here + padded, LANES):
        x = load(rows, p)
        sums = sums + x
        squares = squares + x * x
        nonzeros = nonzeros + greater(x, zero)
        low = smallest(low, x)
        high = largest(high, x)
    store(lanes, LANES, low)
    store(lanes, 2 * LANES, high)
    store(lanes, 3 * LANES, nonzeros)
    return total(sums), total(squares)


@kernel
def _add_columns(rows, size, left, right, column_sums, column_sumsq):  # type: ignore[no-untyped-def]
    """Add the tile in the buffer, row after row."""
    width = right - left
    whole = width // LANES * LANES
    padded = -(-width // LANES) * LANES
    for j in range(0, whole, LANES):
        sums = load(column_sums, left + j)
        squares = load(column_sumsq, left + j)
        for p in range(j, j + size * padded, padded):
            x = load(rows, p)
            sums = sums + x
            squares = squares + x * x
        store(column_sums, left + j, sums)
        store(column_sumsq, left + j, squares)
    for j in range(whole, width):
        for p in range(j, j + size * padded, padded):
            column_sums[left + j] += rows[p]
            column_sumsq[left + j] += rows[p] * rows[p]


@kernel
def _entries(V, i, left, right, row_sums, row_sumsq, column_sums, column_sumsq):  # type: ignore[no-untyped-def]
    """Bad entries of a part of a row, the column of the first, nonzeros, largest entry."""
    bad = 0
    first_column = -1
    nonzeros = 0
    highest = 0.0
    for j in range(left, right):
        v = np.float64(V[i, j])
        if not (v >= 0.0 and v < np.inf):
            if bad == 0:
                first_column = j
            bad += 1
            continue
        nonzeros += v != 0.0
        highest = max(highest, v)
        row_sums[i] += v
        row_sumsq[i] += v * v
        column_sums[j] += v
        column_sumsq[j] += v * v
    return bad, first_column, nonzeros, highest
