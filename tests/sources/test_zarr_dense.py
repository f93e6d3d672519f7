"""Dense matrices in Zarr: formats, chunk grids, dtypes, damage."""

from __future__ import annotations

import os
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from dnmf.errors import CorruptDataError, TransientError
from dnmf.sources import Source, open_source
from dnmf.testing.counting import CountingStore
from dnmf.testing.layouts import write_dense
from dnmf.testing.source_contract import SourceContract, read, sample_matrix

DTYPES = ("float16", "float32", "float64", "bool", "int8", "int16", "int32", "int64")
DTYPES += ("uint8", "uint16", "uint32", "uint64")


class ZarrLayout:
    """How the contract makes sources of one layout."""

    transposes = True
    layout: ClassVar[dict[str, Any]]
    large: ClassVar[dict[str, Any]] = {}

    def make(self, V: np.ndarray, folder: Path) -> Source:
        write_dense(folder / "V.zarr", V, **self.layout)
        return open_source(folder / "V.zarr")

    def make_large(self, V: np.ndarray, folder: Path) -> Source:
        larger = type(self.__class__.__name__, (type(self),), {"layout": self.layout | self.large})
        return larger().make(V, folder)

    def make_counting(self, V: np.ndarray) -> tuple[Source, CountingStore]:
        store = CountingStore(MemoryStore())
        return open_source(write_dense(store, V, **self.layout)), store


class TestRowChunks(ZarrLayout, SourceContract):
    kind = "zarr"
    dtypes = DTYPES
    layout: ClassVar = {"chunks": (20, 43)}
    large: ClassVar = {"chunks": (300, 501)}


class TestRaggedChunksV2(ZarrLayout, SourceContract):
    kind = "zarr"
    dtypes = (*DTYPES, ">f4", ">i2")
    block_dtypes: ClassVar = {">f4": "float32", ">i2": "int16"}
    layout: ClassVar = {"chunks": (31, 17), "zarr_format": 2, "compressors": numcodecs.Blosc()}
    large: ClassVar = {"chunks": (700, 300), "filters": [numcodecs.Shuffle(2)]}


class TestOneColumnPerChunk(ZarrLayout, SourceContract):
    kind = "zarr"
    layout: ClassVar = {"chunks": (157, 1)}
    large: ClassVar = {"chunks": (4001, 20)}


class TestOneChunkLargerThanV(ZarrLayout, SourceContract):
    kind = "zarr"
    layout: ClassVar = {"chunks": (200, 50), "compressors": None}
    large: ClassVar = {"chunks": (5000, 600)}


class TestColumnMajorChunksV2(ZarrLayout, SourceContract):
    kind = "zarr"
    layout: ClassVar = {"chunks": (20, 20), "zarr_format": 2, "order": "F"}
    large: ClassVar = {"chunks": (500, 100)}


class TestShards(ZarrLayout, SourceContract):
    kind = "zarr"
    dtypes = DTYPES
    layout: ClassVar = {"chunks": (8, 22), "shards": (40, 44)}
    large: ClassVar = {"chunks": (100, 200), "shards": (1000, 600)}


