"""Attributes by which stored numbers mean others are refused, and the way that is named works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import scipy.sparse as sp
import xarray
import zarr
from click.testing import CliRunner

import dnmf
from dnmf.cli.main import cli
from dnmf.errors import InputError
from dnmf.interop import as_source
from dnmf.sources import open_source
from dnmf.sources.packing import packing
from dnmf.testing.layouts import write_compressed
from dnmf.testing.source_contract import read

rng = np.random.default_rng(0)
A = np.round(rng.gamma(1, size=(30, 3)) @ rng.gamma(1, size=(3, 12)) + 0.5, 2)
HOLE = A.copy()
HOLE[5, 7] = np.nan

PACKED: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "scale": (A, {"dtype": "u2", "scale_factor": 0.01, "_FillValue": 65535}),
    "offset": (A, {"dtype": "f4", "add_offset": -5.0}),
    "scale, offset and missing": (
        HOLE,
        {"dtype": "i2", "scale_factor": 0.01, "add_offset": 0.5, "_FillValue": -1},
    ),
    "missing only": (HOLE, {"dtype": "f4", "_FillValue": 9999.0}),
    "missing by its older name": (HOLE, {"dtype": "f8", "missing_value": 9999.0}),
    "unsigned": (np.minimum(np.round(A * 6 + 120), 250), {"dtype": "i1", "_Unsigned": "true"}),
}


def stored(path: Path, version: int, V: np.ndarray, encoding: dict[str, Any]) -> str:
    """Write V packed, as xarray does, and return its path."""
    given = xarray.DataArray(V, dims=("t", "x"))
    if "_Unsigned" in encoding:  # xarray would write another dtype
        given = xarray.DataArray(V.astype("u1").view("i1"), dims=("t", "x"))
        given.attrs, encoding = {"_Unsigned": "true"}, {}
    given.to_dataset(name="flux").to_zarr(
        path, zarr_format=version, consolidated=False, encoding={"flux": encoding}
    )
    return f"{path}/flux"


def way(message: str) -> Any:
    """Evaluate the way that an error names."""
    assigned = re.search(r"x = (dask\S+), then (.*?)[.;] (?:dnmf|entries)", message)
    if assigned:
        x = eval(assigned[1], {"dask": dask})
        return eval(assigned[2], {"dask": dask, "numpy": np, "x": x})
    return eval(re.search(r"xarray\.open_zarr\(.*?\)\['\w+'\]", message)[0], {"xarray": xarray})


@pytest.mark.filterwarnings("ignore:Failed to open Zarr store with consolidated")
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("name", PACKED)
def test_packed_by_xarray(tmp_path: Path, name: str, version: int) -> None:
    V, encoding = PACKED[name]
    path = stored(tmp_path / "ds.zarr", version, V, encoding)
    want = xarray.open_zarr(tmp_path / "ds.zarr", consolidated=False)["flux"].to_numpy()
    raw = zarr.open_array(path, mode="r")[:]
    assert not np.array_equal(raw, want)
    for given in (path, zarr.open_array(path, mode="r"), Path(path)):
        with pytest.raises(InputError, match="is packed: by its attributes") as error:
            open_source(given)
    decoded = way(str(error.value))
    np.testing.assert_allclose(read(as_source(decoded)), want, rtol=1e-6)
    dnmf.convert(decoded, tmp_path / "plain.zarr")
    np.testing.assert_allclose(read(open_source(tmp_path / "plain.zarr")), want, rtol=1e-6)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("name", ["scale", "offset", "missing by its older name", "unsigned"])
def test_packed_without_names(tmp_path: Path, name: str, version: int) -> None:
    """What xarray cannot open is decoded by Dask."""
    V, encoding = PACKED[name]
    path = stored(tmp_path / "ds.zarr", 3, V, encoding)
    want = xarray.open_zarr(tmp_path / "ds.zarr", consolidated=False)["flux"].to_numpy()
    found = zarr.open_array(path, mode="r")
    bare = zarr.create_array(tmp_path / "bare.zarr", data=found[:], zarr_format=version)
    bare.attrs.update(found.attrs.asdict())
    with pytest.raises(InputError, match="Decode them with Dask") as error:
        open_source(bare)
    np.testing.assert_allclose(read(as_source(way(str(error.value)))), want, rtol=1e-6)


def test_everywhere(tmp_path: Path) -> None:
    path = stored(tmp_path / "ds.zarr", 3, *PACKED["scale"])
    rows = stored(tmp_path / "rows.zarr", 3, A[:2], PACKED["scale"][1])
    array, H = zarr.open_array(rows, mode="r"), rng.random((3, 12))
    raw = xarray.open_zarr(tmp_path / "rows.zarr", mask_and_scale=False, consolidated=False)["flux"]
    fit = dnmf.fit(A, k=3, seed=0)
    for call in (
        lambda: dnmf.fit(path, k=2),
        lambda: dnmf.fit(A, k=2, weights=path),
        lambda: dnmf.fit_many(path, [1, 2]),
        lambda: dnmf.transform(path, fit.H),
        lambda: dnmf.convert(path, tmp_path / "out.zarr"),
        lambda: dnmf.NMF(2).fit(zarr.open_array(path, mode="r")),
        lambda: dnmf.fit(A, k=3, fixed_H=array),
        lambda: dnmf.fit(A, init=array),
        lambda: dnmf.fit(A, init=raw),
        lambda: dnmf.fit(A, k=3, init=H, init_W=raw.T),
        lambda: dnmf.fit(raw, k=2),
    ):
        with pytest.raises(InputError, match=r"packed: by its attributes .*scale_factor=0\.01"):
            call()
    assert not (tmp_path / "out.zarr").exists()
    plain = str(tmp_path / "A.npy")
    np.save(plain, A)
    for args in ([path], [plain, "--weights", path], [plain, "--fixed-H", rows]):
        command = ["fit", *args, "-k", "3", "--out", str(tmp_path / "out")]
        told = CliRunner().invoke(cli, command)
        assert told.exit_code
        assert "is packed" in told.output


def test_xarray_names_what_decodes(tmp_path: Path) -> None:
    stored(tmp_path / "ds.zarr", 3, *PACKED["scale, offset and missing"])
    x = xarray.open_zarr(tmp_path / "ds.zarr", mask_and_scale=False, consolidated=False)["flux"]
    with pytest.raises(InputError, match="the xarray DataArray is packed") as error:
        as_source(x)
    said = re.search(r"(xarray\.decode_cf.*?) does for", str(error.value))[1]
    decoded = eval(said, {"xarray": xarray, "x": x})
    np.testing.assert_allclose(read(as_source(decoded)), HOLE, rtol=1e-6)
    np.testing.assert_array_equal(read(as_source(x.drop_attrs())), x.to_numpy())


@pytest.mark.parametrize("part", ["data", "indices", "indptr"])
@pytest.mark.parametrize("layout", ["csr", "csc"])
def test_parts_of_sparse_matrices(tmp_path: Path, layout: str, part: str) -> None:
    write_compressed(tmp_path / "V.zarr", sp.csr_array(A).asformat(layout), 8)
    zarr.open_array(tmp_path / "V.zarr" / part, mode="a").attrs["add_offset"] = 1
    with pytest.raises(InputError, match=f"{part} is packed.*read it, apply them to its data"):
        open_source(tmp_path / "V.zarr")


def test_fill_values_of_the_old_format(tmp_path: Path) -> None:
    """xarray writes ``_FillValue`` as Zarr's; without xarray's names it is Zarr's alone."""
    path = stored(tmp_path / "ds.zarr", 2, HOLE, {"dtype": "f4", "_FillValue": 9999.0})
    assert "_FillValue" not in zarr.open_array(path).attrs
    with pytest.raises(InputError, match=r"\(fill_value=9999\.0\)"):
        open_source(path)
    del zarr.open_array(path, mode="a").attrs["_ARRAY_DIMENSIONS"]
    assert read(open_source(path)).max() == 9999


