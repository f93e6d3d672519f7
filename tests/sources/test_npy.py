"""``.npy`` files and memory maps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from dnmf.errors import CorruptDataError, InputError
from dnmf.sources import Source, open_source
from dnmf.testing.source_contract import SourceContract, read, sample_matrix


def _save(folder: Path, V: np.ndarray) -> str:
    folder.mkdir(exist_ok=True)
    np.save(folder / "V.npy", V)
    return str(folder / "V.npy")


class TestNpy(SourceContract):
    kind = "npy"
    dtypes = ("float32", "float16", "float64", "bool", "int8", "uint16", "int64", ">f8")
    block_dtypes: ClassVar = {">f8": "float64"}
    transposes = True

    def make(self, V: np.ndarray, folder: Path) -> Source:
        return open_source(_save(folder, V))


class TestColumnMajorNpy(SourceContract):
    kind = "npy"
    dtypes = ("float32", ">f8")
    block_dtypes: ClassVar = {">f8": "float64"}
    transposes = True

    def make(self, V: np.ndarray, folder: Path) -> Source:
        return open_source(_save(folder, np.asfortranarray(V)))


class TestMemmap(SourceContract):
    """The first rows of a map are those of a larger file."""

    kind = "npy"
    dtypes = ("float32",)
    transposes = True

    def make(self, V: np.ndarray, folder: Path) -> Source:
        path = _save(folder, np.concatenate([np.ones((3, V.shape[1]), V.dtype), V]))
        return open_source(np.load(path, mmap_mode="r")[3:])


def test_views_of_maps(tmp_path: Path) -> None:
    V = sample_matrix()
    path = _save(tmp_path, V)
    mapped = np.load(path, mmap_mode="r")
    for view, expected in ((mapped, V), (mapped.T, V.T), (mapped[10:20], V[10:20])):
        source = open_source(view)
        assert source.kind == "npy"
        np.testing.assert_array_equal(read(source), expected)
    for view, expected in ((mapped[:, 3:9], V[:, 3:9]), (mapped[::2], V[::2])):
        source = open_source(view)
        assert source.kind == "array"  # no consecutive bytes of the file
        np.testing.assert_array_equal(read(source), expected)


def test_copy_on_write_maps_are_not_the_file(tmp_path: Path) -> None:
    mapped = np.load(_save(tmp_path, sample_matrix()), mmap_mode="c")
    mapped[0, 0] = 77
    source = open_source(mapped)
    assert not source.persistent
    assert read(source)[0, 0] == 77


def test_raw_maps(tmp_path: Path) -> None:
    V = sample_matrix()
    mapped = np.memmap(tmp_path / "raw", np.float32, "w+", offset=128, shape=V.shape)
    mapped[:] = V
    source = open_source(mapped)
    assert source.persistent
    np.testing.assert_array_equal(read(source), V)
    del mapped
    np.testing.assert_array_equal(read(source), V)


def test_deleted_maps_are_read_from_memory(tmp_path: Path) -> None:
    path = _save(tmp_path, sample_matrix())
    mapped = np.load(path, mmap_mode="r")
    os.remove(path)
    np.testing.assert_array_equal(read(open_source(mapped)), sample_matrix())


def test_relative_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _save(tmp_path, sample_matrix())
    monkeypatch.chdir(tmp_path)
    assert open_source("V.npy").spec()["path"] == path


@pytest.mark.parametrize(
    ("V", "message"),
    [
        (np.ones(5), "has 1 dimension"),
        (np.ones((0, 5)), "no rows"),
        (np.ones((2, 2), complex), "complex128"),
        (np.array([[None]]), "object"),
    ],
)
def test_bad_input(V: np.ndarray, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        open_source(_save(tmp_path, V))


def test_truncated(tmp_path: Path) -> None:
    path = _save(tmp_path, sample_matrix())
    source = open_source(path)
    os.truncate(path, 5000)
    with pytest.raises(CorruptDataError, match="is truncated: it has 5000 bytes"):
        open_source(path)
    with pytest.raises(CorruptDataError, match="is truncated: it has 5000 bytes"):
        read(source)
    os.truncate(path, 3)
    with pytest.raises(CorruptDataError, match=r"not a valid \.npy file"):
        open_source(path)


def test_vanished(tmp_path: Path) -> None:
    path = _save(tmp_path, sample_matrix())
    source = open_source(path)
    os.remove(path)
    with pytest.raises(CorruptDataError, match="No such file"):
        read(source)
    with pytest.raises(InputError, match="does not exist"):
        open_source(path)
