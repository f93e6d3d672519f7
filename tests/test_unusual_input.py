"""What is nearly a matrix: each is refused by one true sentence, or taken whole."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import xarray as xr

import dnmf
from dnmf.errors import DnmfError

h5py = pytest.importorskip("h5py")

V = np.random.default_rng(0).random((20, 6)) + 0.1
FIT: dict[str, Any] = {"seed": 0, "max_passes": 3}
H = V[:2]
MASK = V > 0.8
MASKED = np.ma.array(V, mask=MASK)

Call = Callable[[Any, Path], Any]

TAKERS: dict[str, Call] = {
    "fit": lambda X, _: dnmf.fit(X, 2, **FIT),
    "fit_many": lambda X, _: dnmf.fit_many(X, [1], 1, max_passes=2),
    "plan": lambda X, _: dnmf.plan(X, 2),
    "transform": lambda X, _: dnmf.transform(X, V[:2]),
    "weights": lambda X, _: dnmf.fit(V, 2, weights=X, **FIT),
    "convert": lambda X, folder: dnmf.convert(X, folder / "out.zarr"),
    "NMF": lambda X, _: dnmf.NMF(2).fit(X),
    "NMF.fit_transform": lambda X, _: dnmf.NMF(2).fit_transform(X),
    "NMF.transform": lambda X, _: dnmf.NMF(2, max_iter=2, tol=0).fit(V).transform(X),
    "NMF weights": lambda X, _: dnmf.NMF(2).fit(V, weights=X),
}


class Stranger:
    """An object of another library, such as a Dask DataFrame, none of whose attributes works."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return object.__getattribute__(self, name)
        raise NotImplementedError(f"{name} may be expensive")


Stranger.__module__ = "dask.dataframe"


def refused(take: str, X: Any, folder: Path) -> str:
    """Return the sentence by which X is refused; nothing is left behind."""
    with pytest.raises(DnmfError) as caught:
        TAKERS[take](X, folder)
    assert "\n" not in str(caught.value)
    assert not any(folder.iterdir())
    return str(caught.value)


@pytest.mark.parametrize("take", TAKERS)
def test_no_attribute_of_strangers_is_asked_for(take: str, tmp_path: Path) -> None:
    assert "is a dask Stranger; give a dask.array" in refused(take, Stranger(), tmp_path)


@pytest.mark.parametrize("take", TAKERS)
def test_a_dask_data_frame(take: str, tmp_path: Path) -> None:
    dd = pytest.importorskip("dask.dataframe")
    frame = dd.from_pandas(pd.DataFrame(V), npartitions=2)
    assert ".to_dask_array(lengths=True) of a data frame" in refused(take, frame, tmp_path)
    if take == "fit":  # the remedy
        assert dnmf.fit(frame.to_dask_array(), 2, **FIT).H.shape == (2, 6)


@pytest.mark.parametrize("take", TAKERS)
@pytest.mark.parametrize("kind", ["Dataset", "Group", "File"])
def test_hdf5_whose_file_was_closed(kind: str, take: str, tmp_path: Path) -> None:
    file = h5py.File(tmp_path.parent / f"{tmp_path.name}.h5", "w")
    X = {"Dataset": file.create_dataset("x", data=V), "Group": file.create_group("g"), "File": file}
    file.close()
    message = refused(take, X[kind], tmp_path)
    assert f"is an h5py {kind} whose file was closed; open it again" in message


@pytest.mark.parametrize("take", TAKERS)
def test_masked_arrays(take: str, tmp_path: Path) -> None:
    """Whose mask would be lost without a word, wherever they are given."""
    message = refused(take, MASKED, tmp_path)
    assert "is a masked array, whose mask would be lost" in message
    if "weights" in take:
        assert "weights.filled(0), since an entry of weight 0 is not observed" in message
        assert "missing=" not in message
    else:
        assert ".astype(float).filled(numpy.nan) with missing='nan'" in message


