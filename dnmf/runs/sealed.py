"""What a finished result says of its own files, so that a change or a loss is found.

The root metadata carry their own checksum, describe every array, and say how each chunk of W and H
ends. A chunk ends with a checksum of its decoded content, which zstd writes, and compares when it
decodes. Repeated in the metadata, chunk by chunk, it says which chunk belongs where.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr

__all__ = [
    "COLUMN",
    "ENDING",
    "RESULT_FORMAT",
    "checksum",
    "chunk_name",
    "described",
    "ending",
    "seal",
]

RESULT_FORMAT = 1
"""The format of published results; another one is refused."""

COLUMN = "column"
"""The array of the names of V's columns, and the dimension of H that it belongs to."""

ENDING = 4
"""Bytes of the checksum at the end of a chunk."""


def seal(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Add their checksum to attributes."""
    return {**attributes, "checksum": checksum(attributes)}


def checksum(attributes: Mapping[str, Any]) -> str:
    """Compute the checksum of attributes, which may hold one already."""
    rest = {name: value for name, value in attributes.items() if name != "checksum"}
    return f"{zlib.crc32(json.dumps(rest, sort_keys=True).encode()):08x}"


def described(array: zarr.Array[Any]) -> list[Any]:
    """Describe what of an array's metadata decides how it is read; of a short one its content too.

    Chunks have checksums of their own.
    """
    endian = getattr(array.serializer, "endian", None)
    order = str(getattr(endian, "value", endian))
    whole = np.asarray(array[:]) if array.ndim == 1 else None
    content = [] if whole is None else [zlib.crc32(_bytes_of(whole))]
    name = "string" if whole is not None and whole.dtype.kind not in "biuf" else array.dtype.name
    return [list(array.shape), list(array.chunks), name, order, *content]


def _bytes_of(values: np.ndarray) -> bytes:
    """Return the bytes of numbers, or of texts, which NumPy stores elsewhere."""
    if values.dtype.kind in "biuf":
        return values.tobytes()
    return json.dumps([str(value) for value in values]).encode()


def chunk_name(axis: int, index: int) -> str:
    """Name a chunk of W (axis 0) or H (axis 1) within its array."""
    return f"c/{index}/0" if axis == 0 else f"c/0/{index}"


def ending(path: str) -> str:
    """Read the checksum at the end of a chunk's file, as hexadecimal digits."""
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - ENDING))
        return file.read().hex()
