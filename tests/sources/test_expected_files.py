"""Files that will be read soon are asked for; what is read does not depend on it."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

from dnmf.sources import forward, open_source, stored
from dnmf.sources.stored import expect_files


def resident(path: Path) -> float:
    """The share of a file's pages that are in the page cache (Linux's mincore)."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        view = np.frombuffer(mapped, np.uint8)
        pages = -(-view.size // mmap.PAGESIZE)
        found = (ctypes.c_ubyte * pages)()
        libc = ctypes.CDLL(None, use_errno=True)
        address = ctypes.c_void_p(view.ctypes.data)
        failed = libc.mincore(address, ctypes.c_size_t(view.size), found)
        del view
        assert not failed, os.strerror(ctypes.get_errno())
    return sum(byte & 1 for byte in found) / pages


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for its page cache")
def test_a_file_that_is_expected_comes_into_the_page_cache(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(8 << 20))
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if resident(path) > 0:
        pytest.skip("this file system keeps its files in memory")
    expect_files([str(path)])
    end = time.monotonic() + 20
    while resident(path) < 1 and time.monotonic() < end:
        time.sleep(0.01)
    assert resident(path) == 1


def test_what_is_missing_or_no_file_is_passed_over(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    expect_files([str(tmp_path / "none"), str(tmp_path), str(tmp_path / "pipe")])
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.fixture
def asked(monkeypatch):
    names: list[str] = []
    monkeypatch.setattr(stored, "expect_files", lambda paths: names.extend(paths))
    return names


def matrix(path, rows=20, chunks=(2, 3), shards=None):
    V = np.random.default_rng(0).random((rows, 5), dtype="f4")
    zarr.create_array(path, data=V, chunks=chunks, shards=shards)
    return V


@pytest.mark.parametrize("shards", [None, (4, 6)])
def test_the_next_stretches_are_expected_once_and_nothing_behind_the_last(
    tmp_path, asked, monkeypatch, shards
):
    monkeypatch.setattr(stored, "EXPECTED", 1)
    path = tmp_path / "V.zarr"
    V = matrix(path, shards=shards)
    starts = [4, 8, 12, 16]
    blocks = open_source(str(path)).read_blocks(starts)
    seen = [next(blocks)]
    height, width = shards or (2, 3)
    columns = range(-(-5 // width))
    first = {str(path / f"c/{i}/{j}") for i in range(8 // height, 16 // height) for j in columns}
    assert forward.AHEAD == 2
    assert set(asked) == first
    seen += blocks
    assert sorted(asked) == sorted(first)
    np.testing.assert_array_equal(np.concatenate(seen), V[4:16])


def test_small_chunks_and_other_stores_are_not_expected(tmp_path, asked):
    matrix(tmp_path / "V.zarr")
    store = zarr.storage.MemoryStore()
    V = np.zeros((4000, 200))
    zarr.create_array(store, data=V, chunks=(1000, 200), compressors=None)
    for source in (open_source(str(tmp_path / "V.zarr")), open_source(zarr.open(store))):
        assert len(list(source.read_blocks([0, 4, source.shape[0]]))) == 2
    assert asked == []