def test_what_the_messages_about_masks_tell_to_do_is_right() -> None:
    expected = dnmf.fit(np.where(MASK, np.nan, V), 2, missing="nan", **FIT).H
    filled = MASKED.astype(float).filled(np.nan)
    np.testing.assert_array_equal(dnmf.fit(filled, 2, missing="nan", **FIT).H, expected)
    x = da.ma.filled(da.from_array(MASKED, chunks=(10, 6)).astype(float), np.nan)
    np.testing.assert_allclose(dnmf.fit(x, 2, missing="nan", **FIT).H, expected, rtol=1e-6)
    weights = np.ma.array(np.ones(V.shape), mask=MASK).filled(0)
    observed = dnmf.fit(V, 2, weights=(~MASK).astype(float), **FIT)
    np.testing.assert_array_equal(dnmf.fit(V, 2, weights=weights, **FIT).H, observed.H)
    whole = np.ma.array((V * 9).astype(int), mask=MASK)
    assert np.isnan(whole.astype(float).filled(np.nan)).sum() == MASK.sum()


@pytest.mark.parametrize("take", ["fit", "convert", "NMF", "weights"])
def test_masked_chunks(take: str, tmp_path: Path) -> None:
    assert "missing='nan'" in refused(take, da.from_array(MASKED, chunks=(10, 6)), tmp_path)


@pytest.mark.parametrize("name", ["init", "fixed_H", "init_W", "H of transform", "H of NMF"])
def test_masked_arrays_to_start_from(name: str) -> None:
    H = np.ma.array(V[:2], mask=V[:2] > 0.8)
    calls: dict[str, Callable[[], Any]] = {
        "init_W": lambda: dnmf.fit(V, 2, init=V[:2], init_W=MASKED[:, :2]),
        "H of transform": lambda: dnmf.transform(V, H),
        "H of NMF": lambda: dnmf.NMF(2, init="custom").fit(V, H=H),
    }
    with pytest.raises(DnmfError, match="is a masked array, whose mask would be lost"):
        calls.get(name, lambda: dnmf.fit(V, 2 if name == "init" else 3, **{name: H}))()


OBJECTS: dict[str, Any] = {
    "floats": pd.DataFrame(V).astype(object),
    "decimals": pd.DataFrame([[Decimal(i + j + 1) for j in range(3)] for i in range(5)]),
    "fractions": pd.DataFrame([[Fraction(1, i + j + 1) for j in range(3)] for i in range(5)]),
    "one column": pd.DataFrame({"a": [1.0, 2], "b": pd.Series([1, None], dtype=object)}),
    "truth": pd.DataFrame({"a": [1.0, 2], "b": pd.Series([True, False], dtype=object)}),
    "one name twice": pd.DataFrame(V[:, :2], columns=["a", "a"]).astype(object),
}


@pytest.mark.parametrize("take", ["fit", "convert", "weights"])
@pytest.mark.parametrize("kind", OBJECTS)
def test_frames_of_objects_that_are_numbers(kind: str, take: str, tmp_path: Path) -> None:
    frame = OBJECTS[kind]
    message = refused(take, frame, tmp_path)
    assert "columns of numbers that are Python objects (dtype object)" in message
    assert message.endswith("weights.astype(float)" if take == "weights" else "V.astype(float)")
    if take == "fit":
        fit = dnmf.fit(frame.astype(float), 1, missing="nan", **FIT)
        assert fit.H.shape == (1, frame.shape[1])


def test_frames_with_texts_are_not_called_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": pd.Series([1, 2], dtype=object), "b": ["x", "y"]})
    message = refused("fit", frame, tmp_path)
    assert "V has columns that are not real numbers: 'a' (object), 'b' (object)" in message


@pytest.mark.parametrize("wrap", [np.asarray, xr.DataArray])
def test_arrays_of_objects(wrap: Any, tmp_path: Path) -> None:
    X = wrap(V.astype(object))
    assert refused("fit", X, tmp_path).endswith(
        ".astype(float), where all of its objects are numbers"
    )
    assert dnmf.fit(X.astype(float), 2, **FIT).H.shape == (2, 6)


