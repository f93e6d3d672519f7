"""Zarr stores that refuse a chunk of a result which is not the one that was written there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from zarr.abc.store import Store
from zarr.storage import LocalStore

from dnmf.runs.sealed import ENDING, chunk_name
from dnmf.sources.zarr_private import Wrapped

__all__ = ["checked"]


class Endings:
    """The last bytes of every chunk of a store's arrays, as they were written.

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

    def check(self, key: str, found: Any, byte_range: Any) -> Any:
        """Return what was found under a key; a chunk must end with the bytes that were written."""
        expected = self._of_keys.get(key)
        if expected is None:
            return found
        if found is None:  # Zarr would fill it with zeros
            raise ValueError(f"chunk {key} is missing")
        if byte_range is not None:
            return found
        if found[-ENDING:].to_bytes().hex() != expected:
            raise ValueError(f"chunk {key} is not the one that was written there")
        return found


def checked(store: Store, endings: Mapping[str, Sequence[str]]) -> Store:
    """Open a store again, read-only, so that it compares chunks with how they must end."""
    if type(store) is LocalStore:
        return CheckedFolder(store.root, endings=Endings(endings))
    return CheckedStore(store, Endings(endings))


class CheckedFolder(LocalStore):
    """Checks the chunks in a folder, whose arrays may be opened by their paths too."""

    is_folder: ClassVar[bool] = True

    def __init__(
        self, root: Path | str, *, read_only: bool = True, endings: Endings | None = None
    ) -> None:
        super().__init__(root, read_only=read_only)
        self._endings = endings or Endings({})

    def with_read_only(self, read_only: bool = False) -> CheckedFolder:
        return CheckedFolder(self.root, read_only=read_only, endings=self._endings)

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        found = await super().get(key, prototype, byte_range)
        return self._endings.check(key, found, byte_range)

    def get_sync(self, key: str, *, prototype: Any = None, byte_range: Any = None) -> Any:
        found = super().get_sync(key, prototype=prototype, byte_range=byte_range)
        return self._endings.check(key, found, byte_range)


class CheckedStore(Wrapped):
    """Checks the chunks in any other store."""

    def __init__(self, store: Store, endings: Endings) -> None:
        super().__init__(store)
        self._endings = endings

    def __str__(self) -> str:
        return str(self.inner)

    def around(self, store: Store) -> CheckedStore:
        return CheckedStore(store, self._endings)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        found = await self.inner.get(key, prototype, byte_range)
        return self._endings.check(key, found, byte_range)
