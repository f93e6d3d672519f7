"""The Zarr chunks of a dense matrix that comes in chunks of a known size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dnmf.conversion.limits import DEFAULT, ConversionLimits

__all__ = ["DenseGrid", "dense_grid", "grid_of_chunks"]


@dataclass(frozen=True)
class DenseGrid:
    """A grid of chunks, and of the tasks that write them.

    Attributes
    ----------
    chunks : (int, int)
        Of the Zarr array.
    unit : (int, int)
        What one task writes: whole chunks.
    """

    chunks: tuple[int, int]
    unit: tuple[int, int]


def dense_grid(
    shape: tuple[int, int],
    item: int,
    source_chunk: tuple[int, int],
    limits: ConversionLimits = DEFAULT,
) -> DenseGrid:
    """Choose a grid that a fit reads well.

    Parameters
    ----------
    shape : (int, int)
    item : int
        Bytes of an entry.
    source_chunk : (int, int)
        Rows and columns of the chunks that the matrix comes in (the largest, where they
        differ). They are joined side by side where whole rows of them are small enough, else
        the target's chunks are about as wide as they are.
    limits : ConversionLimits
    """
    n, d = shape
    tall, wide = source_chunk
    if d * item > limits.chunk_row >= n * item:  # to be read by columns
        turned = _by_rows(d, n, item, wide, tall, limits)
        return DenseGrid(turned.chunks[::-1], turned.unit[::-1])
    return _by_rows(n, d, item, tall, wide, limits)


def _by_rows(
    n: int, d: int, item: int, tall: int, wide: int, limits: ConversionLimits
) -> DenseGrid:
    width = d
    if wide < d and tall * d * item > limits.rectangle:
        width = min(d, wide * max(1, limits.rectangle // 4 // (tall * wide * item)))
    row = width * item
    rows = min(tall, max(1, limits.rectangle // row))
    if rows * row < limits.chunk // 2:  # whole chunks together
        rows = min(n, max(1, limits.chunk // row // rows) * rows)
    most = max(1, min(rows, limits.chunk // row, limits.chunk_row // (d * item)))
    least = max(1, most // 2)
    height = next((r for r in range(most, least, -1) if rows % r == 0), most)
    return DenseGrid((height, width), (rows // height * height, width))


def grid_of_chunks(
    chunks: tuple[int, int], item: int, source_chunk: Sequence[int], room: int
) -> DenseGrid:
    """Return the grid of given chunks; a task writes about one source chunk in ``room`` bytes."""
    (rows, columns), (tall, wide) = chunks, source_chunk
    width = columns * max(1, wide // columns)
    height = rows * max(1, min(tall, room // (width * item)) // rows)
    return DenseGrid(chunks, (height, width))
