"""Matrices in ``.npy`` files and memory maps: persistent, and read without being mapped."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Self

import numpy as np

from dnmf.config import MIB
from dnmf.errors import CorruptDataError, InputError, TransientError
from dnmf.npy_header import read_header
from dnmf.sources.base import Matrix, Source
from dnmf.sources.checks import check_shape, matrix_text, may_pass, native_dtype

__all__ = ["NpySource"]

_PROBE = 1 << 16
"""Bytes at both ends of a memory map that its file must have."""

_ACROSS_BYTES = 4 * MIB
"""Bytes that are read at once while columns of the file become rows of a block."""


@dataclass(frozen=True)
class _Region:
    """The matrix within its file.

    Attributes
    ----------
    path : str
        Absolute.
    offset : int
        Bytes before the first entry.
    shape : (int, int)
        Shape of the file's array, in C order.
    dtype : str
        With the file's byte order.
    across : bool
        Rows of V are columns of the file's array.
    """

    path: str
    offset: int
    shape: tuple[int, int]
    dtype: str
    across: bool


class NpySource(Source):
    """An array in a file, row by row or column by column.

    Blocks are read with plain file reads, not mapped: a mapped block would be read by whoever
    touches it first (never ahead), would count as this process's memory for as long as it is
    mapped, and would end the process if the file were truncated.

    Raises
    ------
    InputError
        The array is empty, not two-dimensional or not real.
    CorruptDataError
        The file is shorter than its header says.
    """

    kind = "npy"
    persistent = True

    def __init__(self, region: _Region) -> None:
        where = region.path
        shape = check_shape(region.shape[::-1] if region.across else region.shape, where)
        super().__init__(shape, native_dtype(np.dtype(region.dtype), where))
        self._region = region
        rows, columns = region.shape
        needed = region.offset + rows * columns * self._dtype.itemsize
        try:
            size = os.path.getsize(where)
        except FileNotFoundError as error:
            raise InputError(f"{where} is no longer there") from error
        except OSError as error:
            raise self._failed(error) from error
        if size < needed:
            raise _truncated(where, size, needed)

    @classmethod
    def open(cls, path: str) -> Self:
        """Return the source of a ``.npy`` file."""
        path = os.path.abspath(path)
        try:
            with open(path, "rb") as file:
                shape, fortran, dtype = read_header(file)
                offset = file.tell()
        except ValueError as error:
            raise CorruptDataError(f"{path} is not a valid .npy file: {error}") from error
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error}") from error
        return cls._at(path, offset, shape, dtype, fortran)

    @classmethod
    def of_memmap(cls, V: np.memmap) -> Self | None:
        """Return the source of a memory map or of its consecutive rows; None for other views."""
        origin = V
        while isinstance(origin.base, np.memmap):
            origin = origin.base
        whole = isinstance(origin.base, mmap.mmap) and origin.filename and origin.mode != "c"
        contiguous = V.flags.c_contiguous or V.flags.f_contiguous
        if not (whole and contiguous and V.ndim == 2 and V.size):
            return None
        first = V.__array_interface__["data"][0] - origin.__array_interface__["data"][0]
        path, offset = os.path.abspath(str(origin.filename)), origin.offset + first
        if not _has(path, offset, V):  # deleted or replaced since: only the map still has it
            return None
        return cls._at(path, offset, V.shape, V.dtype, not V.flags.c_contiguous)

    @classmethod
    def _at(
        cls, path: str, offset: int, shape: tuple[int, ...], dtype: np.dtype, fortran: bool
    ) -> Self:
        n, d = check_shape(shape, path)
        native_dtype(dtype, path)
        return cls(_Region(path, offset, (d, n) if fortran else (n, d), dtype.str, fortran))

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Self:
        values = {key: value for key, value in spec.items() if key != "kind"}
        return cls(_Region(**{**values, "shape": tuple(values["shape"])}))

    def read_overhead(self, start: int, stop: int, alone: bool = False) -> int:
        # a buffer where rows of V lie across the file
        row = (stop - start) * self.dtype.itemsize
        across = max(_ACROSS_BYTES, row) if self._region.across else 0
        foreign = np.dtype(self._region.dtype) != self._dtype and not self._region.across
        return across + (self.block_bytes(start, stop) if foreign else 0)

    def read_blocks(self, starts: Sequence[int]) -> Iterator[Matrix]:
        try:
            file = open(self._region.path, "rb", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._failed(error) from error
        with file:
            for start, stop in pairwise(map(int, starts)):
                try:
                    yield (
                        self._across(file, start, stop)
                        if self._region.across
                        else self._along(file, start, stop)
                    )
                except OSError as error:
                    raise self._failed(error) from error

    def _along(self, file: Any, start: int, stop: int) -> np.ndarray:
        block = np.empty((stop - start, self.shape[1]), self._region.dtype)
        self._fill(file, start * self.shape[1], block)
        return block.astype(self.dtype, copy=False)

    def _across(self, file: Any, start: int, stop: int) -> np.ndarray:
        lines, length = self._region.shape
        out = np.empty((stop - start, lines), self.dtype)
        height = min(lines, max(1, _ACROSS_BYTES // ((stop - start) * self.dtype.itemsize)))
        buffer = np.empty((height, stop - start), self._region.dtype)
        for begin in range(0, lines, height):
            part = buffer[: min(height, lines - begin)]
            for line in range(len(part)):
                self._fill(file, (begin + line) * length + start, part[line])
            out[:, begin : begin + len(part)] = part.T
        return out

    def _fill(self, file: Any, position: int, out: np.ndarray) -> None:
        """Read consecutive entries into a contiguous array."""
        where = self._region
        file.seek(where.offset + position * self.dtype.itemsize)
        view = memoryview(out.view(np.uint8).reshape(-1).data)
        while len(view):
            count = file.readinto(view)
            if not count:
                raise _truncated(where.path, file.tell(), file.tell() + len(view))
            view = view[count:]

    def _failed(self, error: OSError) -> CorruptDataError | TransientError:
        text = f"{self._region.path} could not be read: {error}"
        return TransientError(text) if may_pass(error) else CorruptDataError(text)

    def transposed(self) -> Source | None:
        return type(self)(replace(self._region, across=not self._region.across))

    def describe(self) -> str:
        layout = "by columns" if self._region.across else "by rows"
        return matrix_text(self._region.path, self.shape, self.dtype, layout, self.nbytes)

    def spec(self) -> Mapping[str, Any]:
        return {"kind": self.kind, **vars(self._region), "shape": list(self._region.shape)}


def _has(path: str, offset: int, V: np.memmap) -> bool:
    """Return whether a file has the first and the last bytes of a contiguous memory map."""
    flat = V.reshape(-1, order="A").view(np.uint8)
    try:
        with open(path, "rb") as file:
            for start in (0, max(0, flat.size - _PROBE)):
                part = flat[start : start + _PROBE]
                file.seek(offset + start)
                if file.read(part.size) != part.tobytes():
                    return False
    except OSError:
        return False
    return True


def _truncated(path: str, size: int, needed: int) -> CorruptDataError:
    return CorruptDataError(
        f"{path} is truncated: it has {size} bytes, at least {needed} are needed; write it again"
    )
