"""Truncated Blosc buffers are refused before they are decoded."""

from __future__ import annotations

import struct
from typing import Any

from zarr.abc.store import RangeByteRequest, Store

from dnmf.sources.zarr_private import Wrapped

__all__ = ["BloscChecked", "Damaged", "TooShort"]

_METADATA = frozenset({"zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"})


class Damaged(ValueError):  # noqa: N818
    """What is stored was read, and is not what was written."""


class TooShort(Damaged):
    """Fewer bytes than the compressor wrote."""


class BloscChecked(Wrapped):
    """A store whose chunks were compressed by Blosc last.

    c-blosc trusts the size in its own header: of a truncated buffer it reads on behind the end,
    which gives wrong numbers or ends the process.

    Parameters
    ----------
    store : zarr.abc.store.Store
    sharded : bool
        Then only inner chunks that are asked for by range are checked. A whole shard has an
        index at its end, whose checksum a truncated one does not meet; one whose index is at its
        start (not Zarr's default) is not protected when it is read whole.
    """

    def __init__(self, store: Store, sharded: bool) -> None:
        super().__init__(store)
        self._sharded = sharded

    def around(self, store: Store) -> BloscChecked:
        return BloscChecked(store, self._sharded)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        value = await self.inner.get(key, prototype, byte_range)
        if self._sharded:  # what begins at 0 may be an index
            chunk = isinstance(byte_range, RangeByteRequest) and byte_range.start > 0
        else:
            chunk = byte_range is None
        if value is None or not chunk or key.rsplit("/", 1)[-1] in _METADATA:
            return value
        header = value[:16].to_bytes()
        size = struct.unpack("<I", header[12:16])[0] if len(header) == 16 else 16
        if len(value) < size:
            raise TooShort(f"{len(value)} of {size} bytes are stored")
        return value
