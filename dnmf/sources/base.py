"""The contract of a source: V's rows can be read in order, block by block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from dnmf.errors import InputError
from dnmf.labels import Labels
from dnmf.linalg.matrix import Matrix
from dnmf.sources.checks import matrix_text
from dnmf.sources.cuts import cut_evenly
from dnmf.sources.missing import Missing

if TYPE_CHECKING:
    from dnmf.sources.stored import StoredArray

__all__ = ["INDEX_BYTES", "Matrix", "Source"]

INDEX_BYTES = 4
"""Bytes of a column index, where there are fewer than 2^31 columns."""


class Source(ABC):
    """A non-negative matrix V (n x d) on storage or in memory.

    A source is immutable and picklable, holds no open handles after pickling, and never
    modifies what it reads. Reading is thread-safe.

    A subclass says how rows are read (`read_blocks`) and its `kind`. Everything else has a
    default, which is right for a dense matrix whose rows can be read one by one, and which a
    subclass overrides where it knows better.

    Parameters
    ----------
    shape : (int, int)
    dtype : numpy.dtype
        Dtype of the blocks, in this machine's byte order.
    """

    kind: ClassVar[str]
    """The name under which the registry knows the class."""

    noun: ClassVar[str] = "a matrix in memory"
    """The noun for a source that is not persistent, in errors."""

    _find_labels: Callable[[int], Labels | None] | None = None

    def __init__(self, shape: tuple[int, int], dtype: np.dtype) -> None:
        self._shape, self._dtype = shape, dtype

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of V."""
        return self._shape

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the blocks: as stored, but for byte order and float16 in CSR."""
        return self._dtype

    @property
    def is_sparse(self) -> bool:
        """True if blocks are CSR arrays."""
        return False

    def labels(self, axis: int) -> Labels | None:
        """Return the names of the rows (axis 0) or columns (1) of V, where they have some.

        Raises
        ------
        CorruptDataError
            There are names, and they cannot be read.
        """
        return None if self._find_labels is None else self._find_labels(axis)

    def labelled(self, find: Callable[[int], Labels | None] | None) -> Self:
        """Let this source, which was just made, find the names of rows and columns so."""
        self._find_labels = find
        return self

    @property
    def nbytes(self) -> int:
        """Decoded bytes of V (for CSR: data, indices and indptr)."""
        return self.block_bytes(0, self.shape[0])

    @property
    def nonzeros(self) -> int | None:
        """The number of stored entries, where the source knows it; some may be zero."""
        return None

    @property
    def persistent(self) -> bool:
        """True if ``spec()`` finds V from another process."""
        return False

    @property
    def in_memory(self) -> bool:
        """True if V lies decoded in this process's memory."""
        return False

    @property
    def lazy(self) -> bool:
        """True if V is computed by a Dask graph whenever it is read."""
        return False

    @property
    def in_cluster(self) -> bool:
        """True if only a cluster's workers have V: they are handed the blocks, nobody reads."""
        return False

    @property
    def by_rows(self) -> bool:
        """True if rows can be read; else `transposed` can, as with CSC."""
        return True

    @property
    def parts(self) -> tuple[Source, ...]:
        """The sources that V is made of: itself, or the entries and their weights."""
        return (self,)

    def paths(self) -> list[str]:
        """Return the local paths and URLs of V, which an output may not replace."""
        spec = self.spec() if self.persistent else {}
        return [str(spec[name]) for name in ("location", "path", "folder") if name in spec]

    @property
    def empty_rows(self) -> int:
        """Rows of V without entries, which this source leaves out."""
        return 0

    @property
    def opening_bytes(self) -> int:
        """Bytes that it took to find which rows are left out."""
        return 0

    def numbers(self) -> np.ndarray:
        """Return the numbers of this source's rows in V, where it leaves some out."""
        return np.arange(self.shape[0])

    def number(self, row: int) -> int:
        """Return the number of a row in V."""
        return row

    def with_rows(self, rows: np.ndarray) -> Source:
        """Return this source, which leaves out rows, with rows of these numbers in V.

        Among them is every one that it has.
        """
        raise NotImplementedError(f"{type(self).__name__} leaves out no rows")

    @property
    def stored_array(self) -> StoredArray | None:
        """The dense Zarr array that V is, rows by rows, where it is one."""
        return None

    @property
    def stored_arrays(self) -> tuple[StoredArray, ...]:
        """The Zarr arrays that V is read from: one of a dense V, three of a compressed one."""
        return ()

    @property
    def entry_chunk_bytes(self) -> int:
        """Bytes of a sparse V's entries that are decoded together; 0 where none are."""
        return 0

    @property
    def tallest(self) -> int:
        """Bytes that must be decoded together although no block has them; 0 where none are."""
        return 0

    def growth(self, itemsize: int, missing: str | None) -> float:
        """Return an upper bound of entries' bytes in memory over their bytes as stored.

        Parameters
        ----------
        itemsize : int
            Bytes of an entry in the dtype that the fit computes in.
        missing : {None, "nan", "zeros"}
            With "nan" the observed entries of a dense V become sparse, with an index each.
        """
        return (itemsize + INDEX_BYTES * (missing == "nan")) / self.dtype.itemsize

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
        n, d = self.shape
        return cut_evenly(n, d * itemsize, block_size, max_rows, self._units())

    def _units(self) -> list[int]:
        """Return numbers of rows whose multiples are good blocks of a dense V, for `cut_evenly`."""
        return [1]

    def segment_cuts(self, starts: Sequence[int]) -> list[int]:
        """Return which of the blocks a segment may begin with, then the number of blocks.

        Parameters
        ----------
        starts : sequence of int
            From `block_starts`.
        """
        return list(range(len(starts)))

    def block_bytes(self, start: int, stop: int) -> int:
        """Return decoded bytes, as stored, of rows ``start`` to ``stop``; reads no data of V."""
        return (stop - start) * self.shape[1] * self.dtype.itemsize

    def read_overhead(self, start: int, stop: int, alone: bool = False) -> int:
        """Return the bytes that reading these rows takes at its peak beyond their block.

        By default those of the block once more.

        Parameters
        ----------
        start, stop : int
        alone : bool
            No other block is read with them (``starts`` of two entries), so that nothing is
            kept for the next one.
        """
        return self.block_bytes(start, stop)

    @abstractmethod
    def read_blocks(self, starts: Sequence[int]) -> Iterator[Matrix]:
        """Read the blocks ``starts[0]:starts[1]``, ``starts[1]:starts[2]``, ... in order.

        Every stored chunk that the whole range touches is read and decoded once per call.
        Blocks are fresh or read-only views in the stored dtype; CSR blocks have sorted,
        unique column indices (duplicates summed), int32 indices where d allows, and stored
        zeros stay.

        Raises
        ------
        CorruptDataError
            A chunk is damaged or cannot be decoded (names store, chunk and rows).
        TransientError
            The storage failed in a way that may pass.
        """

    def block_graph(self, starts: Sequence[int]) -> tuple[dict[Any, Any], list[str]] | None:
        """Return a Dask graph that makes these blocks, where V is one; else None.

        Parameters
        ----------
        starts : sequence of int
            Blocks ``starts[0]:starts[1]``, ``starts[1]:starts[2]``, ...

        Returns
        -------
        graph : dict
            No more than is needed.
        keys : list of str
            One per block; each gives a C-contiguous array or a canonical CSR array in this
            source's dtype. Equal for equal arrays and rows.
        """
        return None

    def unstored(self, start: int, stop: int, V: Matrix | None, begun: bool = False) -> list[str]:
        """Name the chunks of these rows that are not stored at all (they read as fill value).

        Parameters
        ----------
        start, stop : int
        V : block or None
            The rows as they were read: what has other values is stored. None: nothing is known
            of them.
        begun : bool
            Only chunks that begin in these rows: over blocks that cover V, each is named once.
        """
        return []

    def missing_chunks(self, start: int, stop: int, V: Matrix | None) -> Missing:
        """Count the chunks that begin in these rows and are not stored, for each of `parts`."""
        return Missing.of(self.unstored(start, stop, V, begun=True))

    def transposed(self) -> Source | None:
        """Return V' as a source whose blocks are columns of V, or None where it cannot be read."""
        return None

    def filled_columns(self, times: int) -> Source | None:
        """Return V' without the columns of V that have no entries, where that is worth it.

        By default it has all of them.

        Parameters
        ----------
        times : int
            Columns over those with entries from which on it is; 0: never.
        """
        return self.transposed()

    def describe(self) -> str:
        """Return one line for people: where, shape, dtype, chunks, size."""
        where, layout = next(iter(self.paths()), self.kind), "CSR" if self.is_sparse else "dense"
        return matrix_text(where, self.shape, self.dtype, layout, self.nbytes)

    def metadata(self) -> dict[str, Any]:
        """Return JSON: shape, dtype, layout; two equal ones promise equal block cuts."""
        return {"kind": self.kind, "shape": list(self.shape), "dtype": self.dtype.name}

    def spec(self) -> Mapping[str, Any]:
        """Return JSON from which ``dnmf.sources.from_spec`` makes this source elsewhere.

        Raises
        ------
        InputError
            Other processes cannot find the data.
        """
        raise self._only_here()

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Source:
        """Make the source again that had this ``spec()``.

        Raises
        ------
        InputError
            The data are no longer there, or never were for other processes.
        """
        raise cls._only_here()

    @classmethod
    def _only_here(cls) -> InputError:
        return InputError(
            f"{cls.noun} cannot be opened by another process; write it to Zarr (dnmf convert)"
        )
