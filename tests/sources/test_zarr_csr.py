"""Sparse matrices in Zarr, by rows and by columns."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numcodecs
import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from dnmf.errors import CorruptDataError, InputError
from dnmf.sources import Source, open_source
from dnmf.testing.counting import CountingStore
from dnmf.testing.layouts import write_compressed
from dnmf.testing.source_contract import (
    ColumnsOnlyContract,
    SourceContract,
    as_dense,
    read,
    sample_matrix,
)

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def _csr(V: np.ndarray) -> sp.csr_array:
    """CSR of any dtype, float16 too, which scipy does not make itself."""
    csr = sp.csr_array(V.astype(np.float64))
    csr.data = csr.data.astype(V.dtype)
    return csr


class CSRLayout:
    """How the contract makes sources of one layout."""

    layout: ClassVar[dict[str, Any]]
    large: ClassVar[dict[str, Any]] = {"chunk": 30_000, "indptr_chunk": None}

    def make(self, V: np.ndarray, folder: Path) -> Source:
        write_compressed(folder / "V.zarr", _csr(V), **self.layout)
        return open_source(folder / "V.zarr")

    def make_large(self, V: np.ndarray, folder: Path) -> Source:
        larger = type(self.__class__.__name__, (type(self),), {"layout": self.layout | self.large})
        return larger().make(V, folder)

    def make_counting(self, V: np.ndarray) -> tuple[Source, CountingStore]:
        store = CountingStore(MemoryStore())
        return open_source(write_compressed(store, _csr(V), **self.layout)), store


class TestSmallChunks(CSRLayout, SourceContract):
    kind = "zarr_csr"
    dtypes = ("float32", "float64", "float16", "bool", *INTEGERS)
    block_dtypes: ClassVar = {"float16": "float32"}
    layout: ClassVar = {"chunk": 100, "indptr_chunk": 7}


class TestOneChunkV2WideIndices(CSRLayout, SourceContract):
    kind = "zarr_csr"
    layout: ClassVar = {
        "chunk": 10**6,
        "zarr_format": 2,
        "index_dtype": "int64",
        "compressors": numcodecs.Blosc(),
    }


class TestShards(CSRLayout, SourceContract):
    kind = "zarr_csr"
    dtypes = ("float16", "float32")
    block_dtypes: ClassVar = {"float16": "float32"}
    layout: ClassVar = {
        "chunk": 64,
        "indptr_chunk": 64,
        "shards": (256,),
        "index_dtype": "uint32",
    }
    large: ClassVar = {"chunk": 10_000, "indptr_chunk": 1000, "shards": (50_000,)}


class TestCSCByColumns(CSRLayout, SourceContract):
    kind = "zarr_csr"
    layout: ClassVar = {"chunk": 100}

    def make(self, V: np.ndarray, folder: Path) -> Source:
        write_compressed(folder / "V.zarr", _csr(V).T, **self.layout)
        return self._turn(open_source(folder / "V.zarr"))

    def make_counting(self, V: np.ndarray) -> tuple[Source, CountingStore]:
        store = CountingStore(MemoryStore())
        return self._turn(open_source(write_compressed(store, _csr(V).T, 100))), store

    def _turn(self, source: Source) -> Source:
        turned = source.transposed()
        assert turned is not None
        return turned


class TestCSC(ColumnsOnlyContract):
    kind = "zarr_csc"

    def make(self, V: np.ndarray, folder: Path) -> Source:
        write_compressed(folder / "V.zarr", sp.csc_array(V), 100)
        return open_source(folder / "V.zarr")


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_layout_reads_like_memory(data: st.DataObject) -> None:
    """Unsorted and duplicate indices, stored zeros, empty rows, any chunks."""
    n, d = data.draw(st.integers(1, 25)), data.draw(st.integers(1, 9))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    count = data.draw(st.integers(0, 90))
    rows = np.sort(rng.integers(0, n, count))
    width = data.draw(st.sampled_from([np.int32, np.int64]))
    V = sp.csr_array(
        (
            rng.integers(0, 5, count).astype(data.draw(st.sampled_from(["f4", "f8", "i2", "u1"]))),
            rng.integers(0, d, count).astype(width),
            np.searchsorted(rows, np.arange(n + 1)).astype(width),
        ),
        (n, d),
    )
    store = CountingStore(MemoryStore())
    group = write_compressed(
        store,
        V,
        data.draw(st.integers(1, 100)),
        zarr_format=data.draw(st.sampled_from([2, 3])),
        indptr_chunk=data.draw(st.integers(1, 30)),
        index_dtype=width,
    )
    source = open_source(group)
    starts = source.block_starts(data.draw(st.integers(1, 400)), 4, data.draw(st.integers(1, 30)))
    store.reset()
    blocks = list(source.read_blocks(starts))
    assert max(store.chunk_reads().values()) == 1
    for (a, b), block in zip(pairwise(starts.tolist()), blocks, strict=True):
        np.testing.assert_array_equal(as_dense(block), V[a:b].toarray(), strict=True)
        assert block.has_canonical_format
        assert block.indices.dtype == np.int32
        assert source.unstored(a, b, block) == []
    cuts = sorted(data.draw(st.sets(st.integers(0, n), min_size=2, max_size=5)))
    np.testing.assert_array_equal(read(source, cuts), V[cuts[0] : cuts[-1]].toarray())


def test_cuts_equal_those_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where indptr is read in many stretches."""
    monkeypatch.setattr("dnmf.sources.compressed._STRETCH", 10)
    V = _csr(sample_matrix())
    source = open_source(write_compressed(MemoryStore(), V, 50, indptr_chunk=3))
    memory = open_source(V)
    for size in (1, 100, 1000, 5000, 10**6):
        for rows in (1, 7, 12, 1000):
            expected = memory.block_starts(size, 4, rows)
            np.testing.assert_array_equal(source.block_starts(size, 4, rows), expected)


