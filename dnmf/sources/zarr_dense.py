"""Dense matrices in Zarr, formats 2 and 3, with any regular chunk grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
import zarr

from dnmf.errors import InputError
from dnmf.sources.base import Matrix, Source
from dnmf.sources.checks import check_shape, matrix_text
from dnmf.sources.forward import ForwardReader
from dnmf.sources.store import Location, locate
from dnmf.sources.stored import Region, StoredArray

__all__ = ["ZarrColumns", "ZarrDense"]


class ZarrDense(Source):
    """A two-dimensional Zarr array, read in blocks of whole chunk-rows.

    Parameters
    ----------
    stored : StoredArray
    note : str
        What a person should know about how it was found.

    Raises
    ------
    InputError
        The array is not two-dimensional, or empty.
    """

    kind = "zarr"
    _axis: ClassVar[int] = 0

    def __init__(self, stored: StoredArray, note: str = "") -> None:
        shape = check_shape(stored.shape, stored.location.name)
        super().__init__(shape if self._axis == 0 else shape[::-1], stored.dtype)
        self._stored, self._note = stored, note

    @classmethod
    def open(cls, location: Location, array: zarr.Array[Any], note: str = "") -> Self:
        """Return the source of an open array."""
        check_shape(array.shape, location.name)
        return cls(StoredArray(location, array), note)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Self:
        location = locate(spec["location"])
        try:
            node = location.open()
        except FileNotFoundError as error:
            raise InputError(f"{location.name} is no longer there") from error
        if not isinstance(node, zarr.Array):
            raise InputError(f"{location.name} was an array and is now a group")
        return cls.open(location, node)

    @property
    def persistent(self) -> bool:
        return self._stored.location.shared

    @property
    def stored_array(self) -> StoredArray | None:
        return self._stored

    @property
    def stored_arrays(self) -> tuple[StoredArray, ...]:
        return (self._stored,)

    def _units(self) -> list[int]:
        # whole shards where one row of them fits
        grids = (self._stored.shards, self._stored.chunks)
        return [min(self.shape[0], grid[self._axis]) for grid in grids if grid]

    def read_overhead(self, start: int, stop: int, alone: bool = False) -> int:
        # An upper estimate. Measured on 32 MB of float32 noise with 11 chunk grids and codecs: 1.0
        # to 2 times the peak that tracemalloc sees (up to 4 times where data compress well).
        unit, n = self._stored.chunks[self._axis], self.shape[0]
        # Chunk-rows that the block shares with the one before and the one after it.
        shared = {row // unit for row in (start, stop) if row % unit and row < n}
        rest = self.block_bytes(0, min(n, unit)) * len(shared)
        return self._stored.overhead(self._region(start, stop)) + rest

    def read_blocks(self, starts: Sequence[int]) -> Iterator[Matrix]:
        reader = ForwardReader(self._stored, self._axis)
        for start, stop in pairwise(map(int, starts)):
            yield reader.take(start, stop, int(starts[-1]))

    def unstored(self, start: int, stop: int, V: Matrix | None, begun: bool = False) -> list[str]:
        assert V is None or isinstance(V, np.ndarray)
        values = V if V is None or not self._axis else V.T
        return self._stored.unstored(self._region(start, stop), values, begun)

    def transposed(self) -> Source | None:
        return ZarrColumns(self._stored, self._note)

    def describe(self) -> str:
        where = self._stored.location.name + self._note
        layout = self._stored.layout_text
        return matrix_text(where, self.shape, self.dtype, layout, self.nbytes)

    def metadata(self) -> dict[str, Any]:
        return {"kind": self.kind, **self._stored.layout}

    def spec(self) -> Mapping[str, Any]:
        return self._stored.location.spec(self.kind)

    def _region(self, start: int, stop: int) -> Region:
        region = [(0, length) for length in self._stored.shape]
        region[self._axis] = (start, stop)
        return tuple(region)


class ZarrColumns(ZarrDense):
    """The transpose of a Zarr array, read in blocks of whole chunk-columns.

    It serves arrays whose chunks are too tall to be read by rows. Zarr decodes straight into the
    transposed block, so no second copy of it exists.
    """

    kind = "zarr_columns"
    _axis: ClassVar[int] = 1

    @property
    def stored_array(self) -> StoredArray | None:
        return None  # it lies the other way round

    def transposed(self) -> Source | None:
        return ZarrDense(self._stored, self._note)

    def describe(self) -> str:
        return f"transpose of {ZarrDense(self._stored, self._note).describe()}"
