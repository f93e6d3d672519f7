"""A Zarr array that is read by regions, with every failure traced to its chunk."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import product
from math import prod
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import RangeByteRequest
from zarr.buffer.cpu import NDBuffer
from zarr.storage import LocalStore, StorePath

from dnmf.errors import CorruptDataError, DnmfError, InputError, TransientError
from dnmf.sources.blosc import BloscChecked, Damaged
from dnmf.sources.checks import may_pass, native_dtype
from dnmf.sources.hdf5.store import Hdf5Store
from dnmf.sources.packing import check_unpacked
from dnmf.sources.store import Location, host
from dnmf.sources.zarr_private import stored_at, sync

__all__ = ["Region", "StoredArray", "expect_files"]

EXPECTED = 1 << 20
"""Decoded bytes of a stored object from which on asking for it early is worth opening it twice."""

ASKED = 4096
"""Chunks that storage is asked about at once."""

Region = tuple[tuple[int, int], ...]
"""Start and stop along every dimension."""


class StoredArray:
    """A Zarr array with 1 or 2 dimensions and a regular chunk grid. Picklable, thread-safe.

    It is opened where it is used: after unpickling in another process the metadata is read
    again there and compared, so that a process that sees other data, or none, says so. (A
    store that is not there would read as fill values.)

    Attributes
    ----------
    location : Location
    shape : tuple of int
    dtype : numpy.dtype
        In this machine's byte order.
    chunks : tuple of int
        What is decoded together (with sharding: the inner chunks).
    shards : tuple of int or None
        What is stored together, with sharding.
    zarr_format : int
    """

    def __init__(self, location: Location, array: zarr.Array[Any], packed: bool = False) -> None:
        """Describe an array; a ``packed`` one is only asked for its chunks, not for its numbers."""
        self.location, self._packed = location, packed
        self.shape = tuple(array.shape)
        self.dtype = native_dtype(array.dtype, location.name)
        if not packed:
            check_unpacked(location, array)
        try:
            self.chunks, self.shards = tuple(array.chunks), array.shards
        except NotImplementedError as error:
            raise InputError(
                f"{location.name} has an irregular chunk grid; rewrite it with equal chunks "
                "(dnmf convert)"
            ) from error
        if min((*self.chunks, *(self.shards or ())), default=1) < 1:
            raise InputError(
                f"{location.name} has chunks of {self.chunks} entries; its metadata are damaged"
            )
        self.zarr_format: int = array.metadata.zarr_format
        self._fill = 0 if array.fill_value is None else array.fill_value
        # As stored, and what each codec makes of it; numcodecs' filters copy once more inside.
        self._copies = 1 + len(array.compressors) + 2 * len(array.filters)
        self._copies += Hdf5Store.copies if location.in_hdf5 else 0
        last = [*array.filters, *array.compressors][-1:]
        self._check_blosc = any(type(codec).__name__.startswith("Blosc") for codec in last)
        self._opened: zarr.Array[Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    @property
    def layout(self) -> dict[str, Any]:
        """Shape, dtype and chunk grid as JSON."""
        return {
            "shape": list(self.shape),
            "dtype": self.dtype.name,
            "chunks": list(self.chunks),
            "shards": None if self.shards is None else list(self.shards),
            "zarr_format": self.zarr_format,
        }

    @property
    def layout_text(self) -> str:
        chunks = f"chunks {' x '.join(map(str, self.chunks))}"
        shards = f" in shards {' x '.join(map(str, self.shards))}" if self.shards else ""
        stored = "HDF5" if self.location.in_hdf5 else f"Zarr v{self.zarr_format}"
        return f"{chunks}{shards}, {stored}"

    @property
    def array(self) -> zarr.Array[Any]:
        """The array, opened in this process."""
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> zarr.Array[Any]:
        store, where = self.location.store, self.location
        checked = BloscChecked(store, self.shards is not None) if self._check_blosc else store
        try:
            node = replace(where, store=checked).open()
        except FileNotFoundError as error:
            raise CorruptDataError(
                f"{where.name} cannot be opened on {host()}: there is nothing. Every process that "
                "takes part must reach it under this name"
            ) from error
        if not isinstance(node, zarr.Array):
            raise CorruptDataError(f"{where.name} was an array and is now a group")
        now = StoredArray(where, node, self._packed)
        if now.layout != self.layout:
            raise CorruptDataError(
                f"{where.name} changed: it was {self.layout} and is {now.layout} on {host()}"
            )
        return node

    def read(self, region: Region, out: np.ndarray) -> None:
        """Decode a region into ``out``, which may have any strides.

        Raises
        ------
        CorruptDataError
            A chunk cannot be decoded: names store, chunk and region.
        TransientError
            The storage failed in a way that may pass.
        """
        try:
            self._read(region, out)
        except (DnmfError, MemoryError):
            raise
        except Exception as error:
            raise self._explain(region, error) from error

    def _read(self, region: Region, out: np.ndarray) -> None:
        selection = tuple(slice(start, stop) for start, stop in region)
        self.array.get_basic_selection(selection, out=NDBuffer.from_numpy_array(out))

    def expect(self, region: Region) -> None:
        """Say that a region will be read soon: local files of some size are read ahead."""
        store = self.location.store
        grid = self.grid
        if type(store) is not LocalStore or prod(grid) * self.dtype.itemsize < EXPECTED:
            return
        expect_files(str(store.root / key.path) for key, _ in self._chunks_of(region))

    def _explain(self, region: Region, error: Exception) -> DnmfError:
        """Read again chunk by chunk to find the bad one, and whether storage or content failed."""
        for key, part in self._chunks_of(region):
            try:
                missing = sync(key.get()) is None
            except Exception as failure:
                return self._at(key, part, failure, stored=not isinstance(failure, Damaged))
            if missing:
                continue
            try:
                self._read(part, np.empty([b - a for a, b in part], self.dtype))
            except Exception as failure:
                return self._at(key, part, failure, stored=False)
        return TransientError(
            f"reading {self.location.name} failed ({type(error).__name__}: {error}), but each of "
            "its chunks can be read now"
        )

    def _at(self, key: StorePath, part: Region, failure: Exception, stored: bool) -> DnmfError:
        """Make the error of a chunk; ``stored`` is true if storage failed before decoding."""
        text = f"{type(failure).__name__}: {failure}".rstrip(": ")
        chunk = f"chunk {key.path} of {self.location.name} ({_region_text(part)})"
        if isinstance(failure, PermissionError):
            return CorruptDataError(f"{chunk} may not be read on {host()}: {text}")
        if stored and (may_pass(failure) or not isinstance(failure, OSError)):
            return TransientError(f"{chunk} could not be fetched: {text}")
        return CorruptDataError(
            f"{chunk} cannot be decoded: it is truncated or damaged ({text}). Restore this chunk "
            "from a copy, or write it again"
        )

    def _chunks_of(self, region: Region, begun: bool = False) -> Iterator[tuple[StorePath, Region]]:
        """Yield the stored objects that a region touches, and the part of it in each.

        With ``begun`` only those whose first entry is in the region.
        """
        grid = self.grid
        touched = [
            range(-(-a // g) if begun else a // g, -(-b // g))
            for (a, b), g in zip(region, grid, strict=True)
        ]
        for at in product(*touched):
            part = tuple(
                (max(a, i * g), min(b, (i + 1) * g))
                for (a, b), i, g in zip(region, at, grid, strict=True)
            )
            yield stored_at(self.array, at), part

    @property
    def grid(self) -> tuple[int, ...]:
        """Shape of a stored object: of a shard, else of a chunk."""
        return self.shards or self.chunks

    @property
    def objects(self) -> int:
        """Number of objects that the array has where all are stored."""
        return prod(-(-size // unit) for size, unit in zip(self.shape, self.grid, strict=True))

    @property
    def fill(self) -> Any:
        """The number that entries of an object have that is not stored."""
        return self._fill

    def stored_regions(self, numbers: Iterable[int]) -> list[Region]:
        """Return the regions of those of some objects, by number, that are stored."""
        counts = [-(-size // unit) for size, unit in zip(self.shape, self.grid, strict=True)]
        places = [tuple(map(int, np.unravel_index(number, counts))) for number in numbers]
        keys = [stored_at(self.array, place) for place in places]
        absent = set(self._absent(keys))
        return [
            tuple(
                (i * unit, min(size, (i + 1) * unit))
                for i, unit, size in zip(place, self.grid, self.shape, strict=True)
            )
            for place, key in zip(places, keys, strict=True)
            if key.path not in absent
        ]

    def unstored(self, region: Region, values: np.ndarray | None, begun: bool = False) -> list[str]:
        """Name the chunks of this region that are not stored.

        Parameters
        ----------
        region : Region
        values : array or None
            The region, decoded (perhaps converted): a chunk with anything but the fill value
            in it is stored, so that storage is asked about few. None: it is asked about all.
        begun : bool
            Only those that begin in the region: over regions that cover the array, each once.
        """
        origin = [start for start, _ in region]
        candidates = [
            key
            for key, part in self._chunks_of(region, begun)
            if values is None
            or self._is_fill(
                values[tuple(slice(a - o, b - o) for (a, b), o in zip(part, origin, strict=True))]
            )
        ]
        return self._absent(candidates)

    def absent(self, regions: Iterable[Region]) -> tuple[list[str], int]:
        """Name the chunks of some regions that are not stored; return also how many there are.

        Storage is asked about each of them once.
        """
        keys = {key.path: key for region in regions for key, _ in self._chunks_of(region)}
        asked = list(keys.values())
        groups = (asked[a : a + ASKED] for a in range(0, len(asked), ASKED))
        return [name for group in groups for name in self._absent(group)], len(asked)

    def not_stored(
        self, region: Region, fill_values: int | None = None, begun: bool = False
    ) -> list[str]:
        """Name the chunks of this region that are not stored, whatever they read as.

        Parameters
        ----------
        region : Region
        fill_values : int, optional
            How many entries of the region equal the fill value: a chunk with more entries in
            the region is stored, so that storage is not asked.
        begun : bool
            As for `unstored`.
        """
        return self._absent(
            [
                key
                for key, part in self._chunks_of(region, begun)
                if fill_values is None or prod(b - a for a, b in part) <= fill_values
            ]
        )

    def count_fill(self, values: np.ndarray) -> int:
        """Count the values that equal the fill value."""
        if self._fill == 0:
            return values.size - int(np.count_nonzero(values))
        return int(np.count_nonzero(self.same_as_fill(values)))

    def _is_fill(self, values: np.ndarray) -> bool:
        return all(self._equal_fill(part) for part in (values[:1], values))  # cheap test first

    def _equal_fill(self, values: np.ndarray) -> bool:
        with np.errstate(invalid="ignore"):  # signalling NaN, which the scan refuses
            return not values.any() if self._fill == 0 else bool(self.same_as_fill(values).all())

    def same_as_fill(self, values: np.ndarray) -> np.ndarray:
        """Return which values are those of an object that is not stored."""
        fill = values.dtype.type(self._fill)
        return np.isnan(values) if np.isnan(fill) else values == fill

    def _absent(self, keys: list[StorePath]) -> list[str]:
        async def first_bytes() -> list[Any]:
            one = RangeByteRequest(0, 1)
            return await asyncio.gather(*(key.get(byte_range=one) for key in keys))

        async def exist() -> list[bool]:
            return await asyncio.gather(*(key.exists() for key in keys))

        try:
            if self.shards is None:
                found = sync(exist())
                return [key.path for key, there in zip(keys, found, strict=True) if not there]
            heads = sync(first_bytes())
        except OSError as error:
            raise TransientError(f"cannot ask {self.location.name} for chunks: {error}") from error
        for key, head in zip(keys, heads, strict=True):
            if head is not None and len(head) == 0:  # Zarr would read it as fill values
                raise CorruptDataError(
                    f"chunk {key.path} of {self.location.name} is empty (0 bytes); restore it "
                    "from a copy, or delete it if it holds only fill values"
                )
        return [key.path for key, head in zip(keys, heads, strict=True) if head is None]

    def overhead(self, region: Region) -> int:
        """Return the bytes that decoding a region takes at its peak beyond the region.

        Zarr holds up to ``async.concurrency`` chunks at once: as stored and as each codec
        leaves it, each counted with its decoded size (a compressed one is rarely larger).
        """
        limit = int(zarr.config.get("async.concurrency"))
        chunk = prod(self.chunks) * self.dtype.itemsize * self._copies
        grid = self.grid
        flight = min(limit, prod(_count(r, g) for r, g in zip(region, grid, strict=True)))
        if self.shards is None:
            return flight * chunk
        inner = [
            min(_count(r, c), g // c) for r, c, g in zip(region, self.chunks, grid, strict=True)
        ]
        wanted = prod(i * c for i, c in zip(inner, self.chunks, strict=True)) * self.dtype.itemsize
        return flight * (2 * wanted + min(limit, prod(inner)) * chunk)


def _count(stretch: tuple[int, int], size: int) -> int:
    """Return how many cells of a grid a stretch touches."""
    return -(-stretch[1] // size) - stretch[0] // size


def _region_text(region: Region) -> str:
    names = ("rows", "columns") if len(region) == 2 else ("entries",)
    parts = [f"{name} {a} to {b - 1}" for name, (a, b) in zip(names, region, strict=True)]
    return ", ".join(parts)


def expect_files(paths: Iterable[str]) -> None:
    """Begin to read files into the system's page cache; returns before they are there.

    A hint and nothing else: it takes no memory of this process, what was hinted in vain can be
    dropped at any time, and no failure is an error, since whoever reads the file meets it. Systems
    without ``posix_fadvise`` (macOS) do nothing.
    """
    advise = getattr(os, "posix_fadvise", None)
    if advise is None:
        return
    for path in paths:
        with suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                advise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(handle)
