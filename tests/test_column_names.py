"""Names of columns: kept with the result, and compared wherever data are given again."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import xarray as xr
import zarr
from click.testing import CliRunner

import dnmf
from dnmf.cli.main import cli
from dnmf.errors import CorruptDataError, InputError
from dnmf.labels import order_of, texts

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*not unique:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*Zarr V3 specification"),
    pytest.mark.filterwarnings("ignore:.*zarr v2"),
]

RNG = np.random.default_rng(0)
V = RNG.poisson(RNG.gamma(0.5, size=(60, 3)) @ RNG.gamma(0.5, size=(3, 15))).astype(np.float32) + 1
NAMES = [f"g{j}" for j in range(15)]
OTHER = RNG.permutation(15)
FIT: dict[str, Any] = {"k": 3, "seed": 0, "max_passes": 8}

Make = Callable[[np.ndarray, list[str], Path], Any]


def cells(X: Any, names: list[str]) -> anndata.AnnData:
    return anndata.AnnData(X, var=pd.DataFrame(index=names))


def _store_of_anndata(X: np.ndarray, names: list[str], path: Path) -> str:
    found = cells(X, names)
    found.layers["counts"] = sp.csr_matrix(X)
    found.raw = found.copy()
    found.write_zarr(path)
    return str(path)


def _store_of_xarray(X: np.ndarray, names: list[str], path: Path, zarr_format: int = 3) -> str:
    array = xr.DataArray(X, dims=("cell", "gene"), coords={"gene": names}, name="V")
    array.to_dataset().to_zarr(path, zarr_format=zarr_format, consolidated=False)
    return f"{path}/V"


def _categorical(X: np.ndarray, names: list[str], path: Path) -> str:
    _store_of_anndata(X, names, path)
    group = zarr.open_group(f"{path}/var", mode="r+")
    index = group.create_group("names", attributes={"encoding-type": "categorical"})
    sorted_names = sorted(names)
    codes = np.array([sorted_names.index(name) for name in names], np.int8)
    index.create_array("codes", data=codes)
    index.create_array("categories", shape=(len(names),), dtype=str)[:] = np.array(
        sorted_names, dtype=object
    )
    group.attrs["_index"] = "names"
    return str(path)


def _numbers(names: list[str]) -> list[float]:
    return [int(name[1:]) / 7 for name in names]


KINDS: dict[str, Make] = {
    "AnnData": lambda X, names, _: cells(X, names),
    "sparse AnnData": lambda X, names, _: cells(sp.csr_matrix(X), names),
    "DataFrame": lambda X, names, _: pd.DataFrame(X, columns=names),
    "whole numbers": lambda X, names, _: pd.DataFrame(X, columns=[int(n[1:]) for n in names]),
    "two levels": lambda X, names, _: pd.DataFrame(
        X, columns=pd.MultiIndex.from_tuples([("a", int(name[1:])) for name in names])
    ),
    "days": lambda X, names, _: pd.DataFrame(
        X, columns=pd.to_datetime([f"2000-01-{int(name[1:]) + 1}" for name in names])
    ),
    "categories": lambda X, names, _: pd.DataFrame(X, columns=pd.CategoricalIndex(names)),
    "DataArray": lambda X, names, _: xr.DataArray(X, dims=("c", "g"), coords={"g": names}),
    "wavelengths": lambda X, names, _: xr.DataArray(
        X, dims=("c", "g"), coords={"g": _numbers(names)}
    ),
    "lazy DataArray": lambda X, names, _: xr.DataArray(
        X, dims=("c", "g"), coords={"g": names}
    ).chunk({"c": 20, "g": 10}),
    "store": _store_of_anndata,
    "X of a store": lambda *given: _store_of_anndata(*given) + "/X",
    "layer of a store": lambda *given: _store_of_anndata(*given) + "/layers/counts",
    "raw of a store": lambda *given: _store_of_anndata(*given) + "/raw/X",
    "open store": lambda *given: zarr.open_group(_store_of_anndata(*given))["X"],
    "categorical index": _categorical,
    "store of xarray": _store_of_xarray,
    "Zarr 2 of xarray": lambda *given: _store_of_xarray(*given, zarr_format=2),
}
OF_SKLEARN = ("DataFrame", "categories")
"""Kinds whose names scikit-learn compares by itself: it refuses another order."""


def make(kind: str, folder: Path, order: Any = slice(None), names: list[str] = NAMES) -> Any:
    return KINDS[kind](
        np.ascontiguousarray(V[:, order]), np.asarray(names)[order].tolist(), folder / "V.zarr"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_another_order_is_put_in_place(kind: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = make(kind, tmp_path / "a"), make(kind, tmp_path / "b", OTHER)
    fit = dnmf.fit(first, out=tmp_path / "out", **FIT)
    in_memory = dnmf.fit(first, **FIT)
    assert fit.column_names == in_memory.column_names == dnmf.open(tmp_path / "out").column_names
    assert len(set(fit.column_names)) == 15
    expected = dnmf.transform(V, fit)
    for learned in (fit, in_memory, str(tmp_path / "out")):
        W = dnmf.transform(second, learned)
        np.testing.assert_allclose(np.asarray(W), expected, rtol=2e-3, atol=1e-4)
    model = dnmf.NMF(3, random_state=0, max_iter=8, tol=0).fit(first)
    assert model.column_names_ == fit.column_names
    model = pickle.loads(pickle.dumps(model))
    if kind in OF_SKLEARN:
        with pytest.raises(ValueError, match="must be in the same order as they were in fit"):
            model.transform(second)
        return
    expected = np.asarray(model.transform(first))
    np.testing.assert_allclose(np.asarray(model.transform(second)), expected, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("whole numbers", "days")])
def test_other_names_are_refused(kind: str, tmp_path: Path) -> None:
    if kind in ("two levels", "wavelengths"):
        names, text = [*NAMES[:4], "g99", *NAMES[5:]], "column 4 of V is "
    else:
        names = [*NAMES[:4], "g99", *NAMES[5:]]
        text = "column 4 of V is 'g99', no name of the fit; 'g4' of the fit is missing"
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = make(kind, tmp_path / "a"), make(kind, tmp_path / "b", names=names)
    fit = dnmf.fit(first, **FIT)
    with pytest.raises(InputError, match=re.escape(text)):
        dnmf.transform(second, fit)
    model = dnmf.NMF(3, random_state=0, max_iter=3, tol=0).fit(first)
    with pytest.raises(ValueError, match=r"of V is|unseen at fit time:\n- g99"):
        model.transform(second)
    assert not (tmp_path / "W").exists()


def test_the_command_line_puts_columns_in_their_place(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    first, second = make("store", tmp_path / "a"), make("store of xarray", tmp_path / "b", OTHER)
    third = make("store", tmp_path / "c", names=[*NAMES[:-1], "x"])
    run = CliRunner().invoke
    options = ["--workers", "0", "--out"]
    done = run(cli, ["fit", first, "-k", "3", *options, f"{tmp_path}/fit"])
    assert done.exit_code == 0, done.output
    for V_of in (first, second):
        out = f"{tmp_path}/W-{Path(V_of).parent.name}"
        done = run(cli, ["transform", V_of, f"{tmp_path}/fit", *options, out])
        assert done.exit_code == 0, done.output
    found = [np.asarray(dnmf.open(path).W) for path in sorted(tmp_path.glob("W-*"))]
    np.testing.assert_allclose(*found, rtol=2e-3, atol=1e-4)
    done = run(cli, ["transform", third, f"{tmp_path}/fit", *options, f"{tmp_path}/W"])
    assert done.exit_code == 2
    assert "column 14 of V is 'x', no name of the fit" in done.output
    assert not (tmp_path / "W").exists()


def test_kinds_are_compared_with_each_other() -> None:
    fit = dnmf.fit(cells(V, NAMES), **FIT)
    expected = dnmf.transform(V, fit)
    for given in (
        pd.DataFrame(V, columns=NAMES)[np.array(NAMES)[OTHER]],
        xr.DataArray(V, dims=("c", "g"), coords={"g": NAMES})[:, OTHER],
        cells(sp.csc_matrix(V), NAMES)[:, OTHER],
    ):
        np.testing.assert_allclose(dnmf.transform(given, fit), expected, rtol=2e-3, atol=1e-4)


def test_without_names_places_decide() -> None:
    fit = dnmf.fit(cells(V, NAMES), **FIT)
    expected = dnmf.transform(V, fit)
    unnamed = (pd.DataFrame(V), xr.DataArray(V, dims=("a", "b")), anndata.AnnData(V))
    for given in unnamed:
        np.testing.assert_array_equal(dnmf.transform(given, fit), expected)
        bare = dnmf.fit(given, **FIT)
        np.testing.assert_array_equal(dnmf.transform(cells(V, NAMES), bare), expected)
    assert dnmf.fit(V, **FIT).column_names is None
    frame = pd.DataFrame(V)
    W = dnmf.transform(frame[OTHER], dnmf.fit(frame, **FIT))  # numbers in another order are names
    np.testing.assert_allclose(W, expected, rtol=2e-3, atol=1e-4)


def test_more_or_fewer_columns_are_named() -> None:
    fit = dnmf.fit(cells(V, NAMES), **FIT)
    with pytest.raises(InputError, match=r"'g3' of the fit is missing \(one name differs"):
        dnmf.transform(cells(np.delete(V, 3, 1), NAMES[:3] + NAMES[4:]), fit)
    with pytest.raises(InputError, match=r"column 15 of V is 'more', no name of the fit"):
        dnmf.transform(cells(np.c_[V, V[:, 0]], [*NAMES, "more"]), fit)


def test_names_that_repeat() -> None:
    """In the order of the fit they do no harm; in another one nobody knows which is which."""
    names = [*NAMES[:-1], "g3"]
    fit = dnmf.fit(cells(V, names), **FIT)
    np.testing.assert_array_equal(dnmf.transform(cells(V, names), fit), dnmf.transform(V, fit))
    with pytest.raises(InputError, match=r"'g3' names several of them: which is which cannot"):
        dnmf.transform(cells(V[:, ::-1].copy(), names[::-1]), fit)


def test_numbers_that_were_rounded_are_the_same_names() -> None:
    exact = xr.DataArray(V, dims=("c", "g"), coords={"g": np.arange(15) / 7})
    rounded = exact.assign_coords(g=(np.arange(15) / 7).astype(np.float32))
    fit = dnmf.fit(exact, **FIT)
    np.testing.assert_array_equal(dnmf.transform(rounded, fit), dnmf.transform(V, fit))
    assert order_of(("1.1", "1.10"), ("1.10", "1.1"), "V", "the fit").tolist() == [1, 0]


@pytest.mark.parametrize("name", ["fixed_H", "init"])
def test_given_rows_of_H_go_by_names(name: str, tmp_path: Path) -> None:
    H = np.random.default_rng(1).random((2, 15)) + 0.1
    options = {"seed": 0, "max_passes": 4, "k": 3 if name == "fixed_H" else 2}
    expected = dnmf.fit(V, **{name: H}, **options)
    frame = pd.DataFrame(H, columns=NAMES)
    arrays = xr.DataArray(H, dims=("r", "g"), coords={"g": NAMES})
    for given in (frame, frame[np.array(NAMES)[OTHER]], arrays[:, OTHER]):
        found = dnmf.fit(cells(V, NAMES), **{name: given}, **options)
        np.testing.assert_array_equal(found.H, expected.H)
        assert dnmf.plan(cells(V, NAMES), **{name: given}, **options).lines()
    with pytest.raises(
        InputError,
        match=rf"the columns of V have other names than those of {name}: column 0 of V is 'g0'",
    ):
        dnmf.fit(cells(V, NAMES), **{name: frame.rename(columns={"g0": "x"})}, **options)
    if name == "fixed_H":
        model = dnmf.NMF(
            3, random_state=0, max_iter=4, tol=0, fixed_H=frame[np.array(NAMES)[OTHER]]
        )
        assert np.array_equal(model.fit(cells(V, NAMES)).components_[:2], H.astype(np.float32))
        store = _store_of_xarray(H[:, OTHER], np.array(NAMES)[OTHER].tolist(), tmp_path / "H.zarr")
        source = _store_of_anndata(V, NAMES, tmp_path / "V.zarr")
        command = ["fit", source, "-k", "3", "--fixed-H", store, "--workers", "0"]
        done = CliRunner().invoke(cli, [*command, "--out", f"{tmp_path}/fit"])
        assert done.exit_code == 0, done.output
        assert np.array_equal(dnmf.open(tmp_path / "fit").H[:2], H.astype(np.float32))


def test_H_in_another_order_for_transform_and_compare() -> None:
    fit = dnmf.fit(cells(V, NAMES), **FIT)
    frame = pd.DataFrame(fit.H, columns=NAMES)[np.array(NAMES)[OTHER]]
    expected = dnmf.transform(V, fit)
    W = dnmf.transform(cells(V, NAMES), frame)
    np.testing.assert_allclose(W, expected, rtol=2e-3, atol=1e-4)
    assert dnmf.compare(fit, frame).mean_cosine == pytest.approx(1)
    with pytest.raises(InputError, match="of the first have other names than those of the second"):
        dnmf.compare(fit, frame.rename(columns={"g0": "x"}))


@pytest.mark.parametrize("axis", [0, 1])
def test_weights_in_another_order_are_refused(axis: int, tmp_path: Path) -> None:
    rows = [f"r{i}" for i in range(60)]
    frame = pd.DataFrame(V, index=rows, columns=NAMES)
    weights = frame.iloc[::-1] if axis == 0 else frame[np.array(NAMES)[OTHER]]
    which = ("rows", "columns")[axis]
    text = rf"the {which} of weights have the names of those of V in another order: {which[:-1]} 0"
    with pytest.raises(InputError, match=text):
        dnmf.fit(frame, weights=weights, out=tmp_path / "out", **FIT)
    with pytest.raises(InputError, match=text):
        dnmf.NMF(3).fit(frame, weights=weights)
    fit = dnmf.fit(frame, weights=frame, **FIT)
    with pytest.raises(InputError, match=text):
        dnmf.transform(frame, fit, weights=weights)
    other = frame.rename(**{which.replace("rows", "index"): {"r0": "x", "g0": "x"}})
    with pytest.raises(InputError, match=f"the {which} of weights have other names than those of"):
        dnmf.fit(frame, weights=other, **FIT)
    expected = dnmf.fit(V, weights=V, **FIT)
    for given in (V, pd.DataFrame(V), frame):
        np.testing.assert_array_equal(dnmf.fit(frame, weights=given, **FIT).H, expected.H)
    assert not (tmp_path / "out").exists()


def test_resumed_with_other_names_is_refused(tmp_path: Path) -> None:
    dnmf.fit(cells(V, NAMES), out=tmp_path / "out", **FIT)
    again = dnmf.fit(cells(V, NAMES), out=tmp_path / "out", resume=True, **FIT)
    assert again.column_names == tuple(NAMES)
    for names in (NAMES[::-1], [*NAMES[:-1], "x"]):
        with pytest.raises(InputError, match=r"that .*out was begun with"):
            dnmf.fit(cells(V, names), out=tmp_path / "out", resume=True, **FIT)


def test_a_study_has_them(tmp_path: Path) -> None:
    study = dnmf.fit_many(cells(V, NAMES), [2, 3], 1, out=tmp_path / "out", max_passes=3)
    for found in (study, dnmf.open(tmp_path / "out")):
        assert {result.column_names for result in found.results} == {tuple(NAMES)}
    W = dnmf.transform(cells(V[:, OTHER].copy(), np.array(NAMES)[OTHER]), study.result(2))
    np.testing.assert_allclose(W, dnmf.transform(V, study.result(2)), rtol=2e-3, atol=1e-4)


def test_xarray_finds_them(tmp_path: Path) -> None:
    names = ["ß", "Gen 1", *NAMES[2:]]
    dnmf.fit(cells(V, names), out=tmp_path / "out", **FIT)
    opened = xr.open_zarr(tmp_path / "out")
    assert opened.H.column.to_numpy().tolist() == names
    assert opened.H.sel(column="ß").shape == (3,)
    assert dnmf.open(tmp_path / "out").inspect()["shape"] == [60, 15]


def test_changed_names_of_a_result_are_noticed(tmp_path: Path) -> None:
    dnmf.fit(cells(V, NAMES), out=tmp_path / "out", **FIT)
    zarr.open_array(tmp_path / "out/column", mode="r+")[:] = np.array(NAMES[::-1], dtype=object)
    with pytest.raises(dnmf.DnmfError, match="column is damaged"):
        dnmf.open(tmp_path / "out")


def test_names_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    """Without them, columns would be taken by place."""
    store = _store_of_anndata(V, NAMES, tmp_path / "V.zarr")
    index = tmp_path / "V.zarr/var/_index"
    chunks = [path for path in index.rglob("*") if path.is_file() and not path.suffix]
    chunks = [path for path in chunks if not path.name.startswith(".")]
    assert chunks
    for path in chunks:
        path.unlink()
    with pytest.raises(CorruptDataError, match="var/_index cannot be read: 1 of 1 chunks are miss"):
        dnmf.fit(store, **FIT)


def test_pickled_names_are_not_loaded(tmp_path: Path) -> None:
    store = _store_of_anndata(V, NAMES, tmp_path / "V.zarr")
    group = zarr.open_group(tmp_path / "V.zarr/var", mode="r+")
    index = tmp_path / "V.zarr/var/pickled"
    index.mkdir()
    (index / ".zarray").write_text(
        '{"zarr_format": 2, "shape": [15], "chunks": [15], "dtype": "|O", "fill_value": null, '
        '"order": "C", "compressor": null, "filters": [{"id": "pickle", "protocol": 5}]}'
    )
    (index / "zarr.json").unlink(missing_ok=True)

    class Trap:
        def __reduce__(self) -> Any:
            return (tmp_path / "sprung").mkdir, ()

    (index / "0").write_bytes(pickle.dumps(Trap()))
    group.attrs["_index"] = "pickled"
    with pytest.raises(CorruptDataError, match="cannot be read"):
        dnmf.fit(store, **FIT)
    assert not (tmp_path / "sprung").exists()


def test_texts_of_labels() -> None:
    assert texts([1, 2]) == texts(["1", "2"]) == texts(np.array([1, 2], np.int8)) == ("1", "2")
    assert texts([b"a", "b"]) == ("a", "b")
    with np.printoptions(legacy="1.13"):
        assert texts(np.array([1 / 3])) == ("0.3333333333333333",)
    days = np.array(["2000-01-01"], "datetime64[D]")
    assert texts(days) == texts(days.astype("datetime64[s]")) == texts(pd.DatetimeIndex(days))
