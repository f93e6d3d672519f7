"""Any rectangle of any source as a dense array, read in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from dnmf.errors import InputError
from dnmf.sources.base import Source
from dnmf.sources.checks import does_not_fit
from dnmf.sources.stored import Region

__all__ = ["cast_into", "read_need", "read_rectangle", "read_unit"]


def read_unit(source: Source) -> tuple[int, int]:
    """Return rows and columns of V that are decoded together: a chunk, or one row."""
    n, d = source.shape
    stored = source.stored_array
    if stored is None:
        return 1, d
    return min(n, stored.chunks[0]), min(d, stored.chunks[1])


def read_need(source: Source, read_bytes: int) -> int:
    """Return the bytes that `read_rectangle` takes at its peak beyond ``out``.

    Parameters
    ----------
    source : Source
    read_bytes : int
        As for `read_rectangle`.
    """
    stored, (rows, columns) = source.stored_array, read_unit(source)
    if stored is not None:
        rows, columns = _read_shape(source, read_bytes)
        region = ((0, rows), (0, columns))
        return rows * columns * stored.dtype.itemsize + stored.overhead(region)
    entry = source.dtype.itemsize + (8 if source.is_sparse else 0)
    return 3 * max(read_bytes, columns * entry)


def _read_shape(source: Source, read_bytes: int) -> tuple[int, int]:
    """Return rows and columns of as many whole chunks as ``read_bytes`` hold; at least one."""
    (n, d), (rows, columns) = source.shape, read_unit(source)
    chunks = max(1, read_bytes // (rows * columns * source.dtype.itemsize))
    wide = min(chunks, -(-d // columns))
    tall = min(max(1, chunks // wide), -(-n // rows))
    return min(n, tall * rows), min(d, wide * columns)


def read_rectangle(
    source: Source,
    rows: tuple[int, int],
    columns: tuple[int, int],
    out: np.ndarray,
    read_bytes: int,
) -> None:
    """Read rows and columns of V into ``out``; a chunk that they touch is decoded once.

    Parameters
    ----------
    source : Source
    rows, columns : (int, int)
        Start and stop.
    out : (rows, columns) array
        Every entry is written, in the dtype of ``out``.
    read_bytes : int
        Bytes to decode at a time; at least what must be decoded together is.

    Raises
    ------
    InputError
        A value does not fit the dtype of ``out``.
    CorruptDataError, TransientError
        Failures of `Source.read_blocks`.
    """
    stored = source.stored_array
    if stored is None:
        _read_rows(source, rows, columns, out, read_bytes)
        return
    for region in _regions(source, rows, columns, read_bytes):
        (a, b), (p, q) = region
        view = out[a - rows[0] : b - rows[0], p - columns[0] : q - columns[0]]
        if stored.dtype == out.dtype:
            stored.read(region, view)
        else:
            values = np.empty(view.shape, stored.dtype)
            stored.read(region, values)
            cast_into(view, values, a, p)
            del values  # before the next ones are allocated


def _regions(
    source: Source, rows: tuple[int, int], columns: tuple[int, int], read_bytes: int
) -> Iterator[Region]:
    tall, wide = _read_shape(source, read_bytes)
    for a, b in pairwise(_edges(*rows, tall)):
        for p, q in pairwise(_edges(*columns, wide)):
            yield (a, b), (p, q)


def _edges(start: int, stop: int, step: int) -> list[int]:
    """Return ``start``, the multiples of ``step`` between, ``stop``."""
    return [start, *range((start // step + 1) * step, stop, step), stop]


def _read_rows(
    source: Source,
    rows: tuple[int, int],
    columns: tuple[int, int],
    out: np.ndarray,
    read_bytes: int,
) -> None:
    n, d = source.shape
    entry = source.dtype.itemsize + (8 if source.is_sparse else 0)
    turned = source.transposed() if rows == (0, n) and columns != (0, d) else None
    if turned is not None:  # a few columns: whole rows would be copied for each few of them
        starts = _edges(*columns, max(1, read_bytes // (n * entry)))
        for start, block in zip(starts, turned.read_blocks(starts), strict=False):
            assert isinstance(block, np.ndarray)
            at = start - columns[0]
            cast_into(out[:, at : at + len(block)], block.T, 0, start)
        return
    starts = _edges(*rows, max(1, read_bytes // (d * entry)))
    for start, block in zip(starts, source.read_blocks(starts), strict=False):
        some = block if columns == (0, d) else block[:, columns[0] : columns[1]]
        values = some if isinstance(some, np.ndarray) else some.toarray()
        at = start - rows[0]
        cast_into(out[at : at + len(values)], values, start, columns[0])


def cast_into(out: np.ndarray, values: np.ndarray, row: int, column: int) -> None:
    """Assign, refusing numbers that the dtype of ``out`` cannot hold.

    Rounding to a narrower float is fine. Overflow, dropped fractions and anything but 0 and 1 as
    bool are not.

    Parameters
    ----------
    out, values : arrays of one shape
    row, column : int
        Where in V the array begins, for errors. ``column`` is not said for 1-d arrays, whose
        entries may belong to any row from ``row`` on.

    Raises
    ------
    InputError
    """
    if not np.can_cast(values.dtype, out.dtype):
        bad = does_not_fit(values, out.dtype)
        if np.any(bad):
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            if len(at) == 2:
                where = f"at row {row + at[0]}, column {column + at[1]}"
            else:
                where = f"in row {row} or after it"
            raise InputError(
                f"{values[at]} {where} does not fit {out.dtype}; choose another type (--dtype)"
            )
    out[...] = values
