"""Chunks of a result that lie where they were written, and not in each other's place.

Every chunk ends with a checksum of its decoded content, which zstd writes and compares when it
decodes. Kept in the result's metadata too, chunk by chunk, it says which chunk belongs where.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from zarr.abc.store import Store
from zarr.storage import WrapperStore

__all__ = ["PlacedChunks", "chunk_name", "ending"]

LENGTH = 4
"""Bytes of the checksum."""


def chunk_name(axis: int, index: int) -> str:
    """The name within its array of a chunk of W (axis 0) or H (axis 1)."""
    return f"c/{index}/0" if axis == 0 else f"c/0/{index}"


def ending(path: str) -> str:
    """The checksum at the end of a chunk's file, in hexadecimal digits."""
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - LENGTH))
        return file.read().hex()


class PlacedChunks(WrapperStore[Store]):
    """A store in which chunks must end as they did when they were written.

    Parameters
    ----------
    store : zarr.abc.store.Store
    endings : dict of str to list of str
        By path of an array (``"W"``, ``"models/3/H"``) those of its chunks, in order.
    """

    def __init__(self, store: Store, endings: Mapping[str, Sequence[str]]) -> None:
        super().__init__(store)
        self._endings = {
            f"{path}/{chunk_name(path.rsplit('/', 1)[-1] == 'H', index)}": digits
            for path, of_chunks in endings.items()
            for index, digits in enumerate(of_chunks)
        }

    def __str__(self) -> str:
        return str(self._store)

    def _with_store(self, store: Store) -> PlacedChunks:
        same = PlacedChunks(store, {})
        same._endings = self._endings
        return same

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        value = await self._store.get(key, prototype, byte_range)
        expected = self._endings.get(key)
        if value is None or expected is None or byte_range is not None:
            return value
        if value[-LENGTH:].to_bytes().hex() != expected:
            raise ValueError(f"chunk {key} is not the one that was written there")
        return value
