"""Chunks that are gone are missed behind Dask, whatever a Zarr array became a part of."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
import xarray as xr
import zarr

import dnmf
from dnmf.errors import CorruptDataError
from dnmf.testing.layouts import write_compressed

V = np.random.default_rng(0).poisson(3.0, (60, 14)).astype(float) + 1
FIT: dict[str, Any] = {"seed": 0, "max_passes": 2}


def store(folder: Path, lost: str | None = "c/3/0") -> zarr.Array[Any]:
    """Make an array of 6 x 2 chunks of which one is gone, of rows 30 to 39."""
    array = zarr.create_array(folder / "V.zarr", data=V, chunks=(10, 7), overwrite=True)
    if lost:
        (folder / "V.zarr" / lost).unlink()
    return array


def lazy(folder: Path, **options: Any) -> Any:
    return xr.open_zarr(folder / "x.zarr", consolidated=False, **options)["V"]


def in_xarray(folder: Path) -> None:
    made = xr.Dataset({"V": (("row", "column"), V)})
    made.to_zarr(folder / "x.zarr", encoding={"V": {"chunks": (10, 7)}}, consolidated=False)
    shutil.move(folder / "x.zarr" / "V" / "c" / "3" / "0", folder / "lost")


MADE: dict[str, Callable[[zarr.Array[Any]], Any]] = {
    "a slice": lambda z: da.from_zarr(z)[5:45],
    "some columns": lambda z: da.from_array(z, chunks=(20, 14))[:, :5],
    "a stack": lambda z: da.concatenate([da.from_zarr(z), da.ones((10, 14))]),
    "beside": lambda z: da.concatenate([da.from_zarr(z), da.from_zarr(z)], axis=1),
    "picked": lambda z: da.from_zarr(z)[[1, 35, 3]],
    "a function of it": lambda z: da.from_zarr(z)[5:45] * 2 + 1,
    "turned": lambda z: da.from_zarr(z)[5:45].T,
    "beside a mask": lambda z: da.where(da.from_zarr(z)[20:] > 2, 1.0, 0.5),
}


@pytest.mark.parametrize("kind", MADE)
def test_it_is_missed(tmp_path: Path, kind: str) -> None:
    x = MADE[kind](store(tmp_path))
    with pytest.raises(CorruptDataError, match=r"1 of \d+ chunks of .*V.zarr are missing: c/3/0"):
        dnmf.fit(x, 2, **FIT)
    with pytest.raises(CorruptDataError, match="are missing: c/3/0"):
        dnmf.transform(x, np.ones((1, x.shape[1])))
    with pytest.raises(CorruptDataError, match="are missing: c/3/0"):
        dnmf.convert(x, tmp_path / "out.zarr")
    assert dnmf.fit(x, 2, missing_chunks="fill", **FIT).H.shape == (2, x.shape[1])


@pytest.mark.parametrize("take", [slice(0, 30), slice(40, 60)])
def test_of_a_slice_only_its_own_chunks_count(tmp_path: Path, take: slice) -> None:
    x = da.from_zarr(store(tmp_path))[take]
    want = dnmf.fit(V[take], 2, **FIT).H
    np.testing.assert_allclose(dnmf.fit(x, 2, **FIT).H, want, rtol=1e-6)


@pytest.mark.parametrize("take", [slice(0, 30), slice(40, 60)])
def test_of_a_function_of_a_slice_too(tmp_path: Path, take: slice) -> None:
    """Whose tasks Dask fuses into one."""
    x = (da.from_zarr(store(tmp_path)) * 2)[take]
    want = dnmf.fit(2 * V[take], 2, **FIT).H
    np.testing.assert_allclose(dnmf.fit(x, 2, **FIT).H, want, rtol=1e-6)


@pytest.mark.parametrize("inline", [False, True])
def test_each_reader_of_an_array_counts(tmp_path: Path, inline: bool) -> None:
    """One that is understood does not hide another one."""
    z = store(tmp_path)
    plain = da.from_array(z, chunks=(10, 14), inline_array=inline)
    picked = da.from_delayed(dask.delayed(lambda a: a[25:45])(z), (20, 14), dtype=float)
    for x in (
        da.concatenate([plain[:10], (plain * 2)[28:45]]),
        da.concatenate([plain[:10], picked]),
    ):
        with pytest.raises(CorruptDataError, match=r"are missing: c/3/0"):
            dnmf.fit(x, 2, **FIT)


def test_they_are_counted_among_those_that_are_read(tmp_path: Path) -> None:
    x = da.from_zarr(store(tmp_path))[30:50]
    with pytest.raises(CorruptDataError, match="1 of 4 chunks"):
        dnmf.fit(x, 2, **FIT)


@pytest.mark.parametrize("chunks", [None, {}])
def test_slices_of_xarray(tmp_path: Path, chunks: Any) -> None:
    in_xarray(tmp_path)
    with pytest.raises(CorruptDataError, match=r"1 of \d+ chunks"):
        dnmf.fit(lazy(tmp_path, chunks=chunks)[25:45], 2, **FIT)
    if chunks is not None:
        assert dnmf.fit(lazy(tmp_path, chunks=chunks)[40:], 2, **FIT).W.shape == (20, 2)


@pytest.mark.parametrize("part", ["data", "indices"])
def test_sparse_matrices_that_anndata_left_on_storage(tmp_path: Path, part: str) -> None:
    write_compressed(tmp_path / "X.zarr", sp.csr_array(V), 50)
    group = zarr.open_group(tmp_path / "X.zarr", mode="r")
    x = anndata.experimental.read_elem_lazy(group)
    assert dnmf.fit(x, 2, **FIT).H.shape == (2, 14)
    next((tmp_path / "X.zarr" / part).rglob("c/3")).unlink()
    with pytest.raises(CorruptDataError, match=rf"1 of \d+ chunks .*{part}/c/3"):
        dnmf.fit(x, 2, **FIT)


def test_a_vector_that_scales_it(tmp_path: Path) -> None:
    sizes = zarr.create_array(tmp_path / "sizes.zarr", data=V.sum(1), chunks=(10,))
    (tmp_path / "sizes.zarr" / "c" / "2").unlink()
    x = da.from_array(V, chunks=(10, 14)) / (1 + da.from_zarr(sizes)[:, None])
    with pytest.raises(CorruptDataError, match=r"1 of 6 chunks of .*sizes.zarr are missing"):
        dnmf.fit(x, 2, **FIT)


def test_a_resumed_run_looks_again(tmp_path: Path) -> None:
    array = store(tmp_path, lost=None)
    x = da.from_zarr(array)[5:45]
    out = tmp_path / "out.zarr"

    def stop(event: Any) -> None:
        if type(event).__name__ == "Committed" and event.kind == "pass":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dnmf.fit(x, 2, out=out, on_event=stop, seed=0)
    (tmp_path / "V.zarr" / "c/3/0").unlink()
    with pytest.raises(CorruptDataError, match="are missing: c/3/0"):
        dnmf.fit(x, 2, out=out, resume=True, seed=0)
    store(tmp_path, lost=None)
    assert dnmf.fit(x, 2, out=out, resume=True, seed=0).H.shape == (2, 14)
