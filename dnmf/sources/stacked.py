"""CSR in bands of rows: several CSR groups of one Zarr hierarchy, one below the other.

Writers of one CSR group must know where in its arrays they begin, and share chunks. Bands are
written independently, in any order and any number of times, each under a name of its own; the
list of those that count is the attribute ``dnmf-stacked`` of the root group, which is written
last: without it there is no matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import scipy
import zarr

from dnmf.errors import CorruptDataError, InputError
from dnmf.linalg.matrix import Matrix, join_rows
from dnmf.sources.base import Source
from dnmf.sources.checks import check_shape, matrix_text
from dnmf.sources.compressed import CompressedArrays
from dnmf.sources.csr import digest, index_dtype
from dnmf.sources.store import Location, locate
from dnmf.sources.stored import StoredArray
from dnmf.sources.zarr_csr import ZarrCSR

__all__ = ["StackedCSR", "StoredBand", "create_stack", "finish_stack", "write_band"]

ATTRIBUTE = "dnmf-stacked"
FORMAT = 1
ENTRIES = 1 << 20
"""Stored entries of a chunk."""


@dataclass(frozen=True)
class StoredBand:
    """Consecutive rows of V, in a group of their own.

    Attributes
    ----------
    name : str
        Name of the group in the hierarchy.
    rows, entries : int
    indptr : str
        Checksum of its offsets, by which blocks are cut.
    """

    name: str
    rows: int
    entries: int
    indptr: str


def create_stack(root: str) -> None:
    """Make the root group, which is no matrix yet."""
    zarr.create_group(root, zarr_format=3)


def write_band(
    root: str, name: str, arrays: Sequence[np.ndarray], columns: int, entries: int = ENTRIES
) -> StoredBand:
    """Write consecutive rows of V as one group that nobody else writes.

    Parameters
    ----------
    root : str
        Path of the group that `create_stack` made.
    name : str
    arrays : (data, indices, indptr)
        Canonical CSR.
    columns : int
        Of V.
    entries : int
        Stored entries of a chunk.

    Raises
    ------
    FileNotFoundError
        There is no root group: Zarr would make the folder, on this machine alone.
    """
    data, indices, indptr = arrays
    attributes = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0"}
    group = zarr.open_group(root, mode="r+").create_group(
        name, attributes={**attributes, "shape": [len(indptr) - 1, columns]}
    )
    indices = indices.astype(index_dtype(columns), copy=False)
    for key, values in {"data": data, "indices": indices, "indptr": indptr}.items():
        stored = group.create_array(
            key,
            shape=values.shape,
            chunks=(max(1, min(len(values), entries)),),
            dtype=values.dtype,
            compressors=None,
            config={"write_empty_chunks": True},
        )
        if len(values):
            stored[:] = values
    return StoredBand(name, len(indptr) - 1, len(data), digest([indptr]))


def finish_stack(root: str, columns: int, dtype: np.dtype, bands: Sequence[StoredBand]) -> None:
    """Make the bands, in this order, a matrix."""
    listed: Any = {"format": FORMAT, "columns": columns, "dtype": np.dtype(dtype).name}
    listed |= {"parts": [list(asdict(band).values()) for band in bands]}
    zarr.open_group(root, mode="r+").attrs.update({ATTRIBUTE: listed})


class StackedCSR(Source):
    """The bands of a hierarchy as one matrix. Opened one at a time, as rows are read.

    Parameters
    ----------
    location : Location
        Location of the root group.

    Raises
    ------
    InputError
        There is no list of bands, or it is of another format.
    """

    kind: ClassVar[str] = "stacked"

    def __init__(self, location: Location) -> None:
        self._location = location
        self._offsets: dict[int, int] = {}  # of rows where blocks begin, as far as known
        check_shape(self.shape, location.name)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Self:
        return cls(locate(spec["location"]))

    def __getstate__(self) -> dict[str, Any]:
        return {"_location": self._location, "_offsets": {}}

    @cached_property
    def _listed(self) -> dict[str, Any]:
        where = self._location.name
        try:
            listed: Any = self._location.open().attrs[ATTRIBUTE]
        except (FileNotFoundError, KeyError):
            raise InputError(f"{where} is not a matrix in parts, or was not finished") from None
        if listed["format"] != FORMAT:
            raise InputError(
                f"{where} has parts of format {listed['format']}, this dnmf reads {FORMAT}"
            )
        return dict(listed)

    @cached_property
    def _bands(self) -> list[StoredBand]:
        return [StoredBand(*values) for values in self._listed["parts"]]

    @cached_property
    def _rows(self) -> np.ndarray:
        """First row of every band, then n."""
        return np.cumsum([0, *(band.rows for band in self._bands)])

    @cached_property
    def _entries(self) -> np.ndarray:
        """Stored entries above every band, then all."""
        return np.cumsum([0, *(band.entries for band in self._bands)])

    @property
    def shape(self) -> tuple[int, int]:
        return int(self._rows[-1]), int(self._listed["columns"])

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self._listed["dtype"])

    @property
    def is_sparse(self) -> bool:
        return True

    @property
    def nbytes(self) -> int:
        return self._bytes(int(self._entries[-1]), self.shape[0] + 1)

    @property
    def persistent(self) -> bool:
        return self._location.shared

    def block_starts(self, block_size: int, itemsize: int, max_rows: int) -> np.ndarray:
        # several small bands, or some rows of a large one
        width = index_dtype(self.shape[1]).itemsize
        starts: list[int] = []
        rows = size = 0
        for number, band in enumerate(self._bands):
            more = band.entries * (itemsize + width) + band.rows * width
            fits = band.rows <= max_rows and more <= block_size
            joins = fits and rows and rows + band.rows <= max_rows and size + more <= block_size
            if not joins:
                rows = size = 0
                begin = int(self._rows[number])
                cut = [0] if fits else self._cut(number, block_size, itemsize, max_rows)
                starts += [begin + start for start in cut]
            if fits:  # the next one may join
                rows, size = rows + band.rows, size + more
        return np.array([*starts, self.shape[0]], np.int64)

    def _cut(self, number: int, block_size: int, itemsize: int, max_rows: int) -> list[int]:
        """Return where blocks begin within a band."""
        band = self._open(number)
        starts: list[int] = band.block_starts(block_size, itemsize, max_rows).tolist()[:-1]
        above, before = int(self._rows[number]), int(self._entries[number])
        self._offsets.update({above + start: before + band._offset(start) for start in starts})
        return starts

    def block_bytes(self, start: int, stop: int) -> int:
        return self._bytes(self._offset(stop) - self._offset(start), stop - start)

    def read_overhead(self, start: int, stop: int, alone: bool = False) -> int:
        # where bands are joined, they are in memory beside the block
        touched = list(self._touched(start, stop))
        most = max(self._open(i).read_overhead(lo, hi) for i, lo, hi in touched)
        return most + (self.block_bytes(start, stop) if len(touched) > 1 else 0)

    def read_blocks(self, starts: Sequence[int]) -> Iterator[Matrix]:
        cuts = [int(start) for start in starts]
        known = set(cuts)
        found: list[scipy.sparse.csr_array] = []
        for number, lo, hi in self._touched(cuts[0], cuts[-1]):
            above = int(self._rows[number])
            inner = [cut - above for cut in cuts if lo < cut - above < hi]
            edges = [lo, *inner, hi]
            blocks = self._open(number).read_blocks(edges)
            ends = {*inner, *([hi] if above + hi in known else [])}
            for stop in edges[1:]:
                found.append(self._checked(next(blocks), number))
                if stop in ends:
                    yield _joined(found)

    def _checked(self, block: Matrix, number: int) -> scipy.sparse.csr_array:
        assert isinstance(block, scipy.sparse.csr_array)
        if block.dtype == self.dtype:
            return block
        raise CorruptDataError(
            f"{self._location.child(self._bands[number].name).name} has {block.dtype} entries, "
            f"but the list of parts says {self.dtype}; something else wrote there"
        )

    def unstored(self, start: int, stop: int, V: Matrix | None, begun: bool = False) -> list[str]:
        names, at = [], 0
        for number, lo, hi in self._touched(start, stop):
            rows: Any = None if V is None else scipy.sparse.csr_array(V[at : at + hi - lo])
            name = self._bands[number].name
            found = self._open(number).unstored(lo, hi, rows, begun)
            names += [key if key.startswith(name) else f"{name}/{key}" for key in found]
            at += hi - lo
        return names

    @property
    def stored_arrays(self) -> tuple[StoredArray, ...]:
        return tuple(a for i in range(len(self._bands)) for a in self._open(i).stored_arrays)

    def describe(self) -> str:
        layout = f"CSR in {len(self._bands)} parts with {self._entries[-1]} stored entries"
        return matrix_text(self._location.name, self.shape, self.dtype, layout, self.nbytes)

    def metadata(self) -> dict[str, Any]:
        """Return JSON with a checksum of the bands' rows, entries and offsets, which cut blocks."""
        sizes = np.array([(band.rows, band.entries) for band in self._bands], np.int64)
        offsets = "".join(band.indptr for band in self._bands).encode()
        return {
            "kind": self.kind,
            "shape": list(self.shape),
            "dtype": self.dtype.name,
            "parts": digest([sizes, np.frombuffer(offsets, np.uint8)]),
        }

    def spec(self) -> Mapping[str, Any]:
        if not self._location.shared:
            raise InputError(f"{self._location.name} is only in this process; others cannot see it")
        return {"kind": self.kind, "location": self._location.url}

    def _open(self, number: int) -> ZarrCSR:
        """Open a band, each time anew, since thousands of open ones would take memory."""
        band = self._bands[number]
        location = self._location.child(band.name)
        try:
            group = location.open()
        except FileNotFoundError as error:
            raise CorruptDataError(
                f"{location.name} is missing, which rows {self._rows[number]} to "
                f"{self._rows[number + 1] - 1} are in"
            ) from error
        if not isinstance(group, zarr.Group):
            raise CorruptDataError(f"{location.name} was a group and is now an array")
        arrays = CompressedArrays.open(location, group)
        found = (*arrays.shape, arrays.nonzeros)
        if found != (band.rows, self.shape[1], band.entries):
            raise CorruptDataError(
                f"{location.name} is {found[0]} x {found[1]} with {found[2]} entries, but the "
                f"list says {band.rows} x {self.shape[1]} with {band.entries}"
            )
        return ZarrCSR(arrays)

    def _touched(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield the bands that rows lie in, and which rows of each."""
        first = int(np.searchsorted(self._rows, start, side="right")) - 1
        for number in range(first, int(np.searchsorted(self._rows, stop, side="left"))):
            above, below = int(self._rows[number]), int(self._rows[number + 1])
            yield number, max(start, above) - above, min(stop, below) - above

    def _bytes(self, entries: int, offsets: int) -> int:
        width = index_dtype(self.shape[1]).itemsize
        return entries * (self.dtype.itemsize + width) + offsets * width

    def _offset(self, row: int) -> int:
        """Return the stored entries above a row; read it where it is not known yet."""
        number = int(np.searchsorted(self._rows, row, side="right")) - 1
        if row == self._rows[number]:
            return int(self._entries[number])
        if row not in self._offsets:
            inside = self._open(number)._offset(row - int(self._rows[number]))
            self._offsets[row] = int(self._entries[number]) + inside
        return self._offsets[row]


def _joined(blocks: list[scipy.sparse.csr_array]) -> Matrix:
    """Join the blocks, and forget them."""
    found = list(blocks)
    blocks.clear()
    return join_rows(found)
