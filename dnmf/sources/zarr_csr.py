"""Sparse matrices in Zarr that are stored by rows (CSR)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np
import scipy

from dnmf.errors import CorruptDataError
from dnmf.sources.base import Matrix, Source
from dnmf.sources.compressed import CompressedArrays
from dnmf.sources.csr import block_dtype, check_offsets, csr_block, index_dtype
from dnmf.sources.cuts import RowCost, cut_by_cost
from dnmf.sources.forward import ForwardReader
from dnmf.sources.stored import StoredArray

__all__ = ["ZarrCSR"]


class ZarrCSR(Source):
    """A sparse matrix whose rows are stored one after the other.

    Parameters
    ----------
    arrays : CompressedArrays
        CSR, or CSC to be read as the transpose.
    """

    kind = "zarr_csr"
    is_sparse = True

    def __init__(self, arrays: CompressedArrays) -> None:
        # float32 where float16 is stored, which scipy's sparse arrays cannot hold
        super().__init__(arrays.shape, block_dtype(arrays.data.dtype))
        self._arrays = arrays
        self._offsets: dict[int, int] = {}  # of rows where blocks begin, as far as known

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Self:
        return cls(CompressedArrays.from_spec(spec))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_offsets": {}}

    @property
    def arrays(self) -> CompressedArrays:
        """The three arrays of it."""
        return self._arrays

    @property
    def nonzeros(self) -> int:
        return self._arrays.nonzeros

    @property
    def nbytes(self) -> int:
        return self._bytes(self._arrays.nonzeros, self.shape[0] + 1)

    @property
    def persistent(self) -> bool:
        return self._arrays.location.shared

    def block_starts(self, block_size: int, itemsize: int, max_rows: int) -> np.ndarray:
        width = index_dtype(self.shape[1]).itemsize
        cost = RowCost(per_row=width, per_nonzero=itemsize + width)
        block_size = cost.even(self.shape[0], self._arrays.nonzeros, block_size)
        starts, offsets = cut_by_cost(self._stretches(), cost, block_size, max_rows)
        self._offsets.update(zip(starts.tolist(), offsets.tolist(), strict=True))
        return starts

    def block_bytes(self, start: int, stop: int) -> int:
        return self._bytes(self._offset(stop) - self._offset(start), stop - start)

    def read_overhead(self, start: int, stop: int, alone: bool = False) -> int:
        a, b = self._offset(start), self._offset(stop)
        arrays, nonzeros = self._arrays, b - a
        parts = (arrays.data, arrays.indices)
        decoding = max(part.overhead(((a, b),)) for part in parts)
        offsets, shared = self._offsets_overhead(start, stop)
        shared += sum(p.chunks[0] * p.dtype.itemsize for p in parts)
        if alone:  # no chunk is shared with the next block, but half of what one takes may linger
            shared //= 2
        stored, entry = (p.dtype.itemsize for p in parts), self._entry()
        canonical = nonzeros * (sum(stored) + entry) // 2  # narrowed, or duplicates summed
        grown = max(0, nonzeros * entry - self._bytes(nonzeros, 0))  # float16 is
        return shared + grown + max(decoding, offsets, canonical)

    def read_blocks(self, starts: Sequence[int]) -> Iterator[Matrix]:
        readers = (ForwardReader(self._arrays.data), ForwardReader(self._arrays.indices))
        for start, part in zip(starts, self._offsets_of(starts), strict=False):
            yield self._block(int(start), part, readers, start + len(part) - 1 == starts[-1])

    def _stretches(self) -> Iterable[np.ndarray]:
        """Return the offsets of all rows, in order."""
        return self._arrays.stretches()

    def _offsets_overhead(self, start: int, stop: int) -> tuple[int, int]:
        """Return the bytes that reading the offsets takes, and those of a chunk of them."""
        indptr = self._arrays.indptr
        taken = indptr.overhead(((start, stop + 1),)) + 3 * 8 * (stop - start + 1)
        return taken, indptr.chunks[0] * indptr.dtype.itemsize

    def _offsets_of(self, starts: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield the offsets of each block's rows, and of what follows them."""
        first, last = int(starts[0]), int(starts[-1])
        offsets = ForwardReader(self._arrays.indptr)
        before = offsets.take(first, first + 1, last + 1)
        for start, stop in pairwise(map(int, starts)):
            part = np.concatenate([before, offsets.take(start + 1, stop + 1, last + 1)])
            before = part[-1:]
            yield part

    def _lines(self, start: int, stop: int) -> tuple[int, int]:
        """Return where rows lie among the lines that are stored."""
        return start, stop

    def _block(
        self, start: int, part: np.ndarray, readers: tuple[ForwardReader, ...], final: bool
    ) -> scipy.sparse.csr_array:
        arrays, stop = self._arrays, start + len(part) - 1
        n, d = self.shape
        where = arrays.location.name
        names = arrays.names
        try:
            part = check_offsets(part, start, n, arrays.nonzeros, where, names[0])
        except CorruptDataError as error:
            arrays.refuse_lost_offsets(*self._lines(start, stop), error)
            raise
        a, b = int(part[0]), int(part[-1])
        self._offsets[start], self._offsets[stop] = a, b
        try:
            data, indices = (reader.take(a, b, b if final else None) for reader in readers)
        except CorruptDataError as error:
            raise CorruptDataError(
                f"{error}. It is needed for {names[0]}s {self.number(start)} to "
                f"{self.number(stop - 1)}"
            ) from error
        return csr_block(
            data, indices, part, d, owned=True, start=start, where=where, names=names,
            number=self.number,
        )  # fmt: skip

    def unstored(self, start: int, stop: int, V: Matrix | None, begun: bool = False) -> list[str]:
        assert V is None or isinstance(V, scipy.sparse.csr_array)
        arrays = self._arrays
        region = ((self._offset(start), self._offset(stop)),)
        first, end = self._lines(start, stop)
        end += not begun or end == arrays.shape[0]  # others begin with the last one
        names = arrays.indptr.not_stored(((first, end),), begun=begun)
        # Canonical rows no longer lie as their chunks do, but they keep their entries: a chunk
        # that is missing shows as many fill values, unless duplicates were summed.
        for part in (arrays.data, arrays.indices):
            values = None if V is None else V.data if part is arrays.data else V.indices
            complete = values is not None and len(values) == region[0][1] - region[0][0]
            fill_values = part.count_fill(values) if complete and values is not None else None
            names += part.not_stored(region, fill_values, begun)
        return names

    @property
    def stored_arrays(self) -> tuple[StoredArray, ...]:
        return self._arrays.data, self._arrays.indices, self._arrays.indptr

    def describe(self) -> str:
        if self._arrays.encoding == "csc_matrix":
            n, d = self._arrays.shape
            return f"transpose of {self._arrays.describe((d, n))}"
        return self._arrays.describe(self._arrays.shape)

    def metadata(self) -> dict[str, Any]:
        return {"kind": self.kind, **self._arrays.metadata()}

    def spec(self) -> Mapping[str, Any]:
        return self._arrays.location.spec(self.kind)

    @property
    def entry_chunk_bytes(self) -> int:
        parts = self._arrays.data, self._arrays.indices
        return max(part.chunks[0] for part in parts) * sum(part.dtype.itemsize for part in parts)

    def _entry(self) -> int:
        """Return the bytes of a stored entry in a block."""
        return self.dtype.itemsize + index_dtype(self.shape[1]).itemsize

    def _bytes(self, nonzeros: int, offsets: int) -> int:
        arrays = self._arrays
        entry = arrays.data.dtype.itemsize + arrays.indices.dtype.itemsize
        return nonzeros * entry + offsets * arrays.indptr.dtype.itemsize

    def _offset(self, row: int) -> int:
        """Return indptr[row]; read it where it is not known yet."""
        if row not in self._offsets:
            value = np.empty(1, self._arrays.indptr.dtype)
            self._arrays.indptr.read(((row, row + 1),), value)
            self._offsets[row] = int(value[0])
        return self._offsets[row]
