"""Rows of V from the chunks of a Dask array: plain functions, run wherever the chunks are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from dnmf.errors import InputError
from dnmf.linalg.own_state import own_state
from dnmf.sources.base import Matrix
from dnmf.sources.checks import does_not_fit
from dnmf.sources.csr import check_offsets, csr_block
from dnmf.sources.formats import as_csr

__all__ = ["Band", "assemble", "extent", "locked", "put", "single_chunks", "stacked"]


@dataclass(frozen=True)
class Band:
    """Rows of V, and the chunks that they lie in.

    Attributes
    ----------
    heights, widths : tuple of int
        Sizes of the chunks, from top to bottom and from left to right.
    above : int
        Rows of V above the first of these chunks.
    lo, hi : int
        The rows wanted, counted from the top of the first chunk; hi lies in the last chunk.
    dtype : str
        Dtype of V, in this machine's byte order.
    sparse : bool
    """

    heights: tuple[int, ...]
    widths: tuple[int, ...]
    above: int
    lo: int
    hi: int
    dtype: str
    sparse: bool


def extent(chunk: Any) -> tuple[int, int, int]:
    """Return rows, columns and stored entries of a chunk."""
    rows, columns = chunk.shape
    return int(rows), int(columns), int(chunk.nnz if sp.issparse(chunk) else rows * columns)


@own_state()
def assemble(chunks: Sequence[Sequence[Any]], band: Band) -> Matrix:
    """Return the rows of a band from its chunks: C-contiguous, or canonical CSR.

    Chunks are never modified; the result may be a view of the only one.

    Raises
    ------
    InputError
        A chunk is not what the array says that it is.
    """
    edges = np.cumsum([0, *band.heights])
    found = []
    for row, (line, height) in enumerate(zip(chunks, band.heights, strict=True)):
        lo, hi = max(0, band.lo - int(edges[row])), min(height, band.hi - int(edges[row]))
        for chunk, width in zip(line, band.widths, strict=True):
            where = f"rows {band.above + edges[row]} to {band.above + edges[row + 1] - 1}"
            _check(chunk, (height, width), band, where)
        where = f"the dask array, rows {band.above + edges[row]} and below"
        first = band.above + int(edges[row]) + lo
        found.append([_cast(_rows(chunk, lo, hi, where), first, band.dtype) for chunk in line])
    return _sparse(found, band) if band.sparse else _dense(found, band)


def single_chunks(keys: list[list[Any]], band: Band) -> Iterator[tuple[list[list[Any]], Band]]:
    """Every chunk of a band that is one chunk tall, and what `assemble` makes of it."""
    (line,) = keys
    for key, width in zip(line, band.widths, strict=True):
        yield [[key]], replace(band, widths=(width,))


def stacked(parts: list[Matrix]) -> Matrix:
    """Join rows, one below the other."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return sp.csr_array(sp.vstack(parts, format="csr"))


def locked(block: Matrix) -> Matrix:
    """Return the block, read-only where it may be a view of the caller's array."""
    if not isinstance(block, np.ndarray):
        return block
    view = block.view()
    view.flags.writeable = False
    return view


@own_state()
def put(
    function: Callable[[int, int, Matrix], Any],
    column: int,
    chunks: Sequence[Sequence[Any]],
    band: Band,
) -> Any:
    """Return what a function makes of the rows of a band from ``column`` on."""
    return function(band.above + band.lo, column, assemble(chunks, band))


def _rows(chunk: Any, lo: int, hi: int, where: str) -> Any:
    if sp.issparse(chunk) and chunk.format != "csr":  # before SciPy's code, which trusts indices
        chunk = as_csr(chunk, where)
    return chunk if (lo, hi) == (0, chunk.shape[0]) else chunk[lo:hi]


