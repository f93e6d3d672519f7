"""Stores and files that are valid and unusual."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import zarr

import dnmf
from dnmf.errors import CorruptDataError, InputError, OptionError
from dnmf.sources import from_spec, open_source

D = np.random.default_rng(0).random((40, 12))


def compressed(path: Path, S, encoding: str, chunk: int = 3) -> str:
    group = zarr.create_group(path)
    group.attrs.update(
        {"encoding-type": encoding, "encoding-version": "0.1.0", "shape": list(S.shape)}
    )
    for name in ("data", "indices", "indptr"):
        group.create_array(name, data=getattr(S, name), chunks=(chunk,))
    return str(path)


def twice(dtype, first=200, second=100):
    return sp.csr_array(
        (np.array([first, second, 1], dtype), np.array([1, 1, 0]), np.array([0, 2, 3])), (2, 3)
    )


def whole(source) -> np.ndarray:
    (block,) = source.read_blocks([0, source.shape[0]])
    return block.toarray() if sp.issparse(block) else block


@pytest.mark.parametrize("kind", ["csr in Zarr", "csr", "coo", "coo in npz"])
def test_entries_of_one_place_add_up_or_are_refused(tmp_path, kind):
    def opened(S):
        name = tmp_path / str(len(os.listdir(tmp_path)))
        if kind == "csr in Zarr":
            return dnmf.convert(compressed(name, S, "csr_matrix"), f"{name}-out", to="dense")
        if kind == "csr":
            return dnmf.convert(S, f"{name}-out", to="dense")
        coo = sp.coo_array(
            (S.data, (np.repeat(np.arange(2), np.diff(S.indptr)), S.indices)), (2, 3)
        )
        if kind == "coo":
            return dnmf.convert(coo, f"{name}-out", to="dense")
        sp.save_npz(f"{name}.npz", coo)
        return dnmf.convert(f"{name}.npz", f"{name}-out", to="dense")

    for dtype in ("u1", "i2", "f4"):
        found = zarr.open_array(opened(twice(dtype, 50, 60)).path)
        assert found.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(found[:], [[0, 110, 0], [1, 0, 0]])
    with pytest.raises(InputError, match=r"row 0, column 1 .* add up to 300, which uint8"):
        opened(twice("u1"))
    np.testing.assert_array_equal(zarr.open_array(opened(twice("u2")).path)[0], [0, 300, 0])


def test_unsorted_whole_numbers_without_duplicates_keep_their_values(tmp_path):
    S = sp.csr_array(
        (np.array([255, 254, 3], "u1"), np.array([2, 0, 1]), np.array([0, 2, 3])), (2, 3)
    )
    found = whole(open_source(compressed(tmp_path / "S.zarr", S, "csr_matrix")))
    np.testing.assert_array_equal(found, [[254, 0, 255], [0, 3, 0]])


def test_errors_of_csc_name_columns_columns(tmp_path):
    S = sp.random_array((37, 23), density=0.3, rng=np.random.default_rng(1), format="csc")
    S.indices[S.indptr[4]] = 99
    path = compressed(tmp_path / "c.zarr", S, "csc_matrix", 7)
    with pytest.raises(CorruptDataError, match="row index 99 in column 4, but there are 37 rows"):
        dnmf.fit(path, 2)
    S = sp.csc_array(np.eye(4))
    S.indptr[2] = 0
    with pytest.raises(CorruptDataError, match="at column 1"):
        dnmf.fit(compressed(tmp_path / "d.zarr", S, "csc_matrix", 7), 2)


def test_what_a_link_leads_to_is_not_replaced(tmp_path):
    group = zarr.create_group(tmp_path / "real.zarr")
    for name in ("V", "precious"):
        group.create_array(name, data=D, chunks=(9, 9))
    os.symlink("real.zarr", tmp_path / "alias.zarr")
    np.savez(tmp_path / "real.zarr" / "raw.npz", V=D)
    for source in ("real.zarr/V", "alias.zarr/V", "real.zarr/raw.npz", "alias.zarr/raw.npz"):
        with pytest.raises(OptionError, match="lie within each other"):
            dnmf.convert(tmp_path / source, tmp_path / "real.zarr", overwrite=True)
    assert zarr.open_array(tmp_path / "real.zarr/precious").shape == D.shape
    assert (tmp_path / "real.zarr" / "raw.npz").is_file()


def test_npz_members_of_the_same_last_name_are_two(tmp_path):
    np.savez(tmp_path / "c.npz", **{"train/V": np.zeros((3, 2)), "test/V": np.ones((4, 5))})
    with pytest.raises(InputError, match="has 2 two-dimensional arrays"):
        dnmf.convert(tmp_path / "c.npz", tmp_path / "c.zarr")


@pytest.mark.parametrize("layout", ["csr", "csc"])
def test_npz_with_room_to_spare(tmp_path, layout):
    X = sp.csr_array(np.diag([1.0, 2.0, 3.0])).asformat(layout)
    X.data, X.indices = np.append(X.data, 9.0), np.append(X.indices, 0).astype("i4")
    sp.save_npz(tmp_path / "X.npz", X)
    dnmf.convert(tmp_path / "X.npz", tmp_path / "X.zarr", to="dense")
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "X.zarr")[:], np.diag([1, 2, 3]))


@pytest.mark.parametrize("layout", ["coo", "csc", "dia"])  # SciPy reads no such bsr
@pytest.mark.parametrize("dtype", [">f8", ">f4", ">i2"])
def test_npz_of_the_other_byte_order(tmp_path, layout, dtype):
    X = sp.csr_array(np.diag([1.0, 2.0, 3.0, 4.0])).asformat(layout)
    sp.save_npz(tmp_path / "X.npz", X)
    with np.load(tmp_path / "X.npz", allow_pickle=False) as file:
        parts = dict(file)
    parts["data"] = parts["data"].astype(dtype)
    np.savez(tmp_path / "Y.npz", **parts)
    dnmf.convert(tmp_path / "Y.npz", tmp_path / "Y.zarr", to="dense")
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "Y.zarr")[:], np.diag([1, 2, 3, 4]))


def test_names_of_local_files(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save(tmp_path / "h.npy", D)
    os.rename(tmp_path / "h.npy", tmp_path / "H.NPY")
    np.savez(tmp_path / "h.npz", V=D)
    for name in ("~/H.NPY", f"file://{tmp_path}/H.NPY", "~/h.npz", f"file://{tmp_path}/h.npz"):
        found = dnmf.convert(name, tmp_path / "out.zarr", overwrite=True)
        assert found.shape == D.shape


def test_a_memory_map_whose_file_was_replaced(tmp_path):
    np.save(tmp_path / "m.npy", np.ones((5, 4)))
    mapped = np.load(tmp_path / "m.npy", mmap_mode="r")
    assert open_source(mapped[1:3]).persistent
    np.save(tmp_path / "t.npy", np.full((5, 4), 7.0))
    os.replace(tmp_path / "t.npy", tmp_path / "m.npy")
    assert (whole(open_source(mapped)) == 1).all()


def test_a_missing_npy_file_is_said_to_be_missing(tmp_path):
    np.save(tmp_path / "v.npy", D)
    spec = open_source(tmp_path / "v.npy").spec()
    os.rename(tmp_path / "v.npy", tmp_path / "w.npy")
    with pytest.raises(InputError, match="is no longer there"):
        from_spec(spec)


def test_nodes_behind_chained_urls_have_no_url_of_their_own(tmp_path):
    with zarr.storage.ZipStore(tmp_path / "z.zip", mode="w") as store:
        zarr.create_array(store, data=D, chunks=(9, 9), name="V")
    url = f"zip://V::{tmp_path}/z.zip"
    named = open_source(url)
    np.testing.assert_array_equal(whole(from_spec(named.spec())), D)
    node = open_source(zarr.open(url, mode="r"))
    assert not node.persistent
    np.testing.assert_array_equal(whole(node), D)
    assert dnmf.fit(zarr.open(url, mode="r"), 2, seed=0).shape == D.shape
