"""A Zarr store that counts what is read from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from zarr.abc.store import RangeByteRequest, Store

from dnmf.sources.zarr_private import Wrapped

__all__ = ["CountingStore"]

_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


class CountingStore(Wrapped):
    """Wraps a store, and logs every read; copies with another mode share the log.

    Counts in this process only.

    Parameters
    ----------
    store : zarr.abc.store.Store

    Attributes
    ----------
    reads : list of (key, byte range or None, bytes or None)
        Every object that was asked for, metadata too; bytes are None where there was none.
    asked : list of str
        Keys whose existence was asked for.

    Examples
    --------
    >>> import zarr
    >>> store = CountingStore(zarr.storage.MemoryStore())
    >>> V = zarr.create_array(store, shape=(4, 2), chunks=(2, 2), dtype="f4")
    >>> V[:] = 1
    >>> store.reset()
    >>> V[:3].shape
    (3, 2)
    >>> dict(store.chunk_reads())
    {'c/0/0': 1, 'c/1/0': 1}
    """

    def __init__(self, store: Store, log: CountingStore | None = None) -> None:
        super().__init__(store)
        self.reads: list[tuple[str, Any, int | None]] = [] if log is None else log.reads
        self.asked: list[str] = [] if log is None else log.asked

    def around(self, store: Store) -> CountingStore:
        return CountingStore(store, self)

    def with_read_only(self, read_only: bool = False) -> CountingStore:
        return self.around(self.inner.with_read_only(read_only))

    def reset(self) -> None:
        """Forget what was read."""
        self.reads.clear()
        self.asked.clear()

    def chunk_reads(self) -> Counter[str]:
        """Count reads of each chunk: by key, or ``key[start:end]`` for a part of a shard.

        Indices of shards, which are small and read again for every part, are left out.
        """
        return Counter(
            key if part is None else f"{key}[{part.start}:{part.end}]"
            for key, part, _ in list(self.reads)
            if not key.endswith(_METADATA) and (part is None or isinstance(part, RangeByteRequest))
        )

    def chunk_bytes(self) -> int:
        """Return the stored bytes of all chunks that were read."""
        return sum(size or 0 for key, _, size in list(self.reads) if not key.endswith(_METADATA))

    def _log(self, key: str, byte_range: Any, value: Any) -> None:
        self.reads.append((key, byte_range, None if value is None else len(value)))

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        value = await self.inner.get(key, prototype, byte_range)
        self._log(key, byte_range, value)
        return value

    async def get_partial_values(
        self, prototype: Any, key_ranges: Iterable[tuple[str, Any]]
    ) -> list[Any]:
        ranges = list(key_ranges)
        values = await self.inner.get_partial_values(prototype, ranges)
        for (key, byte_range), value in zip(ranges, values, strict=True):
            self._log(key, byte_range, value)
        return values

    async def exists(self, key: str) -> bool:
        self.asked.append(key)
        return await self.inner.exists(key)
