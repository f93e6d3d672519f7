"""Cuts of rows into blocks, which depend on V and the arguments only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dnmf.errors import MemoryPlanError

__all__ = ["MOST_BLOCKS", "RowCost", "cut_by_cost", "cut_evenly"]

FEW_BLOCKS, MANY_ROWS = 64, 200
"""Up to so many blocks of at least so many rows are cut evenly."""

MOST_BLOCKS = 2_000_000
"""Most blocks of V, since the plan lists them and every pass goes over each of them."""


def cut_evenly(
    n: int, row_bytes: int, block_size: int, max_rows: int, units: list[int]
) -> np.ndarray:
    """Cut blocks of equally many rows, the last one perhaps fewer; as few as fit.

    Parameters
    ----------
    n : int
        Rows.
    row_bytes, block_size, max_rows : int
        Arguments of `Source.block_starts`.
    units : list of int
        Numbers of rows whose multiples are good blocks, the best first. The first one that
        fits is used, else the last one, which is what must be decoded together.

    Returns
    -------
    (blocks + 1,) int64 array

    Raises
    ------
    MemoryPlanError
        There would be more than `MOST_BLOCKS`.
    """
    most = min(block_size // row_bytes, max_rows)
    unit = next((unit for unit in units if unit <= most), units[-1])
    rows = max(unit, most // unit * unit)
    blocks = -(-n // rows)
    if blocks > MOST_BLOCKS:
        raise _too_many(n, blocks)
    rows = -(-n // (blocks * unit)) * unit  # no remainder that leaves a worker idle
    return np.append(np.arange(0, n, rows, dtype=np.int64), np.int64(n))


@dataclass(frozen=True)
class RowCost:
    """The bytes of a row of CSR in a decoded block."""

    per_row: int
    per_nonzero: int

    def even(self, rows: int, nonzeros: int, block_size: int) -> int:
        """Return the bytes of a block such that as few blocks as possible weigh about the same.

        A little more than the mean, as blocks end with whole rows: where that is more than a block
        may be, it takes one block more. Where blocks are many, a small last one does not matter,
        and where they have few rows, as many fit as fit.
        """
        total = max(1, rows * self.per_row + nonzeros * self.per_nonzero)
        fewest = -(-total // block_size)
        for blocks in (fewest, fewest + 1):
            if blocks > FEW_BLOCKS or rows < MANY_ROWS * blocks:
                return block_size
            size = -(-total // blocks) + total // (100 * blocks)
            if size <= block_size:
                return size
        return block_size


def cut_by_cost(
    stretches: Iterable[np.ndarray], cost: RowCost, block_size: int, max_rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cut CSR rows into blocks of as many as fit; a larger row is a block of its own.

    Parameters
    ----------
    stretches : iterable of int64 arrays
        ``indptr`` in order, cut anywhere: it may be too large to be in memory at once.
    cost : RowCost
    block_size, max_rows : int
        Arguments of `Source.block_starts`.

    Returns
    -------
    starts : (blocks + 1,) int64 array
    offsets : (blocks + 1,) int64 array
        ``indptr[starts]``.

    Raises
    ------
    MemoryPlanError
        There would be more than `MOST_BLOCKS`.
    """
    starts, offsets = [0], [0]
    known = np.zeros(0, np.int64)  # the last value of the stretch before, which a cut may need
    position = 0  # of known[0] in indptr
    for stretch in stretches:
        values = np.concatenate([known, stretch])
        weight = values * cost.per_nonzero
        weight += np.arange(position, position + len(values)) * cost.per_row
        last = position + len(values) - 1
        while True:
            start = starts[-1]
            limit = offsets[-1] * cost.per_nonzero + start * cost.per_row + block_size
            fits = position + int(np.searchsorted(weight, limit, side="right")) - 1
            stop = max(start + 1, min(fits, start + max_rows))
            if stop > last or stop == fits == last:
                break  # the next stretch may hold more rows of this block
            starts.append(stop)
            offsets.append(int(values[stop - position]))
            if len(starts) > MOST_BLOCKS:
                raise _too_many(stop, MOST_BLOCKS)
        known, position = values[-1:], last
    if starts[-1] < position:
        starts.append(position)
        offsets.append(int(known[0]))
    return np.array(starts, np.int64), np.array(offsets, np.int64)


def _too_many(rows: int, blocks: int) -> MemoryPlanError:
    return MemoryPlanError(
        f"V's first {rows:,} rows would be {blocks:,} blocks, of {MOST_BLOCKS:,} that there may be "
        f"at most: give larger blocks (--block-size), or rewrite V in larger chunks (dnmf convert)"
    )
