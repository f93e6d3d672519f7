"""Chunks of a result that lie where they were written, and not in each other's place.

Every chunk ends with a checksum of its decoded content, which zstd writes and compares when it
decodes. Kept in the result's metadata too, chunk by chunk, it says which chunk belongs where.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from zarr.abc.store import Store
from zarr.storage import LocalStore

from dnmf.sources.zarr_private import Wrapped

__all__ = ["chunk_name", "ending", "placed"]

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


class Endings:
    """How the chunks of a store's arrays must end.

    Parameters
    ----------
    endings : dict of str to list of str
        By path of an array (``"W"``, ``"models/3/H"``) those of its chunks, in order.
    """

    def __init__(self, endings: Mapping[str, Sequence[str]]) -> None:
        self._of_keys = {
            f"{path}/{chunk_name(path.rsplit('/', 1)[-1] == 'H', index)}": digits
            for path, of_chunks in endings.items()
            for index, digits in enumerate(of_chunks)
        }

    def checked(self, key: str, found: Any, byte_range: Any) -> Any:
        """What was found under a key; a chunk must be there, with the bytes that were written."""
        expected = self._of_keys.get(key)
        if expected is None:
            return found
        if found is None:  # Zarr would fill it with zeros
            raise ValueError(f"chunk {key} is missing")
        if byte_range is not None:
            return found
        if found[-LENGTH:].to_bytes().hex() != expected:
            raise ValueError(f"chunk {key} is not the one that was written there")
        return found


def placed(store: Store, endings: Mapping[str, Sequence[str]]) -> Store:
    """The same store, read-only, in which chunks are compared with how they must end."""
    if type(store) is LocalStore:
        return PlacedFolder(store.root, endings=Endings(endings))
    return PlacedChunks(store, Endings(endings))


class PlacedFolder(LocalStore):
    """A folder, which whoever is given its arrays may open by its path too."""

    is_folder: ClassVar[bool] = True

    def __init__(
        self, root: Path | str, *, read_only: bool = True, endings: Endings | None = None
    ) -> None:
        super().__init__(root, read_only=read_only)
        self._endings = endings or Endings({})

    def with_read_only(self, read_only: bool = False) -> PlacedFolder:
        """The same folder and chunks."""
        return PlacedFolder(self.root, read_only=read_only, endings=self._endings)

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        """See `Endings.checked`."""
        found = await super().get(key, prototype, byte_range)
        return self._endings.checked(key, found, byte_range)

    def get_sync(self, key: str, *, prototype: Any = None, byte_range: Any = None) -> Any:
        """See `Endings.checked`."""
        found = super().get_sync(key, prototype=prototype, byte_range=byte_range)
        return self._endings.checked(key, found, byte_range)


class PlacedChunks(Wrapped):
    """Any other store."""

    def __init__(self, store: Store, endings: Endings) -> None:
        super().__init__(store)
        self._endings = endings

    def __str__(self) -> str:
        return str(self.inner)

    def around(self, store: Store) -> PlacedChunks:
        return PlacedChunks(store, self._endings)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """See `Endings.checked`."""
        found = await self.inner.get(key, prototype, byte_range)
        return self._endings.checked(key, found, byte_range)
