"""CSR blocks: checked, canonical, never touching the arrays that they are made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import scipy

from dnmf.errors import CorruptDataError, InputError

__all__ = [
    "block_dtype",
    "check_offsets",
    "csr_block",
    "digest",
    "index_dtype",
    "narrowed",
    "sum_duplicates",
    "wide",
]


def index_dtype(columns: int, nonzeros: int = 0) -> np.dtype:
    """Return int32 where it holds every index, else int64."""
    return np.dtype(np.int32 if max(columns, nonzeros) < 2**31 else np.int64)


def block_dtype(stored: np.dtype) -> np.dtype:
    """Return the dtype of a CSR block: scipy has no sparse float16, so that becomes float32."""
    return np.dtype(np.float32) if stored == np.float16 else stored


def check_offsets(
    offsets: np.ndarray, start: int, rows: int, nonzeros: int, where: str, line: str = "row"
) -> np.ndarray:
    """Return a stretch of indptr as int64, or refuse it.

    Parameters
    ----------
    offsets : (m + 1,) integer array
        ``indptr[start : start + m + 1]``.
    start : int
        The row that the first offset belongs to.
    rows : int
        Rows of the matrix.
    nonzeros : int
        Stored entries of the matrix.
    where : str
        Names the matrix in errors.
    line : str
        What a row is to people: ``"column"`` of CSC.

    Raises
    ------
    CorruptDataError
        indptr does not begin at 0, decreases, or does not end at the number of entries.
    """
    offsets = offsets.astype(np.int64, copy=False)
    if start == 0 and offsets[0] != 0:
        raise CorruptDataError(f"{where}: indptr begins with {offsets[0]}; it must begin with 0")
    falls = np.flatnonzero(offsets[1:] < offsets[:-1])
    if len(falls):
        at = int(falls[0])
        raise CorruptDataError(
            f"{where}: indptr decreases from {offsets[at]} to {offsets[at + 1]} at {line} "
            f"{start + at}; the store is damaged or incomplete, write it again"
        )
    end, final = int(offsets[-1]), start + len(offsets) - 1 == rows
    if end > nonzeros or (final and end != nonzeros):
        raise CorruptDataError(
            f"{where}: indptr says {end} stored entries before {line} {start + len(offsets) - 1}, "
            f"but data and indices have {nonzeros}; the store is damaged, write it again"
        )
    return offsets


def csr_block(
    data: np.ndarray,
    indices: np.ndarray,
    offsets: np.ndarray,
    columns: int,
    *,
    owned: bool,
    start: int,
    where: str,
    known: bool = False,
    names: tuple[str, str] = ("row", "column"),
    number: Callable[[int], int] = int,
) -> scipy.sparse.csr_array:
    """Return a canonical CSR block.

    Parameters
    ----------
    data : (nnz,) array
    indices : (nnz,) integer array
    offsets : (m + 1,) int64 array
        Checked by `check_offsets`; the first need not be 0.
    columns : int
    owned : bool
        Whether data and indices may be sorted in place.
    start : int
        The global index of the first row, for errors.
    where : str
        Names the matrix in errors.
    known : bool
        These very arrays were seen to be valid and canonical before.
    names : (str, str)
        What rows and columns are to people: the other way round of CSC.
    number : callable
        Gives the number of a row to people, from its global index.

    Returns
    -------
    (m, columns) csr_array
        Sorted, unique column indices; duplicates summed, stored zeros kept.

    Raises
    ------
    CorruptDataError
        A column index is negative or too large.
    """
    if not known:
        _check_indices(indices, offsets, columns, start, where, names, number)
    kind = index_dtype(columns, len(indices))
    indptr = (offsets - offsets[0]).astype(kind, copy=False)
    narrow = indices.astype(kind, copy=False)
    values = data.astype(block_dtype(data.dtype), copy=False)
    block = scipy.sparse.csr_array((len(offsets) - 1, columns), dtype=values.dtype)
    # Its constructor would copy arrays that are small parts of others.
    block.data, block.indices, block.indptr = values, narrow, indptr
    if known:
        block.has_canonical_format = True
    elif not block.has_canonical_format:
        if not owned:
            block = block.copy()
        sum_duplicates(block, start, where, number)
    return block


def sum_duplicates(
    block: scipy.sparse.csr_array, start: int, where: str, number: Callable[[int], int] = int
) -> None:
    """Sort the entries of each row and add those of one column, in place.

    Raises
    ------
    InputError
        Whole numbers add up to more than their dtype holds.
    """
    stored = block.dtype
    block.sort_indices()
    if stored.kind in "iu" and _has_duplicates(block):  # their sums may need more room
        block.data = block.data.astype(wide(stored))
        block.sum_duplicates()
        block.data = narrowed(block, stored, start, where, number)
    else:
        block.sum_duplicates()


def wide(stored: np.dtype) -> type[np.signedinteger | np.unsignedinteger]:
    """Return the widest dtype of such whole numbers."""
    return np.uint64 if stored.kind == "u" else np.int64


def _has_duplicates(block: scipy.sparse.csr_array) -> bool:
    """Return whether a row with sorted indices has one twice."""
    same = block.indices[1:] == block.indices[:-1]
    ends = block.indptr[1:-1]
    same[ends[(ends > 0) & (ends <= len(same))] - 1] = False
    return bool(same.any())


def narrowed(
    block: scipy.sparse.csr_array,
    stored: np.dtype,
    start: int,
    where: str,
    number: Callable[[int], int] = int,
) -> np.ndarray:
    """Return a block of wide whole numbers in the dtype that they were stored in.

    Raises
    ------
    InputError
        One does not fit.
    """
    limits = np.iinfo(stored)
    wrong = np.flatnonzero((block.data < limits.min) | (block.data > limits.max))
    if len(wrong):
        at = int(wrong[0])
        row = start + int(np.searchsorted(block.indptr, at, side="right")) - 1
        raise InputError(
            f"{where}: entries of row {number(row)}, column {block.indices[at]} are stored more "
            f"than once and add up to {block.data[at]}, which {stored} does not hold: store their "
            f"sum, or a wider dtype"
        )
    return block.data.astype(stored)


def _check_indices(
    indices: np.ndarray,
    offsets: np.ndarray,
    columns: int,
    start: int,
    where: str,
    names: tuple[str, str],
    number: Callable[[int], int],
) -> None:
    if not len(indices) or (indices.min() >= 0 and indices.max() < columns):
        return
    at = int(np.flatnonzero((indices < 0) | (indices >= columns))[0])
    row = int(np.searchsorted(offsets, offsets[0] + at, side="right")) - 1
    raise CorruptDataError(
        f"{where}: {names[1]} index {indices[at]} in {names[0]} {number(start + row)}, but there "
        f"are {columns} {names[1]}s (0 to {columns - 1}); the store is damaged or its shape is "
        f"wrong"
    )


def digest(stretches: Iterable[np.ndarray]) -> str:
    """Return the checksum of an int64 array that comes in stretches."""
    import hashlib

    total = hashlib.sha256()
    for stretch in stretches:
        total.update(np.ascontiguousarray(stretch, dtype="<i8").tobytes())
    return total.hexdigest()[:32]
