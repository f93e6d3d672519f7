"""What dnmf takes from zarr's private parts is there and means what it did; nothing else does."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.abc.store import Store
from zarr.storage import LocalStore

import dnmf
from dnmf.sources.zarr_private import Wrapped, stored_at, sync
from dnmf.testing.layouts import write_dense

PACKAGE = Path(dnmf.__file__).parent


def test_a_coroutine_runs_to_its_end() -> None:
    async def answer() -> int:
        return 42

    assert sync(answer()) == 42


@pytest.mark.parametrize(
    ("zarr_format", "shards"), [(2, None), (3, None), (3, (4, 6))], ids=["2", "3", "sharded"]
)
def test_stored_objects_are_where_their_files_are(tmp_path: Path, zarr_format, shards) -> None:
    V = np.arange(1.0, 49.0).reshape(8, 6)
    array = write_dense(tmp_path, V, (2, 3), shards, zarr_format, path="inside")
    rows, columns = shards or (2, 3)
    found = {stored_at(array, (i, j)).path for i in range(8 // rows) for j in range(6 // columns)}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    metadata = {"zarr.json", ".zarray", ".zattrs", ".zgroup"}
    chunks = {str(path.relative_to(tmp_path)) for path in files if path.name not in metadata}
    assert found == chunks


class Logged(Wrapped):
    def __init__(self, store: Store, log: list[str]) -> None:
        super().__init__(store)
        self.log = log

    def around(self, store: Store) -> Logged:
        return Logged(store, self.log)

    async def get(self, key, prototype, byte_range=None):
        self.log.append(key)
        return await self.inner.get(key, prototype, byte_range)


def test_every_read_goes_through_the_wrapping(tmp_path: Path) -> None:
    V = np.arange(1.0, 9.0).reshape(4, 2)
    write_dense(tmp_path, V, (2, 2), path="inside")
    log: list[str] = []
    store = Logged(LocalStore(tmp_path), log).with_read_only(True)  # another one, around another
    assert store.read_only
    group = zarr.open_group(store, mode="r")
    assert [name for name, _ in group.members()] == ["inside"]
    assert "inside/zarr.json" in log
    np.testing.assert_array_equal(group["inside"][:], V)
    assert {"inside/c/0/0", "inside/c/1/0"} <= set(log)


def test_private_parts_are_used_in_one_module_each() -> None:
    private = re.compile(r"zarr\.core|encode_chunk_key|numba\.core|\._cache\b|rtsys")
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if private.search(path.read_text())
    }
    assert found == {"sources/zarr_private.py", "linalg/numba_private.py"}
