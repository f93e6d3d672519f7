"""V that was lazy, cut as the same matrix in memory is, wherever its entries are by now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from dnmf.sources.array import ArraySource, SparseSource
from dnmf.sources.base import Matrix, Source
from dnmf.sources.csr import index_dtype
from dnmf.sources.missing import Missing

__all__ = ["LikeInMemory", "dense_layout", "sparse_layout"]


class LikeInMemory(Source):
    """A matrix with the blocks, and so the bits, of the same matrix in memory.

    How much memory there is decides where the entries of a lazy V go, but no bit of a result.

    Parameters
    ----------
    layout : Source
        What the same matrix in memory would be; only its shape is used.
    text : str
        What `describe` says.
    read : Source, optional
        Where the entries are; without it there is nothing to read yet.
    alone : bool
        Whether a run names where ``read`` finds V, so that other processes go on with it.
    """

    kind: ClassVar[str] = "like_memory"

    def __init__(
        self, layout: Source, text: str, read: Source | None = None, alone: bool = False
    ) -> None:
        super().__init__(layout.shape, layout.dtype)
        self.layout, self._text, self._alone = layout, text, alone
        self._read = layout if read is None else read

    @property
    def is_sparse(self) -> bool:
        return self.layout.is_sparse

    @property
    def nonzeros(self) -> int | None:
        return self.layout.nonzeros

    @property
    def nbytes(self) -> int:
        return self.layout.nbytes

    @property
    def persistent(self) -> bool:
        return self._alone

    @property
    def in_memory(self) -> bool:
        return self._read.in_memory

    def paths(self) -> list[str]:
        return self._read.paths()

    def block_starts(self, block_size: int, itemsize: int, max_rows: int) -> np.ndarray:
        return self.layout.block_starts(block_size, itemsize, max_rows)

    def block_bytes(self, start: int, stop: int) -> int:
        return self.layout.block_bytes(start, stop)

    def read_overhead(self, start: int, stop: int, alone: bool = False) -> int:
        return self._read.read_overhead(start, stop, alone)

    def read_blocks(self, starts: Sequence[int]) -> Iterator[Matrix]:
        return self._read.read_blocks(starts)

    def unstored(self, start: int, stop: int, V: Matrix | None, begun: bool = False) -> list[str]:
        return self._read.unstored(start, stop, V, begun)

    def missing_chunks(self, start: int, stop: int, V: Matrix | None) -> Missing:
        return self._read.missing_chunks(start, stop, V)

    def transposed(self) -> Source | None:
        turned = self.layout.transposed(), self._read.transposed()
        if turned[0] is None or turned[1] is None:
            return None
        return LikeInMemory(turned[0], self._text, turned[1], self._alone)

    def describe(self) -> str:
        return self._text

    def metadata(self) -> dict[str, Any]:
        # of what another process opens; else of the layout, wherever the entries are this time
        return self._read.metadata() if self._alone else self.layout.metadata()

    def spec(self) -> Mapping[str, Any]:
        return self._read.spec()


def dense_layout(shape: tuple[int, int], dtype: np.dtype) -> Source:
    """Return what a dense matrix in memory would be; takes no memory."""
    return ArraySource(np.broadcast_to(np.zeros((), dtype), shape))


def sparse_layout(indptr: np.ndarray, columns: int, dtype: np.dtype) -> Source:
    """Return what CSR with these offsets in memory would be; takes no memory but theirs."""
    return _Offsets(indptr, columns, dtype)


class _Offsets(SparseSource):
    """CSR without entries."""

    def __init__(self, indptr: np.ndarray, columns: int, dtype: np.dtype) -> None:
        Source.__init__(self, (len(indptr) - 1, columns), dtype)
        self._format, self._indptr = "csr", indptr.astype(np.int64, copy=False)
        self._data = np.empty(0, dtype)
        self._indices = np.empty(0, index_dtype(columns, int(indptr[-1])))
        self._canonical: set[tuple[int, int]] = set()
