"""Conversion of SciPy's sparse formats to CSR, with checks: its code trusts their indices.

SciPy looks at the sizes of the arrays when a matrix is made, not at every index, and not again when
arrays are changed. Converting a matrix with a wrong index ends the process, or writes elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dnmf.errors import CorruptDataError
from dnmf.sources.csr import check_offsets, narrowed, wide

__all__ = ["PADDED", "as_csr"]

PADDED = ("bsr", "dia")
"""Formats that store zeros to fill their blocks and diagonals, which say nothing of V."""


def as_csr(V: Any, where: str) -> Any:
    """Return V in CSR; V itself if it is, and then its column indices are still unchecked.

    Zeros that are stored stay, but for `PADDED` formats: with ``missing="zeros"`` what pads a
    block would count as observed.

    Parameters
    ----------
    V : scipy sparse matrix or array
    where : str
        Names the matrix in errors.

    Raises
    ------
    CorruptDataError
        The arrays of V contradict each other or its shape.
    """
    n, d = V.shape
    if V.format == "csr":
        _check_count("entries of indptr", len(V.indptr), n + 1, where)
        stored = min(len(V.data), len(V.indices), int(V.indptr[-1]))
        check_offsets(V.indptr, 0, n, stored, where)
    elif V.format == "csc":
        _check_compressed(V, d, n, "row", where)
    elif V.format == "bsr":
        height, width = V.data.shape[1:]
        if min(height, width) < 1 or n % height or d % width:
            raise CorruptDataError(f"{where}: blocks of {height} x {width} do not make {n} x {d}")
        _check_compressed(V, n // height, d // width, "column of blocks", where)
    elif V.format == "coo":
        for what, index, size in (("row", V.row, n), ("column", V.col, d)):
            _check_count(f"its {what} indices", len(index), len(V.data), where)
            _check_index(index, size, what, where)
    elif V.format == "dia":
        _check_count("its offsets", len(V.offsets), len(V.data), where)
    elif V.format == "lil":
        _check_count("its lists of columns", len(V.rows), n, where)
        _check_count("its lists of entries", len(V.data), n, where)
        for columns, entries in zip(V.rows, V.data, strict=True):
            _check_count("a list of columns", len(columns), len(entries), where)
    found = V.tocsr()
    if V.format == "coo" and V.dtype.kind in "iu" and found.nnz < V.nnz:  # some were added up
        sums = V.astype(wide(V.dtype)).tocsr()
        found.data = narrowed(sums, V.dtype, 0, where)
    if V.format in PADDED and not np.all(found.data):
        found = found.copy()  # which may have arrays of V
        found.eliminate_zeros()
    return found


def _check_compressed(V: Any, lines: int, size: int, what: str, where: str) -> None:
    indptr = V.indptr.astype(np.int64, copy=False)
    _check_count("entries of indptr", len(indptr), lines + 1, where)
    stored = min(len(V.data), len(V.indices))
    if indptr[0] != 0 or indptr[-1] > stored or np.any(indptr[1:] < indptr[:-1]):
        raise CorruptDataError(
            f"{where}: indptr must rise from 0 to at most {stored}, which are stored; it goes from "
            f"{indptr[0]} to {indptr[-1]}, with {indptr.min()} and {indptr.max()} in it. Make it "
            f"again"
        )
    _check_index(V.indices[: indptr[-1]], size, what, where)


def _check_count(what: str, found: int, wanted: int, where: str) -> None:
    if found != wanted:
        raise CorruptDataError(
            f"{where}: {what} are {found} where there must be {wanted}. Make it again"
        )


def _check_index(index: np.ndarray, size: int, what: str, where: str) -> None:
    if len(index) and not (index.min() >= 0 and index.max() < size):
        at = int(np.flatnonzero((index < 0) | (index >= size))[0])
        raise CorruptDataError(
            f"{where}: {what} index {index[at]} of stored entry {at}, but there are {size} (0 to "
            f"{size - 1}). Make it again"
        )