@pytest.mark.parametrize("shape", [(3, 8), (8, 3)])
def test_folds_without_entries_are_called_empty(shape: tuple[int, int]) -> None:
    """There are five folds, for three rows or columns."""
    study = dnmf.fit_many(V[: shape[0], :1] + np.arange(shape[1]), [1, 2], 1, max_passes=3)
    assert "Folds 2, 4 are empty, they left out no entry: without them." in str(study.recommend())
    assert study.held_out.no_entries == study.held_out.empty == [2, 4]


def test_folds_of_zeros_are_not_called_empty() -> None:
    Z = np.zeros((40, 8))
    Z[:20, :4] = V[:, :4]
    study = dnmf.fit_many(Z, [1, 2], 1, folds=4, max_passes=3)
    assert "Fold 2 left out nothing but zeros: without it." in str(study.recommend())
    assert (study.held_out.empty, study.held_out.no_entries) == ([2], [])


CONVERTED: dict[str, Any] = {
    "array": lambda: V,
    "view": lambda: V[::2, ::-1],
    "truth": lambda: V > 0.5,
    "float16": lambda: V.astype(np.float16),
    "the other byte order": lambda: V.astype(">f8"),
    "CSC": lambda: sp.csc_array(V * (V > 0.5)),
    "LIL": lambda: sp.lil_array(V * (V > 0.5)),
    "DataFrame": lambda: pd.DataFrame(V),
    "sparse DataFrame": lambda: pd.DataFrame.sparse.from_spmatrix(sp.csr_matrix(V * (V > 0.5))),
    "nullable DataFrame": lambda: pd.DataFrame(V).convert_dtypes(),
    "DataArray": lambda: xr.DataArray(V),
    "lazy DataArray": lambda: xr.DataArray(V).chunk({"dim_0": 7}),
    "Dask array": lambda: da.from_array(V, chunks=(7, 4)),
    "Dask array of CSR": lambda: da.from_array(V, chunks=(7, 6)).map_blocks(sp.csr_array),
    "unknown chunks": lambda: da.from_array(V, chunks=(7, 6))[da.ones(20, chunks=7) > 0],
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", CONVERTED)
def test_convert_takes_what_fit_takes(kind: str, tmp_path: Path) -> None:
    expected = dnmf.fit(CONVERTED[kind](), 2, **FIT)
    done = dnmf.convert(CONVERTED[kind](), tmp_path / "out.zarr")
    found = dnmf.fit(done.path, 2, **FIT)
    assert found.W.shape == expected.W.shape
    np.testing.assert_allclose(found.H, expected.H, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("use", ["init", "fixed_H", "H of transform", "H of NMF", "compare"])
def test_a_factor_in_a_closed_file_cannot_be_read(use: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["H"] = H
        closed = file["H"]
    uses = {
        "init": lambda: dnmf.fit(V, init=closed),
        "fixed_H": lambda: dnmf.fit(V, 5, fixed_H=closed),
        "H of transform": lambda: dnmf.transform(V, closed),
        "H of NMF": lambda: dnmf.NMF(len(H), init="custom").fit(V, H=closed),
        "compare": lambda: dnmf.compare(closed, H),
    }
    with pytest.raises(DnmfError, match="cannot be read as an array"):
        uses[use]()


@pytest.mark.parametrize("dtype", ["float33", "int32", object, "complex64"])
def test_a_dtype_that_nothing_computes_in(dtype: Any) -> None:
    for use in (lambda: dnmf.NMF(2, dtype=dtype).fit(V), lambda: dnmf.fit(V, 2, dtype=dtype)):
        with pytest.raises(DnmfError, match=r"dtype is .*float32, float64"):
            use()


def test_what_w_must_not_be_in_inverse_transform() -> None:
    model = dnmf.NMF(2, random_state=0, max_iter=5, tol=0).fit(V)
    W = np.ma.masked_less(model.transform(V), 0.1)
    with pytest.raises(DnmfError, match="masked array"):
        model.inverse_transform(W)
    with pytest.raises(DnmfError, match="masked array"):
        dnmf.compare(np.ma.masked_less(H, 0.5), H)
