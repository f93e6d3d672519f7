"""Matrices in the memory of this process: NumPy arrays and scipy's sparse ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import scipy

from dnmf.sources.base import Matrix, Source
from dnmf.sources.checks import check_shape, masked_array, matrix_text, native_dtype
from dnmf.sources.csr import check_offsets, csr_block, digest, index_dtype
from dnmf.sources.cuts import RowCost, cut_by_cost
from dnmf.sources.formats import PADDED, as_csr

__all__ = ["ArraySource", "SparseSource"]


class ArraySource(Source):
    """A NumPy array. Blocks are read-only views where rows are contiguous, else copies.

    Parameters
    ----------
    V : (n, d) array

    Raises
    ------
    InputError
        V is masked, empty, not two-dimensional or not real.
    """

    kind = "array"
    noun = "an array in memory"
    in_memory = True

    def __init__(self, V: np.ndarray) -> None:
        if isinstance(V, np.ma.MaskedArray):
            raise masked_array("V")
        self._V = np.asarray(V)
        shape = check_shape(self._V.shape, "the array")
        super().__init__(shape, native_dtype(self._V.dtype, "the array"))

    def read_overhead(self, start: int, stop: int, alone: bool = False) -> int:
        return 0

    def read_blocks(self, starts: Sequence[int]) -> Iterator[Matrix]:
        for start, stop in pairwise(starts):
            yield self._block(start, stop)

    def _block(self, start: int, stop: int) -> np.ndarray:
        block = np.ascontiguousarray(self._V[start:stop], dtype=self.dtype).view()
        block.flags.writeable = False
        return block

    def transposed(self) -> Source | None:
        return ArraySource(self._V.T)

    def describe(self) -> str:
        return matrix_text("array", self.shape, self.dtype, "in memory", self.nbytes)


class SparseSource(Source):
    """A scipy sparse matrix or array.

    CSR is used as it is, every other format (CSC too) is converted to CSR once: the data are in
    memory anyway, and the result then does not depend on the format. Index arrays of either
    width, unsorted and duplicate indices are made canonical block by block, in copies.

    Parameters
    ----------
    V : (n, d) sparse matrix or array

    Raises
    ------
    InputError
        V is empty, not two-dimensional or not real.
    CorruptDataError
        The index arrays contradict the shape.
    """

    kind = "sparse"
    noun = "a sparse matrix in memory"
    in_memory = True
    is_sparse = True

    def __init__(self, V: scipy.sparse.sparray | scipy.sparse.spmatrix) -> None:
        where = f"the {type(V).__name__}"
        super().__init__(check_shape(V.shape, where), native_dtype(V.dtype, where))
        self._format = str(V.format)
        csr = as_csr(V, where)
        self._data, self._indices = csr.data, csr.indices
        nonzeros = min(len(csr.data), len(csr.indices), int(csr.indptr[-1]))
        self._indptr = check_offsets(csr.indptr, 0, self._shape[0], nonzeros, where)
        self._canonical: set[tuple[int, int]] = set()  # blocks that were found so

    @property
    def nonzeros(self) -> int:
        return int(self._indptr[-1])

    @property
    def nbytes(self) -> int:
        return self.block_bytes(0, self.shape[0]) + self._indptr.itemsize

    def block_starts(self, block_size: int, itemsize: int, max_rows: int) -> np.ndarray:
        width = index_dtype(self.shape[1]).itemsize
        cost = RowCost(per_row=width, per_nonzero=itemsize + width)
        block_size = cost.even(self.shape[0], int(self._indptr[-1]), block_size)
        return cut_by_cost([self._indptr], cost, block_size, max_rows)[0]

    def block_bytes(self, start: int, stop: int) -> int:
        nonzeros = int(self._indptr[stop] - self._indptr[start])
        entry = self._dtype.itemsize + self._indices.itemsize
        return nonzeros * entry + (stop - start) * self._indptr.itemsize

    def read_blocks(self, starts: Sequence[int]) -> Iterator[Matrix]:
        for start, stop in pairwise(starts):
            yield self._block(int(start), int(stop))

    def _block(self, start: int, stop: int) -> scipy.sparse.csr_array:
        offsets = self._indptr[start : stop + 1]
        span = slice(int(offsets[0]), int(offsets[-1]))
        data, indices = self._data[span].view(), self._indices[span].view()
        data.flags.writeable = indices.flags.writeable = False
        data = data.astype(self.dtype, copy=False)
        block = csr_block(
            data,
            indices,
            offsets,
            self.shape[1],
            owned=False,
            start=start,
            where="sparse matrix",
            known=(start, stop) in self._canonical,
        )
        if np.shares_memory(block.data, data):  # neither sorted nor summed
            self._canonical.add((start, stop))
        return block

    def describe(self) -> str:
        layout = f"CSR with {self.nonzeros} stored entries, in memory"
        if self._format != "csr":
            padding = ", without the zeros that it stores" if self._format in PADDED else ""
            layout += f" (converted from {self._format.upper()}{padding})"
        return matrix_text("sparse matrix", self.shape, self.dtype, layout, self.nbytes)

    def metadata(self) -> dict[str, Any]:
        # a checksum of indptr too, since blocks are cut by it
        return {**super().metadata(), "indptr": digest([self._indptr])}
