"""Where the entries of an HDF5 dataset lie in its file, as a grid of chunks of some size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import product
from math import prod
from typing import Any

import numpy as np

from dnmf.errors import CorruptDataError, InputError, MissingDependencyError
from dnmf.sources.blosc import Damaged, TooShort
from dnmf.sources.hdf5.files import Identity, h5py_module, opened
from dnmf.sources.hdf5.filters import Pipeline, pipeline_of

__all__ = ["Layout", "layout_of"]

TOGETHER = 1 << 20
"""Bytes of stored chunks that are decoded together: h5py's own are often a few KiB."""

Position = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """A dataset as chunks that are decoded one by one, in any thread.

    Attributes
    ----------
    path, name : str
        Of the file, and of the dataset in it.
    identity : Identity
        Of the file when the layout was read.
    shape, chunks : tuple of int
        Of the dataset, and of what is decoded together.
    stored : tuple of int
        Of HDF5's own chunks, of which ``chunks`` is a multiple; of a contiguous dataset
        ``chunks`` again.
    dtype : numpy.dtype
        As stored, with its byte order.
    fill : object
        What entries have that were never written.
    pipeline : Pipeline
    by_numpy : bool
        Whether entries can be decoded here; otherwise HDF5 reads them, one thread at a time.
    offsets, sizes : array of int64 or None
        Bytes of each of HDF5's chunks; offset -1 where one is not stored. None without chunks.
    start : int or None
        Where a contiguous dataset begins; None for others.
    empty : bool
        Whether nothing was written of a dataset without chunks.
    """

    path: str
    name: str
    identity: Identity
    shape: Position
    chunks: Position
    stored: Position
    dtype: np.dtype
    fill: Any
    pipeline: Pipeline
    by_numpy: bool
    offsets: np.ndarray | None = None
    sizes: np.ndarray | None = None
    start: int | None = None
    empty: bool = False

    @property
    def counts(self) -> Position:
        """Number of chunks along each dimension."""
        return _counts(self.shape, self.chunks)

    def is_stored(self, position: Position) -> bool:
        """Return whether a chunk was written."""
        if any(not 0 <= at < count for at, count in zip(position, self.counts, strict=True)):
            return False
        if self.offsets is None:
            return not self.empty
        return all(self.offsets[number] >= 0 for number, _ in self._parts(position))

    def read(self, position: Position) -> np.ndarray:
        """Return a stored chunk, whose entries beyond the edge mean nothing.

        Raises
        ------
        Exception
            What storage or a decompressor raises.
        """
        if self.start is not None:
            return self._contiguous(position)
        if self.offsets is None or not self.by_numpy:
            return self._by_hdf5(self.chunks, position)
        if self.chunks == self.stored:
            return self._chunk(*next(self._parts(position)))
        out = np.zeros(self.chunks, self.dtype)
        first = [at * (c // s) for at, c, s in zip(position, self.chunks, self.stored, strict=True)]
        for number, place in self._parts(position):
            corner = [(at - f) * s for at, f, s in zip(place, first, self.stored, strict=True)]
            where = tuple(slice(a, a + s) for a, s in zip(corner, self.stored, strict=True))
            out[where] = self._chunk(number, place)
        return out

    def _parts(self, position: Position) -> Iterator[tuple[int, Position]]:
        """Yield number and place of each of HDF5's chunks in a chunk."""
        grid = _counts(self.shape, self.stored)
        stretches = []
        for at, chunk, stored, count in zip(position, self.chunks, self.stored, grid, strict=True):
            together = chunk // stored
            stretches.append(range(at * together, min((at + 1) * together, count)))
        for place in product(*stretches):
            number = 0
            for at, count in zip(place, grid, strict=True):
                number = number * count + at
            yield number, place

    def _chunk(self, number: int, place: Position) -> np.ndarray:
        assert self.offsets is not None
        assert self.sizes is not None
        stored = self._bytes(int(self.offsets[number]), int(self.sizes[number]))
        try:
            decoded = self.pipeline.decode(stored, prod(self.stored) * self.dtype.itemsize)
        except MemoryError:
            raise
        except Exception as error:  # HDF5 knows whether this chunk was stored in another way
            try:
                return self._by_hdf5(self.stored, place)
            except Exception:
                raise Damaged(f"{type(error).__name__}: {error}") from error
        return np.frombuffer(decoded, self.dtype).reshape(self.stored)

    def _contiguous(self, position: Position) -> np.ndarray:
        assert self.start is not None
        row = prod(self.shape[1:]) * self.dtype.itemsize
        first = position[0] * self.chunks[0]
        count = min(self.chunks[0], self.shape[0] - first)
        stored = self._bytes(self.start + first * row, count * row)
        if count < self.chunks[0]:
            stored += bytes((self.chunks[0] - count) * row)
        return np.frombuffer(stored, self.dtype).reshape(self.chunks)

    def _bytes(self, offset: int, size: int) -> bytes:
        with open(self.path, "rb", buffering=0) as file:
            file.seek(offset)
            parts, left = [], size
            while left:
                part = file.read(left)
                if not part:
                    raise TooShort(f"{size - left} of {size} bytes are stored")
                parts.append(part)
                left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _by_hdf5(self, chunks: Position, position: Position) -> np.ndarray:
        """Let HDF5 read a cell of a grid, with one thread at a time."""
        region = tuple(
            slice(at * chunk, min((at + 1) * chunk, size))
            for at, chunk, size in zip(position, chunks, self.shape, strict=True)
        )
        out = np.zeros(chunks, self.dtype)
        with opened(self.path) as file:
            found = file[self.name][region]
        out[tuple(slice(0, size) for size in found.shape)] = found
        return out


def layout_of(dataset: Any, identity: Identity) -> Layout:
    """Return the layout of an h5py dataset of numbers.

    Raises
    ------
    InputError
        Its entries lie in other files, or are a matrix of MATLAB.
    MissingDependencyError
        They were compressed by a filter that is not installed.
    """
    _check_place(dataset)
    shape, dtype = tuple(map(int, dataset.shape)), dataset.dtype
    pipeline = pipeline_of(dataset)
    common: dict[str, Any] = {
        "path": dataset.file.filename,
        "name": dataset.name,
        "identity": identity,
        "shape": shape,
        "dtype": dtype,
        "fill": dataset.fillvalue,
        "pipeline": pipeline,
    }
    common["by_numpy"] = _is_as_numpy(dataset)
    if dataset.chunks is None:
        return _uncut(dataset, common)
    return _in_chunks(dataset, common)


def _uncut(dataset: Any, common: dict[str, Any]) -> Layout:
    """Return the layout of a dataset that HDF5 does not cut: rows are decoded together."""
    shape, row = common["shape"], prod(common["shape"][1:]) * common["dtype"].itemsize
    rows = max(1, TOGETHER // max(1, row))
    chunks = (min(rows, max(1, shape[0])), *(max(1, size) for size in shape[1:]))
    start = dataset.id.get_offset()  # none where nothing was written, or it lies in the header
    status = dataset.id.get_space_status()
    empty = status == h5py_module().h5d.SPACE_STATUS_NOT_ALLOCATED
    start = int(start) if start is not None and common["by_numpy"] else None
    return Layout(**common, chunks=chunks, stored=chunks, start=start, empty=empty)


def _in_chunks(dataset: Any, common: dict[str, Any]) -> Layout:
    shape, pipeline = common["shape"], common["pipeline"]
    stored = tuple(map(int, dataset.chunks))
    _check_filters(pipeline, dataset)
    offsets, sizes, plain = _table(dataset, stored)
    whole = bool((offsets >= 0).all())  # chunks that are not stored are named and counted singly
    chunks = _together(shape, stored, common["dtype"].itemsize) if whole else stored
    common["by_numpy"] = common["by_numpy"] and pipeline.known and plain
    return Layout(**common, chunks=chunks, stored=stored, offsets=offsets, sizes=sizes)


def _together(shape: Position, stored: Position, itemsize: int) -> Position:
    """Return how large chunks are of several stored ones, the last dimension first."""
    chunks, counts = list(stored), _counts(shape, stored)
    for axis in reversed(range(len(stored))):
        fit = max(1, TOGETHER // max(1, prod(chunks) * itemsize))
        chunks[axis] *= min(fit, counts[axis])
        if fit < counts[axis]:
            break
    return tuple(chunks)


def _table(dataset: Any, stored: Position) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return offset and size of each chunk, and whether all went through all filters."""
    counts = _counts(tuple(dataset.shape), stored)
    offsets = np.full(prod(counts), -1, np.int64)
    sizes = np.zeros(prod(counts), np.int64)
    skipped: list[int] = []

    def note(info: Any) -> None:
        number = 0
        for corner, size, count in zip(info.chunk_offset, stored, counts, strict=True):
            number = number * count + corner // size
        offsets[number], sizes[number] = info.byte_offset, info.size
        if info.filter_mask:
            skipped.append(number)

    dataset.id.chunk_iter(note)
    return offsets, sizes, not skipped


def _is_as_numpy(dataset: Any) -> bool:
    """Return whether entries are NumPy's byte by byte, at offsets from the begin of the file."""
    h5py = h5py_module()
    numpys = h5py.h5t.py_create(dataset.dtype, logical=True)
    return bool(dataset.id.get_type() == numpys) and dataset.file.userblock_size == 0


def _check_place(dataset: Any) -> None:
    where = f"{dataset.file.filename}: {dataset.name}"
    remedy = "dnmf.convert(dask.array.from_array(dataset), 'V.zarr') copies it"
    if dataset.is_virtual:
        raise InputError(
            f"{where} is a virtual dataset, whose parts lie in other files, which HDF5 reads as "
            f"fill values where one is not found; {remedy}"
        )
    if dataset.external:
        raise InputError(f"{where} has its entries in other files ({dataset.external}); {remedy}")
    if "MATLAB_class" in dataset.attrs:
        raise InputError(
            f"{where} is an array of MATLAB, which HDF5 holds transposed (here "
            f"{' x '.join(map(str, dataset.shape))}); load it and transpose it: "
            f"h5py.File(path)[{dataset.name!r}][:].T"
        )


def _check_filters(pipeline: Pipeline, dataset: Any) -> None:
    """Refuse filters that neither this library nor HDF5 can undo."""
    available = h5py_module().h5z.filter_avail
    unknown = [n for n in pipeline.numbers if not available(n)]
    if not unknown or pipeline.known:
        return
    try:
        import_module("hdf5plugin")
    except ImportError as error:
        raise MissingDependencyError(
            f"{dataset.file.filename}: {dataset.name} was compressed by a filter that HDF5 does "
            f"not have ({', '.join(map(str, unknown))}); run: python -m pip install hdf5plugin"
        ) from error
    if not all(available(number) for number in unknown):
        raise CorruptDataError(
            f"{dataset.file.filename}: {dataset.name} was compressed by a filter that nothing "
            f"here can undo ({', '.join(map(str, unknown))})"
        )


def _counts(shape: Position, chunks: Position) -> Position:
    return tuple(-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True))