def _cast(rows: Any, first: int, dtype: str) -> Any:
    """Return rows of a chunk, from row ``first`` of V on, in the dtype that the array has.

    Functions on chunks often return another one: a mean of integers, float64 of float32. Where
    numbers would not stay what they are, but for the rounding of floats to narrower ones, nothing
    says which of the two dtypes was meant.
    """
    if np.can_cast(rows.dtype, dtype):
        return rows
    values, wanted = rows.data if sp.issparse(rows) else np.asarray(rows), np.dtype(dtype)
    bad = does_not_fit(values, wanted)
    if wanted.kind == "f":
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            found = values.astype(wanted)
            if values.dtype.kind == "f":
                bad |= (found == 0) & (values != 0)
            else:  # whole numbers do not become others
                bad |= found.astype(values.dtype) != values
    if np.any(bad):
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        row, column = _place(rows, at)
        meta = f", meta=scipy.sparse.csr_array((0, 0), dtype={str(rows.dtype)!r})"
        raise InputError(
            f"{values[at]} at row {first + row}, column {column} of its chunk, does not fit "
            f"{dtype}, which the dask array says that it is; its chunks there are {rows.dtype}. "
            f"Say so: x.map_blocks(lambda b: b, dtype={str(rows.dtype)!r}"
            f"{meta if sp.issparse(rows) else ''})"
        )
    return rows.astype(wanted)


def _place(rows: Any, at: tuple[int, ...]) -> tuple[int, int]:
    """Return row and column of an entry: of the stored ones, where the rows are CSR."""
    if len(at) == 2:
        return at[0], at[1]
    return int(np.searchsorted(rows.indptr, at[0], side="right")) - 1, int(rows.indices[at[0]])


def _dense(chunks: list[list[Any]], band: Band) -> np.ndarray:
    if len(chunks) == 1 and len(chunks[0]) == 1:
        return np.ascontiguousarray(np.asarray(chunks[0][0]), dtype=band.dtype)
    out = np.empty((band.hi - band.lo, sum(band.widths)), band.dtype)
    top = 0
    for line in chunks:
        left, height = 0, line[0].shape[0]
        for chunk in line:
            out[top : top + height, left : left + chunk.shape[1]] = chunk
            left += chunk.shape[1]
        top += height
    return out


def _sparse(chunks: list[list[Any]], band: Band) -> sp.csr_array:
    lines = [[sp.csr_array(as_csr(chunk, "the dask array")) for chunk in line] for line in chunks]
    rows = [line[0] if len(line) == 1 else sp.hstack(line, format="csr") for line in lines]
    whole = rows[0] if len(rows) == 1 else sp.vstack(rows, format="csr")
    start, where = band.above + band.lo, "the dask array"
    offsets = check_offsets(whole.indptr, 0, whole.shape[0], len(whole.indices), where)
    owned = len(lines) > 1 or len(lines[0]) > 1
    data = whole.data.astype(band.dtype, copy=False)
    if not owned:  # perhaps the caller's own matrix
        data = data.view()
        data.flags.writeable = False
    return csr_block(
        data, whole.indices, offsets, whole.shape[1], owned=owned, start=start, where=where
    )


def _check(chunk: Any, shape: tuple[int, int], band: Band, where: str) -> None:
    """Refuse what Dask only notices, or does not, much later."""
    if isinstance(chunk, np.ma.MaskedArray):
        raise InputError(
            f"{where} of the dask array are a masked array, whose mask would be lost; fill it: "
            "x.map_blocks(numpy.ma.filled, numpy.nan) with missing='nan' (--missing nan) if masked "
            "entries were not observed, x.map_blocks(numpy.ma.filled, 0) if they are zeros"
        )
    if tuple(chunk.shape) != shape:
        raise InputError(
            f"a chunk with {where} of the dask array has shape {tuple(chunk.shape)}, but the "
            f"array says {shape}; give the right chunks= where it is made"
        )
    if sp.issparse(chunk) != band.sparse:
        say = "scipy.sparse.csr_array((0, 0))" if sp.issparse(chunk) else "numpy.empty((0, 0))"
        raise InputError(
            f"{where} of the dask array are a {type(chunk).__name__}, but the array's _meta says "
            f"{'sparse' if band.sparse else 'dense'}; tell dask: x.map_blocks(lambda b: b, "
            f"meta={say})"
        )
    if chunk.dtype.kind not in "buif" or chunk.dtype.itemsize > 8:
        raise InputError(
            f"{where} of the dask array have dtype {chunk.dtype}, but the array says "
            f"{band.dtype}; V must have real entries of at most 64 bits: convert them first"
        )
