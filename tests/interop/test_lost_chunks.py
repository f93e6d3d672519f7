"""Dask and xarray pass on what Zarr reads of a chunk that is gone: it is looked for before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray
import zarr

import dnmf
from dnmf.errors import CorruptDataError
from dnmf.steps.events import Notice

V = np.random.default_rng(0).poisson(3, (40, 20)).astype("f4") + 1
H = np.random.default_rng(1).random((2, 20)).astype("f4") + 0.1
QUICK: dict[str, Any] = {"seed": 0, "max_passes": 2, "n_init": 1}


@pytest.fixture
def path(tmp_path: Path) -> str:
    zarr.create_array(str(tmp_path / "V.zarr"), data=V, chunks=(10, 20))
    return str(tmp_path / "V.zarr")


def lose(path: str) -> None:
    Path(path, "c/2/0").unlink()


GRAPHS = {
    "from_zarr": da.from_zarr,
    "from_array": lambda path: da.from_array(zarr.open(path, mode="r"), chunks=(20, 10)),
    "functions of entries": lambda path: np.log1p(da.from_zarr(path)).astype("f8"),
    "other chunks": lambda path: da.from_zarr(path).rechunk((7, 9)),
    "transposed": lambda path: da.from_zarr(path).T,
    "several of the same shape": lambda path: da.from_zarr(path) + da.from_zarr(path),
}


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_chunk_that_dask_would_read_as_zeros(graph: str, path: str) -> None:
    lazy = GRAPHS[graph](path)
    dnmf.fit(lazy, 2, **QUICK)  # nothing is missing
    lose(path)
    with pytest.raises(CorruptDataError, match=r"1 of 4 chunks of .*V.zarr are missing: c/2/0"):
        dnmf.fit(lazy, 2, **QUICK)


USES = {
    "fit": lambda V, out, **how: dnmf.fit(V, 2, **QUICK, **how),
    "out": lambda V, out, **how: dnmf.fit(V, 2, out=out, **QUICK, **how),
    "study": lambda V, out, **how: dnmf.fit_many(V, [2], 1, holdout=None, max_passes=2, **how),
    "transform": lambda V, out, **how: dnmf.transform(V, H, **how),
    "convert": lambda V, out, **how: dnmf.convert(V, out, **how),
    "estimator": lambda V, out, **how: dnmf.NMF(2, init="random", tol=0, max_iter=2, **how).fit(V),
}


@pytest.mark.parametrize("use", USES)
def test_every_reader_looks_for_lost_chunks_of_lazy_data(
    use: str, path: str, tmp_path: Path
) -> None:
    lazy, out = da.from_zarr(path), tmp_path / "out.zarr"
    lose(path)
    for how in ({}, {"missing_chunks": "error"}):
        with pytest.raises(CorruptDataError, match=r"c/2/0"):
            USES[use](lazy, out, **how)
        assert not out.exists()
    USES[use](lazy, out, missing_chunks="fill")


def test_lost_chunks_of_lazy_weights(path: str) -> None:
    lazy = da.from_zarr(path)
    lose(path)
    with pytest.raises(CorruptDataError, match=r"c/2/0"):
        dnmf.fit(V, 2, weights=lazy, **QUICK)


def test_lost_chunks_of_xarray(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    place = str(tmp_path / "set.zarr")
    array = xarray.DataArray(V, dims=("row", "column"), name="V").chunk(row=10)
    array.to_dataset().to_zarr(place, zarr_format=3, consolidated=False)
    lazy = xarray.open_zarr(place, consolidated=False)["V"]
    dnmf.fit(lazy, 2, **QUICK)
    Path(place, "V/c/2/0").unlink()
    with pytest.raises(CorruptDataError, match=r"c/2/0"):
        dnmf.fit(lazy, 2, **QUICK)


def test_empty_chunks_of_lazy_data_are_told(tmp_path: Path) -> None:
    A = np.repeat(np.random.default_rng(2).random(200) < 0.5, 20).reshape(200, 20).astype("f4")
    zarr.create_array(str(tmp_path / "A.zarr"), data=A, chunks=(2, 20))
    told: list[str] = []

    def listen(event: Any) -> None:
        told.extend([event.text] if isinstance(event, Notice) else [])

    dnmf.fit(da.from_zarr(str(tmp_path / "A.zarr")), 2, **QUICK, on_event=listen)
    assert any("are missing; they count as filled with 0" in text for text in told), told


def test_a_packed_array_that_xarray_decodes(tmp_path: Path) -> None:
    """It is read, and refused where a chunk of it is gone: its zeros tell nothing."""
    V = np.arange(1.0, 241.0).reshape(40, 6)
    packed = {"dtype": "u2", "scale_factor": 0.5, "_FillValue": 65535, "chunks": (10, 6)}
    data = xarray.Dataset({"flux": (("rows", "columns"), V)})
    data.to_zarr(tmp_path / "ds.zarr", encoding={"flux": packed}, zarr_format=3, consolidated=False)

    def decoded() -> xarray.DataArray:
        return xarray.open_zarr(tmp_path / "ds.zarr", consolidated=False)["flux"]

    assert dnmf.fit(decoded(), 2, seed=0, max_passes=2).W.shape == (40, 2)
    (tmp_path / "ds.zarr" / "flux" / "c" / "2" / "0").unlink()
    with pytest.raises(CorruptDataError, match="1 of 4 chunks"):
        dnmf.fit(decoded(), 2, seed=0, max_passes=2)
    dnmf.fit(decoded(), 2, seed=0, max_passes=2, missing_chunks="fill")
