"""Validity, sums and checksum of a block from one traversal."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from dnmf.linalg.jit import csr_arrays, kernel, unlocked
from dnmf.linalg.matrix import Matrix, WeightedCSR, arrays_of
from dnmf.linalg.simd import LANES, greater, largest, load, smallest, store, total

__all__ = ["BlockMeasure", "checksum", "measure"]

_ADDED = 4
"""Rows whose columns are added together, for one load and store of the columns' sums."""

_TILE = 1024
"""Columns of a tile: the buffers of its few rows stay in the cache."""


@dataclass
class BlockMeasure:
    """Sums of one block and its first offending entry.

    Attributes
    ----------
    row_sums, row_sumsq : (m,) float64 arrays
    nonzeros : int
    largest : float
        Largest entry.
    bad : int
        Number of entries that are NaN, infinite or negative.
    first_bad : (int, int, float) or None
        Row within the block, column and value of the first of them.
    bad_weights, first_bad_weight
        Number and first of the bad weights; entries with a bad weight count nowhere else.
    largest_weight : float
    """

    row_sums: np.ndarray
    row_sumsq: np.ndarray
    nonzeros: int
    largest: float
    bad: int
    first_bad: tuple[int, int, float] | None
    bad_weights: int = 0
    first_bad_weight: tuple[int, int, float] | None = None
    largest_weight: float = 0.0


def measure(V: Matrix, column_sums: np.ndarray, column_sumsq: np.ndarray) -> BlockMeasure:
    """Measure a block in one traversal and add its columns' sums to the (d,) float64 arrays.

    The two arrays are contiguous. Sums are weighted where entries have weights.
    """
    m = V.shape[0]
    row_sums, row_sumsq = np.zeros(m), np.zeros(m)
    if isinstance(V, WeightedCSR):
        return _measured_weights(V, row_sums, row_sumsq, column_sums, column_sumsq)
    if isinstance(V, np.ndarray):
        nonzeros, bad, row, column, largest = _measure_dense(
            unlocked(V), row_sums, row_sumsq, column_sums, column_sumsq
        )
    else:
        nonzeros, bad, row, column, largest = _measure_csr(
            *csr_arrays(V), row_sums, row_sumsq, column_sums, column_sumsq
        )
    first = None
    if bad:
        first = (int(row), int(column), _entry(V, int(row), int(column)))
    return BlockMeasure(row_sums, row_sumsq, int(nonzeros), float(largest), int(bad), first)


def _entry(V: Matrix, row: int, column: int) -> float:
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return float(V[row, column])


def _measured_weights(
    V: WeightedCSR,
    row_sums: np.ndarray,
    row_sumsq: np.ndarray,
    column_sums: np.ndarray,
    column_sumsq: np.ndarray,
) -> BlockMeasure:
    sums = row_sums, row_sumsq, column_sums, column_sumsq
    data, indices, indptr = csr_arrays(V)
    nonzeros, largest, heaviest, bad, at, bad_weights, weight_at = _measure_weighted(
        data, unlocked(V.weights), indices, indptr, *sums
    )
    first = _place(V, V.data, int(at)) if bad else None
    first_weight = _place(V, V.weights, int(weight_at)) if bad_weights else None
    found = int(nonzeros), float(largest), int(bad), first, int(bad_weights), first_weight
    return BlockMeasure(row_sums, row_sumsq, *found, float(heaviest))


def _place(V: WeightedCSR, values: np.ndarray, at: int) -> tuple[int, int, float]:
    """Return row, column and value of a stored entry."""
    row = int(np.searchsorted(V.indptr, at, side="right")) - 1
    return row, int(V.indices[at]), float(values[at])