@pytest.mark.parametrize(
    ("attributes", "dtype", "fill"),
    [
        ({}, "f4", 0),
        ({"scale_factor": 1.0, "add_offset": [0.0]}, "u2", 0),
        ({"scale_factor": None, "units": "m"}, "u2", 0),
        ({"_FillValue": "NaN", "missing_value": float("nan")}, "f4", 0),
        ({"_FillValue": "AAAAAAAA+H8="}, "f8", 0),  # NaN, as xarray writes it
        ({"_FillValue": 0}, "u2", 0),
        ({"missing_value": -9999}, "u1", 0),  # no such number
        ({"_FillValue": 0.5}, "i4", 0),
        ({"_Unsigned": "true"}, "u1", 0),
        ({"_Unsigned": "false"}, "i1", 0),
    ],
)
def test_attributes_that_change_nothing(attributes: Any, dtype: str, fill: Any) -> None:
    assert packing(attributes, np.dtype(dtype), fill) == {}


@pytest.mark.parametrize(
    ("attributes", "dtype", "fill"),
    [
        ({"scale_factor": "0.1"}, "u2", 0),
        ({"scale_factor": [0.1]}, "u2", 0),
        ({"scale_factor": "log"}, "u2", 0),
        ({"add_offset": 3}, "f8", 0),
        ({"_FillValue": "AAAAAICHw8A="}, "f4", 0),  # -9999, as xarray writes it
        ({"missing_value": [1, -2]}, "i2", 0),
        ({"_FillValue": 255}, "i1", 0),  # -1, as unsigned
        ({"_FillValue": 65535}, "u2", 65535),
        ({"_FillValue": 0}, "u2", 7),
        ({"_Unsigned": True}, "i1", 0),
        ({"_Unsigned": "False"}, "u1", 0),
    ],
)
def test_attributes_that_do(attributes: Any, dtype: str, fill: Any) -> None:
    assert list(packing(attributes, np.dtype(dtype), fill)) == list(attributes)
