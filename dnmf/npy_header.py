"""The ``.npy`` format, read without Python's parser.

NumPy evaluates the header with ``ast.literal_eval``. While several threads do that, CPython 3.11
fails now and then ("SystemError: AST constructor recursion depth mismatch"); 3.12 does not. This
module goes, for `numpy.lib.format`, once 3.12 is the oldest Python that dnmf runs on.
"""

from __future__ import annotations

import io
import math
import os
import re
from typing import BinaryIO, NamedTuple

import numpy as np

__all__ = ["Header", "read_array", "read_header"]

_PLAIN = re.compile(
    rb"\{'descr': '([<>|=][a-zA-Z]\d{1,3})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,18}, ?)*\d{0,18})\), \} *\n?"
)
_LONGEST = 10_000


class Header(NamedTuple):
    """What a ``.npy`` file says of its array."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype


def read_header(file: BinaryIO) -> Header:
    """Read up to the first entry.

    Raises
    ------
    ValueError
        It is no such file.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"version {version[0]}.{version[1]} of the format is unknown")
    width = 2 if version == (1, 0) else 4
    head = _exactly(file, width)
    length = int.from_bytes(head, "little")
    if length > _LONGEST:
        raise ValueError(f"its header would have {length} bytes")
    text = _exactly(file, length)
    plain = _PLAIN.fullmatch(text)
    if plain is None:
        return _by_numpy(head + text, version)
    descr, fortran, sizes = plain.groups()
    shape = tuple(int(size) for size in sizes.split(b",") if size.strip())
    try:
        return Header(shape, fortran == b"True", np.dtype(descr.decode()))
    except TypeError as error:
        raise ValueError(str(error)) from None


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise ValueError("it ends within its header")
    return data


def _by_numpy(data: bytes, version: tuple[int, int]) -> Header:
    """Whatever somebody else's writer made of it."""
    formats = np.lib.format
    read = formats.read_array_header_1_0 if version == (1, 0) else formats.read_array_header_2_0
    try:
        return Header(*read(io.BytesIO(data)))
    except ValueError:
        raise
    except Exception as error:  # of the parser, on bytes that are no header
        raise ValueError(f"its header is damaged ({type(error).__name__}: {error})") from None


def read_array(file: BinaryIO) -> np.ndarray:
    """Read the array in an open file on disk, C-contiguous.

    Raises
    ------
    ValueError
        It is no such file, holds Python objects, or is shorter than it says.
    """
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if fortran:
        raise ValueError("it holds an array in Fortran order")
    needed, there = math.prod(shape) * dtype.itemsize, os.fstat(file.fileno()).st_size
    if needed > there - file.tell():
        raise ValueError(f"it has {there - file.tell()} bytes of entries, {needed} are needed")
    array = np.empty(shape, dtype)
    view = memoryview(array.reshape(-1).view(np.uint8).data)
    while len(view):
        count = file.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise ValueError("it ended while it was read")
        view = view[count:]
    return array
