"""scikit-learn's own checks, and the surface that replaces its NMF by changing the import."""

from __future__ import annotations

import doctest
import inspect
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.decomposition
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.metadata_routing import get_routing_for_object

import dnmf
import dnmf.estimator.nmf
from dnmf import NMF
from dnmf.testing.problems import planted_poisson

EXTRAS = {"client", "out", "overwrite", "block_size", "dtype", "n_init", "fixed_H", "missing"}
EXTRAS |= {"missing_chunks", "clip"}


@parametrize_with_checks([NMF(), NMF(missing="nan")])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_accepts_it(estimator: BaseEstimator, check: Any) -> None:
    check(estimator)


def test_the_constructor_is_that_of_scikit_learn() -> None:
    ours = inspect.signature(NMF).parameters
    theirs = inspect.signature(sklearn.decomposition.NMF).parameters
    assert set(ours) - set(theirs) == EXTRAS
    for name, parameter in theirs.items():
        assert (ours[name].kind, ours[name].default) == (parameter.kind, parameter.default), name


@pytest.mark.parametrize("method", ["fit", "fit_transform", "transform", "inverse_transform"])
def test_methods_take_what_those_of_scikit_learn_take(method: str) -> None:
    ours = list(inspect.signature(getattr(NMF, method)).parameters)
    theirs = inspect.signature(getattr(sklearn.decomposition.NMF, method)).parameters
    named = [name for name, p in theirs.items() if p.kind is not p.VAR_KEYWORD]
    assert ours[: len(named)] == named


def test_attributes_are_those_of_scikit_learn() -> None:
    X = pd.DataFrame(planted_poisson(60, 8, 2).V).rename(columns=str)
    theirs = sklearn.decomposition.NMF(2, init="random", random_state=0, tol=1e-2).fit(X)
    ours = NMF(2, random_state=0).fit(X)
    missing = {name for name in vars(theirs) if name.endswith("_")} - set(vars(ours))
    assert not missing


def test_tags_are_those_of_scikit_learn() -> None:
    assert get_tags(NMF()) == get_tags(sklearn.decomposition.NMF())


def test_tags_say_that_missing_entries_may_be_nan() -> None:
    tags = {missing: get_tags(NMF(missing=missing)).input_tags for missing in (None, "nan")}
    assert [found.allow_nan for found in tags.values()] == [False, True]
    assert [found.sparse for found in tags.values()] == [True, False]


def test_there_is_no_partial_fit_and_the_docstring_says_why() -> None:
    assert not hasattr(NMF, "partial_fit")
    text = inspect.getdoc(NMF) or ""
    assert "no ``partial_fit``" in text
    assert "dnmf convert" in text


def test_the_example_of_the_docstring_runs() -> None:
    results = doctest.testmod(dnmf.estimator.nmf)
    assert results.attempted > 0
    assert results.failed == 0


def test_feature_names_go_in_and_out() -> None:
    X = pd.DataFrame(planted_poisson(40, 4, 2).V, columns=list("abcd"))
    model = NMF(3, random_state=0).fit(X)
    assert model.feature_names_in_.tolist() == list("abcd")
    assert model.n_features_in_ == 4
    assert model.get_feature_names_out().tolist() == ["nmf0", "nmf1", "nmf2"]
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(X[["b", "a", "c", "d"]])
    with pytest.raises(ValueError, match="X has 3 features, but NMF is expecting 4"):
        NMF(3, random_state=0).fit(X.to_numpy()).transform(X.to_numpy()[:, :3])


def test_data_frames_come_out_where_asked() -> None:
    X = pd.DataFrame(planted_poisson(20, 5, 2).V).rename(columns=str)
    X.index = X.index[::-1]
    plain = NMF(2, random_state=0).fit_transform(X)
    framed = NMF(2, random_state=0).set_output(transform="pandas").fit_transform(X)
    assert framed.index.tolist() == X.index.tolist()
    assert framed.columns.tolist() == ["nmf0", "nmf1"]
    np.testing.assert_array_equal(framed.to_numpy(), plain)


def test_it_works_in_pipelines_and_unions() -> None:
    X = planted_poisson(60, 12, 3).V
    scaled = make_pipeline(NMF(3, random_state=0), StandardScaler()).fit_transform(X)
    assert scaled.shape == (60, 3)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    joined = make_union(NMF(2, random_state=0), NMF(3, random_state=1)).fit(X)
    assert joined.get_feature_names_out().tolist() == [
        *("nmf-1__nmf0", "nmf-1__nmf1"),
        *("nmf-2__nmf0", "nmf-2__nmf1", "nmf-2__nmf2"),
    ]


def test_out_of_transform_is_not_routed_as_metadata() -> None:
    with config_context(enable_metadata_routing=True):
        assert "out" not in get_routing_for_object(NMF()).transform.requests


def test_pickles_keep_the_fit() -> None:
    X = planted_poisson(50, 10, 3).V
    model = NMF(3, random_state=0).fit(X)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.transform(X), model.transform(X))
    assert copy.get_params() == model.get_params()
    assert copy.history_ == model.history_


def test_clones_have_the_same_parameters_and_no_fit() -> None:
    model = NMF(3, random_state=np.random.RandomState(3), dtype="float64", tol=1e-3)
    model.set_output(transform="pandas").fit(planted_poisson(30, 6, 2).V)
    copy = clone(model)
    assert not hasattr(copy, "components_")
    assert copy.random_state is not model.random_state
    same = {k: v for k, v in copy.get_params().items() if k != "random_state"}
    assert same == {k: v for k, v in model.get_params().items() if k != "random_state"}
    assert isinstance(copy.fit_transform(planted_poisson(30, 6, 2).V), pd.DataFrame)


class Connection:
    """What a Dask client is to copy and pickle: impossible."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Connection:
        raise TypeError("a connection cannot be copied")

    def __reduce__(self) -> str:
        raise TypeError("a connection cannot be pickled")


def test_clones_share_the_client_and_pickles_forget_it() -> None:
    model = NMF(2, client=Connection())
    assert clone(model).client is model.client
    assert pickle.loads(pickle.dumps(model)).client is None
    assert model.client is not None


def test_public_name() -> None:
    assert dnmf.NMF is NMF
    assert "NMF" in dnmf.__all__