class TestColumns(ZarrLayout, SourceContract):
    kind = "zarr_columns"
    layout: ClassVar = {"chunks": (20, 50)}
    large: ClassVar = {"chunks": (250, 1000)}

    def make(self, V: np.ndarray, folder: Path) -> Source:
        write_dense(folder / "V.zarr", np.ascontiguousarray(V.T), **self.layout)
        return self._turn(open_source(folder / "V.zarr"))

    def make_counting(self, V: np.ndarray) -> tuple[Source, CountingStore]:
        source, store = super().make_counting(np.ascontiguousarray(V.T))
        return self._turn(source), store

    def _turn(self, source: Source) -> Source:
        turned = source.transposed()
        assert turned is not None
        return turned


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_grid_reads_like_memory(data: st.DataObject) -> None:
    n, d = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 20))
    chunks = data.draw(st.tuples(st.integers(1, 35), st.integers(1, 25)))
    layout: dict[str, Any] = {"chunks": chunks, "zarr_format": data.draw(st.sampled_from([2, 3]))}
    if layout["zarr_format"] == 3 and data.draw(st.booleans()):
        times = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        layout["shards"] = (chunks[0] * times[0], chunks[1] * times[1])
    dtype = data.draw(st.sampled_from(DTYPES))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    V = (rng.integers(0, 5, (n, d)) * (rng.random((n, d)) < data.draw(st.floats(0, 1)))).astype(
        dtype
    )
    store = CountingStore(MemoryStore())
    source = open_source(write_dense(store, V, **layout))
    for candidate, expected in ((source, V), (source.transposed(), V.T)):
        assert candidate is not None
        cuts = data.draw(st.sets(st.integers(0, expected.shape[0]), min_size=2, max_size=5))
        starts = sorted(cuts)
        store.reset()
        np.testing.assert_array_equal(
            read(candidate, starts), expected[starts[0] : starts[-1]], strict=True
        )
        assert max(store.chunk_reads().values()) == 1
        size, rows = data.draw(st.integers(1, 500)), data.draw(st.integers(1, 40))
        own = candidate.block_starts(size, 4, rows).tolist()
        store.reset()
        blocks = list(candidate.read_blocks(own))
        assert max(store.chunk_reads().values()) == 1
        for (a, b), block in zip(pairwise(own), blocks, strict=True):
            np.testing.assert_array_equal(block, expected[a:b], strict=True)
            assert candidate.unstored(a, b, block) == []


def test_blocks_are_whole_chunk_rows() -> None:
    V = sample_matrix()
    source = open_source(write_dense(MemoryStore(), V, (20, 10)))
    row = 43 * 4
    assert np.diff(source.block_starts(50 * row, 4, 1000)).tolist() == [40, 40, 40, 37]
    assert np.diff(source.block_starts(100 * row, 4, 30)).tolist() == [20] * 7 + [17]
    assert np.diff(source.block_starts(1, 4, 1)).tolist() == [20] * 7 + [17]
    tall = open_source(write_dense(MemoryStore(), V, (157, 5)))
    assert tall.block_starts(1, 4, 1).tolist() == [0, 157]
    wide = tall.transposed()
    assert wide is not None
    assert np.diff(wide.block_starts(1, 4, 1)).tolist() == [5] * 8 + [3]


def test_shards_are_whole_blocks_where_they_fit() -> None:
    V = sample_matrix()
    store = CountingStore(MemoryStore())
    source = open_source(write_dense(store, V, (10, 43), shards=(40, 43)))
    row = 43 * 4
    assert np.diff(source.block_starts(70 * row, 4, 1000)).tolist() == [40, 40, 40, 37]
    assert np.diff(source.block_starts(30 * row, 4, 1000)).tolist() == [30] * 5 + [7]
    store.reset()
    read(source, [0, 40, 80, 120, 157])
    assert store.chunk_reads() == {f"c/{i}/0": 1 for i in range(4)} | {
        # the last shard is ragged: its inner chunks are asked for one by one
        key: 1
        for key in store.chunk_reads()
        if key.startswith("c/3/0[")
    }


def test_nested_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    V = sample_matrix()
    for zarr_format in (2, 3):
        store = tmp_path / f"store{zarr_format}.zarr"
        write_dense(store, V, (50, 43), path="path/to/array", zarr_format=zarr_format)
        for where in (store / "path/to/array", f"file://{store}/path/to/array"):
            source = open_source(where)
            np.testing.assert_array_equal(read(source), V)
            assert source.spec() == {"kind": "zarr", "location": f"{store}/path/to/array"}
        monkeypatch.chdir(tmp_path)
        relative = open_source(f"store{zarr_format}.zarr/path/to/array/")
        assert relative.spec() == source.spec()
        node = zarr.open_group(store)["path/to/array"]  # writable: the source is not
        assert open_source(node).spec() == source.spec()


