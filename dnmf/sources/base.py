"""What V is: something whose rows can be read in order, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np
import scipy  # which loads scipy.sparse where it is first used: a dense fit does not

__all__ = ["Block", "Matrix", "Source"]

Matrix: TypeAlias = "np.ndarray | scipy.sparse.csr_array"
"""What one block holds: a C-contiguous array or a canonical CSR array (or a `WeightedCSR`)."""


@dataclass(frozen=True)
class Block:
    """Consecutive whole rows of V, decoded.

    Attributes
    ----------
    V : (m, d) array, CSR array or WeightedCSR
        In the dtype that the fit computes in. Of weighted data the observed entries, each with
        its weight; of data with missing entries the observed ones as CSR.
    start : int
        The global index of the first row.
    """

    V: Matrix
    start: int


@runtime_checkable
class Source(Protocol):
    """A non-negative matrix V (n x d) on storage or in memory.

    A source is immutable and picklable, holds no open handles after pickling, and never
    modifies what it reads. Reading is thread-safe.

    Attributes
    ----------
    kind : str
        The name under which the registry knows the class.
    shape : (int, int)
    dtype : numpy.dtype
        As stored.
    is_sparse : bool
        Whether blocks are CSR arrays.
    nbytes : int
        Decoded bytes of V (for CSR: data, indices and indptr).
    persistent : bool
        Whether ``spec()`` finds the same data from another process.
    """

    kind: ClassVar[str]

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def dtype(self) -> np.dtype: ...
    @property
    def is_sparse(self) -> bool: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def persistent(self) -> bool: ...

    def block_starts(self, block_size: int, itemsize: int, max_rows: int) -> np.ndarray:
        """Cut the rows into blocks.

        Parameters
        ----------
        block_size : int
            Bytes that a decoded block should not exceed, when its entries have ``itemsize``
            bytes. A block is never cut below what must be decoded together (one chunk-row;
            one row of CSR).
        itemsize : int
            Bytes of an entry in the dtype that the fit computes in.
        max_rows : int
            Rows that a block should not exceed, again at least one chunk-row.

        Returns
        -------
        (blocks + 1,) int64 array
            ``starts[b]`` is the first row of block b, ``starts[-1]`` is n. Depends on the
            data and the arguments only. Strictly increasing.
        """
        ...

    def block_bytes(self, start: int, stop: int) -> int:
        """Decoded bytes, as stored, of the rows ``start`` to ``stop``; reads no data of V."""
        ...

    def read_overhead(self, start: int, stop: int, alone: bool = False) -> int:
        """Bytes that reading these rows needs at its peak beyond the block it returns.

        ``alone`` says that no other block is read with them (``starts`` of two entries), so that
        nothing is kept for the next one.
        """
        ...

    def read_blocks(self, starts: Sequence[int]) -> Iterator[Matrix]:
        """Read the blocks ``starts[0]:starts[1]``, ``starts[1]:starts[2]``, ... in order.

        Every stored chunk that the whole range touches is read and decoded once per call.
        Blocks are fresh or read-only views in the stored dtype; CSR blocks have sorted,
        unique column indices (duplicates summed), int32 indices where d allows, and stored
        zeros are kept.

        Raises
        ------
        CorruptDataError
            A chunk is damaged or cannot be decoded (names store, chunk and rows).
        TransientError
            The storage failed in a way that may pass.
        """
        ...

    def unstored(self, start: int, stop: int, V: Matrix) -> list[str]:
        """Names of the chunks of these rows that are not stored at all (read as fill value)."""
        ...

    def transposed(self) -> Source | None:
        """V' as a source whose blocks are columns of V, or None where that is impossible."""
        ...

    def describe(self) -> str:
        """One line for people: where, shape, dtype, chunks, size."""
        ...

    def metadata(self) -> dict[str, Any]:
        """JSON: shape, dtype, layout; two equal ones promise equal block cuts."""
        ...

    def spec(self) -> Mapping[str, Any]:
        """JSON from which ``dnmf.sources.from_spec`` makes this source again elsewhere."""
        ...
