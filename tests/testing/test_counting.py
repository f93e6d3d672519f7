"""The store that counts."""

from __future__ import annotations

import doctest

import numpy as np
import zarr
from zarr.storage import LocalStore, MemoryStore

from dnmf.testing import counting
from dnmf.testing.counting import CountingStore
from dnmf.testing.layouts import write_dense


def test_its_example() -> None:
    assert doctest.testmod(counting).attempted > 3
    assert doctest.testmod(counting).failed == 0


def test_parts_of_shards_are_told_apart() -> None:
    store = CountingStore(MemoryStore())
    array = write_dense(store, np.ones((40, 4), np.float32), (10, 4), shards=(20, 4))
    store.reset()
    array[:10], array[10:20], array[20:]
    reads = store.chunk_reads()
    assert set(reads.values()) == {1}
    assert sorted(key.partition("[")[0] for key in reads) == ["c/0/0", "c/0/0", "c/1/0"]
    array[:10]
    assert max(store.chunk_reads().values()) == 2


def test_copies_share_the_log(tmp_path: object) -> None:
    store = CountingStore(LocalStore(str(tmp_path)))
    write_dense(store, np.ones((4, 4)), (2, 4), compressors=None)
    store.reset()
    copy = store.with_read_only(True)
    assert copy.read_only
    assert not store.read_only
    zarr.open_array(copy, mode="r")[:]
    assert store.chunk_reads() == {"c/0/0": 1, "c/1/0": 1}
    assert store.chunk_bytes() == 2 * 2 * 4 * 8
