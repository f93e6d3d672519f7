"""Matrices inside objects of other libraries."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import xarray as xr
import zarr

from dnmf.errors import DnmfError, InputError
from dnmf.interop import as_source, objects
from dnmf.testing.layouts import write_compressed, write_dense
from dnmf.testing.source_contract import read, sample_matrix

V = sample_matrix("float32")
S = sp.csr_array(V)


def annotated(X: Any) -> anndata.AnnData:
    return anndata.AnnData(X)


def frame() -> pd.DataFrame:
    return pd.DataFrame(V.copy())


def sparse_frame() -> pd.DataFrame:
    return pd.DataFrame.sparse.from_spmatrix(S)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: xr.DataArray(V, dims=("cell", "gene")), "array"),
        (lambda: xr.Variable(("cell", "gene"), V), "array"),
        (lambda: xr.DataArray(V).chunk({"dim_0": 31}), "dask"),
        (lambda: annotated(V.copy()), "array"),
        (lambda: annotated(S), "sparse"),
        (lambda: annotated(sp.csr_matrix(S)), "sparse"),
        (lambda: annotated(S.tocsc()), "sparse"),
        (lambda: annotated(da.from_array(V, chunks=40)), "dask"),
        (lambda: annotated(da.from_array(V, chunks=40).map_blocks(sp.csr_matrix)), "dask"),
        (frame, "array"),
        (lambda: frame().astype("Int64"), "array"),
        (sparse_frame, "sparse"),
    ],
)
def test_read_as_what_they_hold(make: Callable[[], Any], kind: str) -> None:
    source = as_source(make())
    assert source.kind == kind
    np.testing.assert_array_equal(read(source), V)


@pytest.mark.parametrize("X", [V.copy(), S, da.from_array(V, chunks=40)])
def test_views_of_annotated_data(X: Any) -> None:
    """AnnData's classes for views are subclasses, with AnnData's name."""
    part = annotated(X)[20:90]
    assert type(part.X).__module__.startswith("anndata")
    for given in (part, part.X):
        np.testing.assert_array_equal(read(as_source(given)), V[20:90])


def test_layers_and_missing_x() -> None:
    data = anndata.AnnData(shape=V.shape, layers={"counts": S})
    with pytest.raises(InputError, match=r"without X.*\(counts\)"):
        as_source(data)
    np.testing.assert_array_equal(read(as_source(data.layers["counts"])), V)
    whole = annotated(S)
    whole.raw = whole
    np.testing.assert_array_equal(read(as_source(whole.raw)), V)


def test_annotated_data_that_stayed_in_zarr(tmp_path: Path) -> None:
    write_compressed(tmp_path / "X.zarr", S, 100)
    lazy = anndata.io.sparse_dataset(zarr.open_group(tmp_path / "X.zarr", mode="r"))
    for given in (lazy, annotated(lazy)):
        source = as_source(given)
        assert source.kind == "zarr_csr"
        assert source.persistent
        np.testing.assert_array_equal(read(source), V)


@pytest.mark.parametrize("chunks", [None, {}])
def test_xarray_of_a_store_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunks: Any
) -> None:
    write_dense(tmp_path / "a.zarr", V, (40, 43), path="V", dimension_names=("row", "column"))
    lazy = xr.open_zarr(tmp_path / "a.zarr", chunks=chunks, consolidated=False)["V"]
    monkeypatch.setattr(objects, "CHUNK", 2 * 40 * 43 * 4)
    source = as_source(lazy)
    assert source.kind == "dask"
    assert (
        source.block_starts(1, 4, 1).tolist() == [0, 80, 157]
        if chunks is None
        else [0, 40, 80, 120, 157]
    )
    np.testing.assert_array_equal(read(source), V)
    assert not lazy.variable._in_memory


def test_nullable_columns() -> None:
    numbers = pd.DataFrame(
        {
            "a": pd.array([1, 2, 3], dtype="Int64"),
            "b": [0.5, 1.5, 2.5],
            "c": pd.array([True, False, True], dtype="boolean"),
            "d": pd.arrays.SparseArray([0, 0, 7]),
        }
    )
    expected = [[1, 0.5, 1, 0], [2, 1.5, 0, 0], [3, 2.5, 1, 7]]
    np.testing.assert_array_equal(read(as_source(numbers)), expected)
    numbers.loc[1, "a"] = pd.NA
    found = read(as_source(numbers))
    assert np.isnan(found[1, 0])
    assert np.isnan(found).sum() == 1


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (xr.Dataset({"counts": ("x", [1])}), r"xarray Dataset.*V\['name'\].*counts"),
        (xr.DataArray([1.0, 2.0]), "1 dimension "),
        (pd.Series([1.0]), "pandas Series"),
        (pd.DataFrame({"a": [1], "b": ["x"], "c": pd.to_datetime(["2020"])}), "'b'.*'c'"),
        (pd.DataFrame({"a": [1j]}), "complex"),
        (pd.DataFrame(), "no rows"),
        (pd.DataFrame({f"c{i}": ["x"] for i in range(13)}), "and 3 more"),
        ([[1.0, 2.0]], "list"),
        (None, "NoneType"),
    ],
)
def test_refused(given: Any, text: str) -> None:
    with pytest.raises(DnmfError, match=text):
        as_source(given)


def test_dask_bags_are_refused() -> None:
    from dask import bag, delayed

    for given in (bag.from_sequence([1]), delayed(V)):
        with pytest.raises(InputError, match=r"give a dask\.array"):
            as_source(given)


def test_no_library_is_imported_for_it() -> None:
    program = (
        "import sys, numpy, scipy.sparse as sp; from dnmf.interop import as_source;"
        "as_source(numpy.eye(3)); as_source(sp.eye_array(3, format='csr'));"
        "print([n for n in ('dask', 'xarray', 'pandas', 'anndata', 'h5py') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