def test_fsspec_urls() -> None:
    V = sample_matrix()
    url = "memory://dnmf-test/V.zarr"
    write_dense(url, V, (50, 43), path="a/b")
    source = open_source(f"{url}/a/b")
    np.testing.assert_array_equal(read(source), V)
    assert not source.persistent  # another process has another memory
    opened = zarr.open_array(f"{url}/a/b", mode="r")
    np.testing.assert_array_equal(read(open_source(opened)), V)


def test_zip_files_by_url(tmp_path: Path) -> None:
    V = sample_matrix()
    with zarr.storage.ZipStore(tmp_path / "V.zip", mode="w") as store:
        write_dense(store, V, (50, 43))
    source = open_source(f"zip::{tmp_path}/V.zip")
    np.testing.assert_array_equal(read(source), V)
    assert source.persistent


def _chunk_file(folder: Path, row: int) -> Path:
    (found,) = [p for p in (folder / f"c/{row}/0", folder / f"{row}.0") if p.exists()]
    return found


BLOSC = {"compressors": zarr.codecs.BloscCodec()}
LAYOUTS: dict[str, dict[str, Any]] = {
    "zstd": {},
    "plain": {"compressors": None},
    "gzip": {"compressors": zarr.codecs.GzipCodec()},
    "blosc": BLOSC,
    "blosc v2": {"zarr_format": 2, "compressors": numcodecs.Blosc()},
    "bz2 v2": {"zarr_format": 2, "compressors": numcodecs.BZ2()},
    "sharded blosc": {"shards": (20, 43), **BLOSC},
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("keep", [0.99, 0.4, 0.0])
def test_truncated_chunk(name: str, keep: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (157, 43), dtype=np.uint8)  # blosc copies it
    folder = tmp_path / "V.zarr"
    write_dense(folder, noise, (20, 43), **LAYOUTS[name])
    chunk = _chunk_file(folder, 2)
    os.truncate(chunk, int(chunk.stat().st_size * keep))
    source = open_source(folder)
    np.testing.assert_array_equal(read(source, [0, 40]), noise[:40])
    if "sharded" in name and keep == 0:  # Zarr reads an empty shard as fill values
        (block,) = source.read_blocks([40, 60])
        with pytest.raises(CorruptDataError, match=r"chunk c/2/0 .*is empty \(0 bytes\)"):
            source.unstored(40, 60, block)
        return
    key = chunk.relative_to(folder)
    with pytest.raises(CorruptDataError, match=f"chunk {key} of {folder} .rows 40 to 59, col"):
        read(source)


@pytest.mark.parametrize("first", [True, False])
def test_truncated_shard_read_in_parts(first: bool, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (80, 43), dtype=np.uint8)
    shards: Any = {"shape": (40, 43), "index_location": "start" if first else "end"}
    write_dense(tmp_path / "V.zarr", noise, (10, 43), shards, **BLOSC)
    source = open_source(tmp_path / "V.zarr")
    np.testing.assert_array_equal(read(source, list(range(0, 81, 10))), noise)
    chunk = tmp_path / "V.zarr/c/1/0"
    os.truncate(chunk, chunk.stat().st_size - 100)
    with pytest.raises(CorruptDataError, match=r"chunk c/1/0 .*rows (40|70) to (49|79)"):
        read(source, list(range(0, 81, 10)))


def test_damaged_inner_chunk_of_a_shard_read_in_parts(tmp_path: Path) -> None:
    V = sample_matrix()
    write_dense(tmp_path / "V.zarr", V, (10, 43), shards=(40, 43))
    chunk = tmp_path / "V.zarr/c/1/0"
    content = bytearray(chunk.read_bytes())
    content[:20] = b"x" * 20
    chunk.write_bytes(content)
    with pytest.raises(CorruptDataError, match=r"chunk c/1/0 .*rows 40 to 49"):
        read(open_source(tmp_path / "V.zarr"), [0, 10, 20, 30, 40, 50, 60, 157])


@pytest.mark.parametrize("fill", [0, 7, float("nan"), None])
def test_missing_chunks_are_named(fill: float | None, tmp_path: Path) -> None:
    V = sample_matrix() + np.float32(1)
    options = {"zarr_format": 2 if fill is None else 3, "fill_value": fill}
    array = write_dense(tmp_path / "V.zarr", V, (20, 30), **options)
    store = CountingStore(array.store)
    source = open_source(zarr.open_array(store, mode="r"))
    turned = source.transposed()
    assert turned is not None
    found = [source.unstored(0, 157, read(source)), turned.unstored(0, 43, read(turned))]
    assert found == [[], []]
    assert store.asked == []  # no chunk looks missing
    name = "c/3/1" if options["zarr_format"] == 3 else "3.1"
    os.remove(tmp_path / "V.zarr" / name)
    expected = V.copy()
    expected[60:80, 30:] = fill or 0
    np.testing.assert_array_equal(read(source), expected)
    assert source.unstored(0, 157, read(source).astype(np.float64)) == [name]
    assert turned.unstored(0, 43, read(turned)) == [name]
    assert source.unstored(0, 60, read(source, [0, 60])) == []
    assert store.asked == ([name] * 2)


def test_missing_shard_is_named(tmp_path: Path) -> None:
    V = sample_matrix() + np.float32(1)
    V[40:80] = 0
    write_dense(tmp_path / "V.zarr", V, (10, 43), shards=(40, 43))
    source = open_source(tmp_path / "V.zarr")
    blocks = [0, 30, 60, 80]
    (_, second, third) = source.read_blocks(blocks)
    assert source.unstored(60, 80, third) == []
    shutil.rmtree(tmp_path / "V.zarr/c/1")
    assert source.unstored(60, 80, third) == ["c/1/0"]
    assert source.unstored(30, 60, second) == ["c/1/0"]


class _Failing(CountingStore):
    """Fails ``times`` times when a chunk is read."""

    def __init__(self, store: Any, error: Exception, times: int) -> None:
        super().__init__(store)
        self.error, self.times = error, times

    def _with_store(self, store: Any) -> _Failing:
        return self

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        if key == "c/1/0" and self.times:
            self.times -= 1
            raise self.error
        return await super().get(key, prototype, byte_range)


@pytest.mark.parametrize(
    ("error", "times", "kind", "message"),
    [
        (TimeoutError("slow"), 99, TransientError, r"chunk c/1/0 .*could not be fetched.*slow"),
        (ConnectionResetError(104, "reset"), 99, TransientError, "could not be fetched"),
        (OSError(5, "Input/output error"), 1, TransientError, "can be read now"),
        (RuntimeError("store"), 99, TransientError, "could not be fetched"),
        (PermissionError(13, "denied"), 99, CorruptDataError, "may not be read on"),
    ],
)
def test_failing_storage(error: Exception, times: int, kind: type, message: str) -> None:
    store = MemoryStore()
    write_dense(store, sample_matrix(), (20, 43))
    array = zarr.open_array(_Failing(store.with_read_only(True), error, times), mode="r")
    with pytest.raises(kind, match=message):
        read(open_source(array))


def test_store_that_vanished_or_changed(tmp_path: Path) -> None:
    """As on a worker that does not see the path: never zeros instead of data."""
    import pickle

    V = sample_matrix()
    write_dense(tmp_path / "V.zarr", V, (20, 43))
    source = open_source(tmp_path / "V.zarr")
    read(source)
    sent = pickle.dumps(source)
    shutil.rmtree(tmp_path / "V.zarr")
    with pytest.raises(CorruptDataError, match=r"cannot be opened on .*there is nothing"):
        read(pickle.loads(sent))
    assert not (tmp_path / "V.zarr").exists()
    write_dense(tmp_path / "V.zarr", V, (30, 43))
    with pytest.raises(CorruptDataError, match="changed: it was"):
        read(pickle.loads(sent))