def test_a_huge_row_is_a_block() -> None:
    V = np.zeros((5, 1000), np.float32)
    V[2] = 1
    V[[1, 3], 0] = 1
    source = open_source(write_compressed(MemoryStore(), _csr(V), 64))
    assert source.block_starts(1000, 4, 100).tolist() == [0, 2, 3, 5]


def test_planning_reads_indptr_only() -> None:
    store = CountingStore(MemoryStore())
    group = write_compressed(store, _csr(sample_matrix()), 50, indptr_chunk=10)
    store.reset()
    source = open_source(group)
    starts = source.block_starts(1000, 4, 10).tolist()
    for a, b in pairwise(starts):
        source.block_bytes(a, b)
        source.read_overhead(a, b)
    reads = store.chunk_reads()
    assert {key.split("/")[0] for key in reads} == {"indptr"}
    assert set(reads.values()) == {1}


def test_anndata_store(tmp_path: Path) -> None:
    V = sample_matrix()
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    root.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    write_compressed(tmp_path / "a.zarr", _csr(V), 100, path="X")
    source = open_source(tmp_path / "a.zarr")
    np.testing.assert_array_equal(read(source), V)
    assert "(X of an AnnData store)" in source.describe()
    assert source.spec()["location"] == f"{tmp_path}/a.zarr/X"
    np.testing.assert_array_equal(read(open_source(tmp_path / "a.zarr/X")), V)


def test_legacy_attributes() -> None:
    group = write_compressed(MemoryStore(), _csr(sample_matrix()), 100)
    del group.attrs["encoding-type"], group.attrs["shape"]
    group.attrs.update({"h5sparse_format": "csr", "h5sparse_shape": [157, 43]})
    np.testing.assert_array_equal(read(open_source(group)), sample_matrix())


def test_int64_offsets_beyond_int32_stay_wide() -> None:
    """Columns that int32 cannot name: indices stay int64."""
    d = 2**31 + 10
    V = sp.csr_array((np.ones(2), np.array([1, d - 1]), np.array([0, 1, 2])), (2, d))
    (block,) = open_source(write_compressed(MemoryStore(), V, 100)).read_blocks([0, 2])
    assert block.indices.dtype == np.int64
    assert block.indices.tolist() == [1, d - 1]


def test_indices_that_would_wrap_are_found() -> None:
    group = write_compressed(MemoryStore(), _csr(sample_matrix()), 100, index_dtype="int64")
    group["indices"][50] = 2**32 + 1
    with pytest.raises(CorruptDataError, match=r"column index 4294967297 in row \d+"):
        read(open_source(group))


