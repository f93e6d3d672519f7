"""CSR in three ``.npy`` files of one folder: data, indices, indptr; read by memory map."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dnmf.errors import CorruptDataError
from dnmf.npy_header import read_header
from dnmf.sources.base import Matrix, Source
from dnmf.sources.checks import check_shape, matrix_text, native_dtype
from dnmf.sources.csr import block_dtype, check_offsets, csr_block, digest, index_dtype
from dnmf.sources.cuts import RowCost, cut_by_cost

__all__ = ["NpyCsr"]

STRETCH = 1 << 20
"""Entries of indptr that are looked at together."""


class NpyCsr(Source):
    """A CSR matrix in a folder with ``data.npy``, ``indices.npy`` and ``indptr.npy``.

    Parameters
    ----------
    folder : str or Path
    shape : (int, int)
    name : str, optional
        What to call it for people; the folder by default.
    spare : bool
        Whether data and indices may be longer than indptr says, as SciPy's may.
    """

    kind = "npy_csr"
    is_sparse = True
    persistent = True

    def __init__(
        self,
        folder: str | os.PathLike[str],
        shape: Sequence[int],
        name: str | None = None,
        spare: bool = False,
    ) -> None:
        self.folder = Path(folder).absolute()
        self.name = name or str(self.folder)
        n, d = check_shape(shape, self.name)
        data, indices, indptr = (self._array(part) for part in ("data", "indices", "indptr"))
        super().__init__((n, d), block_dtype(native_dtype(data.dtype, self.name)))
        self._nonzeros = len(data)
        self._index_bytes = index_dtype(d).itemsize
        if len(indices) != len(data) or len(indptr) != n + 1:
            raise CorruptDataError(
                f"{self.name}: data, indices and indptr have {len(data)}, {len(indices)} and "
                f"{len(indptr)} entries; a CSR matrix of {n} rows needs equally many "
                f"data and indices, and {n + 1} in indptr"
            )
        if spare:
            self._nonzeros = min(self._nonzeros, max(int(indptr[-1]), 0))

    def __repr__(self) -> str:
        return f"NpyCsr({str(self.folder)!r}, {self.shape})"

    @property
    def nonzeros(self) -> int:
        return self._nonzeros

    @property
    def nbytes(self) -> int:
        return self.nonzeros * self._cost().per_nonzero + 8 * (self.shape[0] + 1)

    def _cost(self) -> RowCost:
        return RowCost(8, self.dtype.itemsize + self._index_bytes)

    def _array(self, part: str) -> np.ndarray:
        path = self.folder / f"{part}.npy"
        try:
            found = _mapped(path)
        except (OSError, ValueError) as error:
            raise CorruptDataError(f"{self.name}: {part} cannot be read: {error}") from None
        if found.ndim != 1 or found.dtype.kind not in ("buif" if part == "data" else "iu"):
            raise CorruptDataError(
                f"{self.name}: {part} is {found.ndim}-dimensional {found.dtype}; CSR needs "
                f"one-dimensional arrays, the indices whole numbers"
            )
        return found

    def _stretches(self) -> Iterator[np.ndarray]:
        indptr, n = self._array("indptr"), self.shape[0]
        for start in range(0, n + 1, STRETCH):
            begin = max(0, start - 1)  # one back: a fall between two stretches is seen too
            some = np.asarray(indptr[begin : start + STRETCH])
            checked = check_offsets(some, begin, n, self.nonzeros, self.name)
            yield checked[start - begin :]

    def block_starts(self, block_size: int, itemsize: int, max_rows: int) -> np.ndarray:
        itemsize = max(itemsize, self._cost().per_nonzero - self._index_bytes)
        cost = RowCost(8, itemsize + self._index_bytes)
        block_size = cost.even(self.shape[0], self.nonzeros, block_size)
        return cut_by_cost(self._stretches(), cost, block_size, max_rows)[0]

    def block_bytes(self, start: int, stop: int) -> int:
        indptr = self._array("indptr")
        entries = int(indptr[stop]) - int(indptr[start])
        return entries * self._cost().per_nonzero + 8 * (stop - start)

    def read_blocks(self, starts: Sequence[int]) -> Iterator[Matrix]:
        data, indices, indptr = (self._array(part) for part in ("data", "indices", "indptr"))
        for start, stop in pairwise(map(int, starts)):
            some = np.asarray(indptr[start : stop + 1])
            offsets = check_offsets(some, start, self.shape[0], self.nonzeros, self.name)
            first, last = int(offsets[0]), int(offsets[-1])
            yield csr_block(
                np.array(data[first:last], dtype=self.dtype),
                np.array(indices[first:last]),
                offsets,
                self.shape[1],
                owned=True,
                start=start,
                where=self.name,
            )

    def describe(self) -> str:
        layout = f"CSR, {self.nonzeros:,} stored entries"
        return matrix_text(self.name, self.shape, self.dtype, layout, self.nbytes)

    def metadata(self) -> dict[str, Any]:
        return {
            **super().metadata(),
            "nonzeros": self.nonzeros,
            "indptr": digest(self._stretches()),
        }

    def spec(self) -> Mapping[str, Any]:
        return {
            "kind": self.kind,
            "folder": str(self.folder),
            "shape": list(self.shape),
            "name": self.name,
        }

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> NpyCsr:
        return cls(spec["folder"], spec["shape"], spec["name"])


def _mapped(path: Path) -> np.ndarray:
    """Map a file's array, or read it if it is empty, which cannot be mapped."""
    with path.open("rb") as file:
        shape, _, dtype = read_header(file)
        offset = file.tell()
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if not math.prod(shape):
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", offset, shape)
