"""What HDF5's filters made of a chunk, undone without HDF5 and outside its lock."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Pipeline", "pipeline_of"]

# Numbers of filters: HDF5's own, and those registered with The HDF Group.
DEFLATE, SHUFFLE, FLETCHER32, BLOSC, ZSTD = 1, 2, 3, 32001, 32015


@dataclass(frozen=True)
class Pipeline:
    """The filters of a dataset, in the order in which they were applied.

    Attributes
    ----------
    numbers : tuple of int
    itemsize : int
        Bytes of an entry, by which bytes were shuffled.
    """

    numbers: tuple[int, ...]
    itemsize: int

    @property
    def known(self) -> bool:
        """Whether all filters can be undone here."""
        return all(number in UNDO for number in self.numbers)

    def decode(self, stored: bytes, size: int) -> Any:
        """Return the entries of a chunk as bytes.

        Parameters
        ----------
        stored : bytes
        size : int
            Bytes that must come out.

        Raises
        ------
        ValueError
            Another number of bytes came out.
        Exception
            Whatever a decompressor raises about damaged bytes.
        """
        buffer: Any = stored
        for number in reversed(self.numbers):
            buffer = UNDO[number](buffer, self.itemsize)
        found = memoryview(buffer).nbytes
        if found != size:
            raise ValueError(f"a chunk holds {found} bytes and should hold {size}")
        return buffer


def pipeline_of(dataset: Any) -> Pipeline:
    """Return the filters of an h5py dataset."""
    plan = dataset.id.get_create_plist()
    numbers = tuple(int(plan.get_filter(index)[0]) for index in range(plan.get_nfilters()))
    return Pipeline(numbers, int(dataset.id.get_type().get_size()))


def _inflate(buffer: Any, itemsize: int) -> Any:
    return zlib.decompress(buffer)


def _unshuffle(buffer: Any, itemsize: int) -> Any:
    if itemsize == 1:
        return buffer
    stored = np.frombuffer(buffer, np.uint8)
    count = len(stored) // itemsize
    whole = np.ascontiguousarray(stored[: count * itemsize].reshape(itemsize, count).T).reshape(-1)
    rest = stored[count * itemsize :]  # bytes after the last whole entry stay where they are
    return np.concatenate([whole, rest]) if len(rest) else whole


def _check_sum(buffer: Any, itemsize: int) -> Any:
    from numcodecs import Fletcher32

    return Fletcher32().decode(buffer)


def _blosc(buffer: Any, itemsize: int) -> Any:
    from numcodecs import Blosc

    header = bytes(memoryview(buffer)[:16])
    size = int.from_bytes(header[12:16], "little")
    if len(header) < 16 or size > memoryview(buffer).nbytes:  # Blosc would read on behind its end
        raise ValueError(f"a Blosc buffer of {size} bytes is cut off")
    return Blosc().decode(buffer)


def _zstd(buffer: Any, itemsize: int) -> Any:
    from numcodecs import Zstd

    return Zstd().decode(buffer)


UNDO: dict[int, Callable[[Any, int], Any]] = {
    DEFLATE: _inflate,
    SHUFFLE: _unshuffle,
    FLETCHER32: _check_sum,
    BLOSC: _blosc,
    ZSTD: _zstd,
}
"""What undoes a filter; others are left to HDF5."""
