"""Which Zarr chunks a dense matrix is written in, so that a fit reads it well."""

from __future__ import annotations

from dataclasses import dataclass

from dnmf.config import MIB

__all__ = ["DenseGrid", "dense_grid"]

CHUNK = 8 * MIB
"""Bytes of a chunk, where whole rows allow it."""

BLOCK = 32 * MIB
"""Bytes that a row of chunks (what is read together) should not exceed."""

UNIT = 128 * MIB
"""Bytes that one task should not exceed."""


@dataclass(frozen=True)
class DenseGrid:
    """How a matrix is cut.

    Attributes
    ----------
    chunks : (int, int)
        Of the Zarr array.
    unit : (int, int)
        What one task writes: whole chunks.
    """

    chunks: tuple[int, int]
    unit: tuple[int, int]


def dense_grid(shape: tuple[int, int], item: int, tall: int, wide: int) -> DenseGrid:
    """Choose the grid.

    Parameters
    ----------
    shape : (int, int)
    item : int
        Bytes of an entry.
    tall, wide : int
        Rows and columns of the pieces that the matrix comes in (the largest, where they
        differ). Pieces are joined side by side where whole rows of them are small enough, else
        chunks are about as wide as they are.
    """
    n, d = shape
    if d * item > BLOCK >= n * item:  # to be read by columns
        turned = _by_rows(d, n, item, wide, tall)
        return DenseGrid(turned.chunks[::-1], turned.unit[::-1])
    return _by_rows(n, d, item, tall, wide)


def _by_rows(n: int, d: int, item: int, tall: int, wide: int) -> DenseGrid:
    width = d
    if wide < d and tall * d * item > UNIT:
        width = min(d, wide * max(1, UNIT // 4 // (tall * wide * item)))
    row = width * item
    rows = min(tall, max(1, UNIT // row))
    if rows * row < CHUNK // 2:  # whole pieces together
        rows = min(n, max(1, CHUNK // row // rows) * rows)
    most = max(1, min(rows, CHUNK // row, BLOCK // (d * item)))
    least = max(1, most // 2)
    height = next((r for r in range(most, least, -1) if rows % r == 0), most)
    return DenseGrid((height, width), (rows // height * height, width))