def checksum(V: Matrix) -> int:
    """Return a 64-bit checksum of the block's shape, dtypes and bits, at memory speed.

    Every word of eight bytes is mixed with its position and by multiplications, and the results
    are added modulo 2^64. One changed word always shows (the mixing is a bijection); any other
    change, such as two rows swapped, is missed once in 2^64 times. Plain sums with weights by
    position would not do: floating-point words of small integers differ in their highest bits
    only, and weighted differences of those vanish modulo 2^64. It guards against accidents, not
    malice.
    """
    parts = arrays_of(V)
    about = f"{V.shape} {[part.dtype.str for part in parts]}".encode()
    value = np.uint64(int.from_bytes(hashlib.blake2b(about, digest_size=8).digest(), "little"))
    for part in parts:
        flat = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
        words = flat[: flat.size // 8 * 8].view(np.uint64)
        tail = np.zeros(1, np.uint64)
        tail.view(np.uint8)[: flat.size % 8] = flat[words.size * 8 :]
        value = np.uint64(_mix(unlocked(words), tail[0], value, np.uint64(flat.size)))
    return int(value)


@kernel
def _mix(words, tail, value, size):  # type: ignore[no-untyped-def]
    golden = np.uint64(0x9E3779B97F4A7C15)
    odd = np.uint64(0xBF58476D1CE4E5B9)
    half = np.uint64(32)
    total = np.uint64(0)
    for i in range(words.size):
        word = words[i] + np.uint64(i) * golden
        word = (word ^ (word >> half)) * odd
        total += word ^ (word >> half)
    for part in (total, tail, size):
        value = (value ^ part) * golden
        value ^= value >> np.uint64(29)
    return value


@kernel
def _measure_csr(data, indices, indptr, row_sums, row_sumsq, column_sums, column_sumsq):  # type: ignore[no-untyped-def]
    nonzeros = 0
    bad = 0
    first_row = -1
    first_column = -1
    largest = 0.0
    for i in range(row_sums.size):
        for p in range(indptr[i], indptr[i + 1]):
            v = np.float64(data[p])
            if not (v >= 0.0 and v < np.inf):
                if bad == 0:
                    first_row = i
                    first_column = indices[p]
                bad += 1
                continue
            nonzeros += v != 0.0
            row_sums[i] += v
            row_sumsq[i] += v * v
            largest = max(largest, v)
            column_sums[indices[p]] += v
            column_sumsq[indices[p]] += v * v
    return nonzeros, bad, first_row, first_column, largest


@kernel
def _measure_weighted(  # type: ignore[no-untyped-def]
    data, weights, indices, indptr, row_sums, row_sumsq, column_sums, column_sumsq
):
    nonzeros = 0
    bad = 0
    bad_weights = 0
    first = -1
    first_weight = -1
    largest = 0.0
    heaviest = 0.0
    for i in range(row_sums.size):
        for p in range(indptr[i], indptr[i + 1]):
            v = np.float64(data[p])
            m = np.float64(weights[p])
            if not (m >= 0.0 and m < np.inf):
                if bad_weights == 0:
                    first_weight = p
                bad_weights += 1
                continue
            if not (v >= 0.0 and v < np.inf):
                if bad == 0:
                    first = p
                bad += 1
                continue
            nonzeros += v != 0.0
            largest = max(largest, v)
            heaviest = max(heaviest, m)
            row_sums[i] += m * v
            row_sumsq[i] += m * v * v
            column_sums[indices[p]] += m * v
            column_sumsq[indices[p]] += m * v * v
    return nonzeros, largest, heaviest, bad, first, bad_weights, first_weight


@kernel
def _measure_dense(V, row_sums, row_sumsq, column_sums, column_sumsq):  # type: ignore[no-untyped-def]
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
    rows = np.zeros(_ADDED * _TILE)
    lanes = np.zeros((4, LANES))
    sums = np.zeros((2, _ADDED))
    nonzeros = 0
    bad = 0
    first_row = -1
    first_column = -1
    highest = 0.0
    for start in range(0, m, _ADDED):
        end = min(start + _ADDED, m)
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
    """Copy a tile and sum its rows; return its nonzeros (-1: something is bad), largest entry."""
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
    """Return the sum and the sum of squares of a row in the buffer.

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
    """Return a row's number of bad entries, the first one's column, nonzeros, largest entry."""
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
