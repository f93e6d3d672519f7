"""Zarr in a zip file opens by its path, in this process and in others."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import zarr

import dnmf
from dnmf.errors import InputError
from dnmf.sources import from_spec, open_source
from dnmf.testing.layouts import write_compressed
from dnmf.testing.source_contract import as_dense, read

A = np.random.default_rng(0).poisson(1.0, (60, 14)).astype(float)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make zips of an array, and of a group: what is in its folder, and the folder itself."""
    with zarr.storage.ZipStore(tmp_path / "x.zarr.zip", mode="w") as store:
        zarr.create_array(store, data=A, chunks=(10, 14))
    zarr.create_group(tmp_path / "g.zarr").create_array("flux", data=A, chunks=(7, 5))
    write_compressed(tmp_path / "g.zarr" / "X", sp.csr_array(A), 50)
    shutil.make_archive(str(tmp_path / "inside"), "zip", tmp_path / "g.zarr")
    shutil.make_archive(str(tmp_path / "whole"), "zip", tmp_path, "g.zarr")
    shutil.rmtree(tmp_path / "g.zarr")
    return tmp_path


PATHS = ["x.zarr.zip", "inside.zip/flux", "whole.zip/flux", "inside.zip/X", "whole.zip/X"]


@pytest.mark.parametrize("path", PATHS)
def test_read(folder: Path, path: str) -> None:
    source = open_source(folder / path)
    np.testing.assert_array_equal(as_dense(read(source)), A)
    assert source.persistent
    np.testing.assert_array_equal(as_dense(read(from_spec(source.spec()))), A)
    assert source.paths() == [str(folder / path)]


@pytest.mark.parametrize("path", PATHS[:2])
def test_fits(folder: Path, path: str) -> None:
    want = dnmf.fit(A, 2, seed=0, max_passes=5)
    found = dnmf.fit(folder / path, 2, seed=0, max_passes=5, out=folder / "out.zarr")
    np.testing.assert_allclose(found.H, want.H, rtol=1e-6)
    W = dnmf.transform(folder / path, found)
    np.testing.assert_allclose(W, dnmf.transform(A, found), rtol=1e-6)
    dnmf.convert(folder / path, folder / "plain.zarr")
    np.testing.assert_array_equal(read(open_source(folder / "plain.zarr")), A)


def test_urls_of_zips(folder: Path) -> None:
    np.testing.assert_array_equal(read(open_source(f"zip://flux::{folder}/inside.zip")), A)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("inside.zip", "is a Zarr group, not a matrix. Its arrays: X .*flux"),
        ("inside.zip/nothing", "does not exist. .*inside.zip is a Zarr group"),
        ("x.zarr.zip/a/b", "does not exist"),
        ("other.zip", "other.zip holds no Zarr array or group, neither at its root"),
        ("broken.zip", "broken.zip is no zip file that can be read"),
        ("none.zip", "none.zip does not exist"),
    ],
)
def test_refused(folder: Path, path: str, text: str) -> None:
    (folder / "other").mkdir()
    (folder / "other" / "a.txt").write_text("x")
    shutil.make_archive(str(folder / "other"), "zip", folder / "other")
    (folder / "broken.zip").write_text("no zip")
    with pytest.raises(InputError, match=text):
        open_source(folder / path)