def _damaged(name: str, position: int, value: int) -> Source:
    group = write_compressed(MemoryStore(), sp.csr_array(np.ones((30, 4))), 16, indptr_chunk=4)
    group[name][position] = value
    return open_source(group)


@pytest.mark.parametrize(
    ("name", "position", "value", "message"),
    [
        ("indptr", 0, 1, "indptr begins with 1"),
        ("indptr", 10, 7, "indptr decreases from 36 to 7 at row 9"),
        ("indptr", 30, 119, "indptr says 119 stored entries before row 30, but .* have 120"),
        ("indptr", 30, 121, "indptr says 121 stored entries"),
        ("indices", 9, 4, r"column index 4 in row 2, but there are 4 columns"),
        ("indices", 9, -1, r"column index -1 in row 2"),
    ],
)
def test_contradictions(name: str, position: int, value: int, message: str) -> None:
    source = _damaged(name, position, value)
    with pytest.raises(CorruptDataError, match=message):
        read(source, [0, 1, 5, 30])
    if name == "indptr":
        with pytest.raises(CorruptDataError, match=message):
            source.block_starts(100, 8, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g.attrs.update({"shape": [156, 43]}), "indptr has 158 entries, but .* 157"),
        (lambda g: g.attrs.update({"shape": [0, 43]}), "no rows"),
        (lambda g: g.attrs.update({"shape": [157]}), "1 dimension"),
        (lambda g: g.attrs.update({"shape": "x"}), r"'shape' is 'x'; it must be \[n, d\]"),
        (lambda g: g.attrs.pop("shape"), r"'shape' is None"),
        (lambda g: g["data"].resize((5,)), "data has 5 entries, but indices has"),
        (lambda g: g.__delitem__("indices"), "without its array 'indices'"),
        (lambda g: g.create_array("data", shape=(2, 2), dtype="f4", overwrite=True), "2 dim"),
        (lambda g: g.create_array("indptr", shape=(158,), dtype="f4", overwrite=True), "integers"),
        (lambda g: g.create_array("data", shape=(9,), dtype="c8", overwrite=True), "complex64"),
    ],
)
def test_bad_groups(change: Any, message: str) -> None:
    group = write_compressed(MemoryStore(), _csr(sample_matrix()), 100)
    change(group)
    with pytest.raises(InputError, match=message):
        open_source(group)


@pytest.mark.parametrize("name", ["data", "indices"])
def test_truncated_chunk_is_named_with_its_rows(name: str, tmp_path: Path) -> None:
    write_compressed(tmp_path / "V.zarr", sp.csr_array(np.ones((30, 4))), 20)
    os.truncate(tmp_path / f"V.zarr/{name}/c/2", 5)
    with pytest.raises(
        CorruptDataError, match=rf"chunk {name}/c/2 .*entries 40 to 59.* for rows 10 to 14"
    ):
        read(open_source(tmp_path / "V.zarr"), [0, 10, 15, 30])


@pytest.mark.parametrize("name", ["data", "indices", "indptr"])
def test_missing_chunks_are_named(name: str, tmp_path: Path) -> None:
    V = sp.csr_array(np.ones((30, 4)))
    write_compressed(tmp_path / "V.zarr", V, 20, indptr_chunk=4)
    missing = "c/0" if name == "indptr" else "c/2"
    os.remove(tmp_path / "V.zarr" / name / missing)
    source = open_source(tmp_path / "V.zarr")
    (block,) = source.read_blocks([0, 30])
    assert source.unstored(0, 30, block) == [f"{name}/{missing}"]
    (block,) = source.read_blocks([20, 30])
    assert source.unstored(20, 30, block) == []


def test_storage_is_asked_about_few_chunks() -> None:
    store = CountingStore(MemoryStore())
    source = open_source(write_compressed(store, _csr(sample_matrix()), 100, indptr_chunk=1000))
    (block,) = source.read_blocks([0, 157])
    store.reset()
    source.unstored(0, 157, block)
    assert store.asked[0] == "indptr/c/0"
    assert not any(key.startswith("data") for key in store.asked)
