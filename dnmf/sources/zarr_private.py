"""The parts of zarr that are not in its public interface, in this module alone.

They were read in zarr 3.1; ``pyproject.toml`` leaves out zarr 4, and
``tests/sources/test_zarr_private.py`` fails where one of them is gone or means something else.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from typing import Any

import zarr
from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.storage import StorePath, WrapperStore

__all__ = ["Wrapped", "stored_at", "sync"]


def stored_at(array: zarr.Array[Any], position: tuple[int, ...]) -> StorePath:
    """Return the key of the stored object at a position of the grid of chunks (or shards)."""
    return array.store_path / array.metadata.encode_chunk_key(position)


class Wrapped(WrapperStore[Store]):
    """A store around another one, whose every read goes through `get`.

    Subclasses override `get` and `around`.

    Parameters
    ----------
    store : zarr.abc.store.Store
    """

    def around(self, store: Store) -> Wrapped:
        """Wrap another store as this one is."""
        raise NotImplementedError

    @property
    def inner(self) -> Store:
        """The store inside."""
        return self._store

    def _with_store(self, store: Store) -> Any:
        return self.around(store)

    async def _get_many(
        self, requests: Iterable[tuple[str, Any, Any]]
    ) -> AsyncGenerator[tuple[str, Any], None]:
        for key, prototype, byte_range in requests:
            yield key, await self.get(key, prototype, byte_range)
