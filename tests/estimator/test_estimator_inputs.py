"""What X and weights may lie in, and what the parameters may be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from sklearn import decomposition
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

import dnmf
from dnmf import NMF
from dnmf.errors import InputError, OptionError

rng = np.random.default_rng(0)
X = rng.gamma(1, size=(40, 3)) @ rng.gamma(1, size=(3, 8))


def units(H):
    return H / np.linalg.norm(H, axis=1, keepdims=True)


@pytest.mark.parametrize("make", [np.asarray, sp.csr_matrix])
def test_views_of_anndata_are_matrices(make):
    anndata = pytest.importorskip("anndata")
    data = anndata.AnnData(make(X))
    data.layers["w"] = np.ones_like(X)
    model = NMF(3, random_state=0)
    whole = model.fit(make(X)[:30]).components_
    np.testing.assert_array_equal(model.fit(data[:30].X).components_, whole)
    np.testing.assert_array_equal(model.fit(data[:30]).components_, whole)
    if make is np.asarray:
        view = model.fit(X[:30], weights=data[:30].layers["w"]).components_
        model.fit(X[:30], weights=np.ones((30, 8)))
        np.testing.assert_array_equal(view, model.components_)


def test_anndata_without_X_is_explained():
    anndata = pytest.importorskip("anndata")
    with pytest.raises(InputError, match="AnnData object without X"):
        NMF(3).fit(anndata.AnnData(obs={"a": list("bcd")}))


def test_lazy_matrices_of_other_libraries_stay_lazy(tmp_path: Path):
    xr = pytest.importorskip("xarray")
    xr.Dataset({"a": (("x", "y"), X)}).to_zarr(tmp_path / "x.zarr", mode="w", consolidated=False)
    lazy = xr.open_zarr(tmp_path / "x.zarr", chunks=None, consolidated=False)["a"]
    W = NMF(3, random_state=0).fit_transform(lazy)
    assert not lazy.variable._in_memory
    assert not isinstance(W, np.ndarray)
    with pytest.raises(InputError, match="give one of its variables"):
        NMF(3).fit(xr.Dataset({"a": (("x", "y"), X)}))


def test_clones_keep_what_was_requested():
    weights = np.ones_like(X)
    with sklearn.config_context(enable_metadata_routing=True):
        model = NMF(2, random_state=0).set_fit_request(weights=True)
        model.set_transform_request(weights=True)
        search = GridSearchCV(
            Pipeline([("nmf", model)]), {"nmf__n_components": [2, 3]}, cv=2, error_score="raise",
            scoring=lambda e, X, y=None: -np.linalg.norm(X - e.inverse_transform(e.transform(X))),
        )  # fmt: skip
        search.fit(X, weights=weights)
    assert search.best_params_ == {"nmf__n_components": 3}


def test_a_subclass_may_have_fewer_parameters():
    class Three(NMF):
        def __init__(self, n_components=3):
            super().__init__(n_components, random_state=0)

    assert clone(Three()).fit(X).components_.shape == (3, 8)


@pytest.mark.parametrize("name", ["alpha_W", "alpha_H", "l1_ratio", "tol"])
@pytest.mark.parametrize("kind", [np.int64, np.float32, np.float64])
def test_numbers_of_numpy_are_numbers(name, kind):
    found = NMF(3, random_state=0, **{name: kind(0)}).fit(X[:, :6])
    np.testing.assert_array_equal(
        found.components_, NMF(3, random_state=0, **{name: 0}).fit(X[:, :6]).components_
    )


def test_numbers_of_numpy_are_numbers_to_fit_too():
    options = {"tol": np.float32(1e-3), "max_time": np.int64(50), "sample": np.float32(0.5)}
    found = dnmf.fit(X, 3, seed=0, beta=np.int64(1), **options)
    assert found.config["loss"] == "kullback-leibler"


def test_given_components_keep_their_order():
    free = dnmf.fit(X, 3, seed=0)
    H, W = np.ascontiguousarray(free.H[::-1]), np.ascontiguousarray(free.W[:, ::-1])
    for kind in (NMF, decomposition.NMF):
        model = kind(
            3, init="custom", tol=0, max_iter=20
        )  # from an optimum scikit-learn may not end
        model.fit_transform(X, W=W.copy(), H=H.copy())
        assert np.argmax(units(H) @ units(model.components_).T, axis=1).tolist() == [0, 1, 2]
    kept = dnmf.fit(X, init=H, seed=0, keep_order=True)
    np.testing.assert_allclose(kept.details["share"], free.details["share"][::-1], rtol=1e-3)
    np.testing.assert_allclose(units(kept.H), units(H), atol=1e-2)
    ordered = dnmf.fit(X, init=H, seed=0)
    np.testing.assert_allclose(ordered.details["share"], free.details["share"], rtol=1e-3)
    with pytest.raises(OptionError, match="only an array has an order to keep"):
        dnmf.fit(X, 3, keep_order=True)


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"init": np.ones((3, 8))}, "use init='custom' and give it to fit as H"),
        ({"init": ["random"]}, "init is .* must be one of"),
        ({"beta_loss": np.array([1, 2])}, "beta_loss is .* must be a name or a number"),
        ({"beta_loss": None, "solver": "auto"}, "beta_loss is None"),
        ({"beta_loss": [1], "solver": "auto"}, r"beta_loss is \[1\]"),
    ],
)
def test_parameters_of_other_types_are_refused_in_words(parameters, text):
    with pytest.raises(OptionError, match=text):
        NMF(3, **parameters).fit(X)


@pytest.mark.parametrize("loss", [True, None, [1], np.ones(2)])
def test_a_loss_is_a_name_or_a_number(loss):
    if loss is None:
        assert dnmf.fit(X, 3, loss=None, seed=0).config["loss"] == "frobenius"
        return
    with pytest.raises(OptionError, match="its beta"):
        dnmf.fit(X, 3, loss=loss)


def test_errors_about_weights_name_them():
    with pytest.raises(InputError, match=r"weights must have 2.*np\.broadcast_to\(weights"):
        dnmf.fit(X, 3, weights=np.ones(40))
    with pytest.raises(InputError, match="weights must have real entries"):
        dnmf.fit(X, 3, weights=np.ones_like(X) * 1j)
    listed = NMF(3, random_state=0).fit(X, weights=np.ones_like(X).tolist())
    given = NMF(3, random_state=0).fit(X, weights=np.ones_like(X))
    np.testing.assert_array_equal(listed.components_, given.components_)
