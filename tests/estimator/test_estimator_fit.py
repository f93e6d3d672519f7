"""What NMF computes: the behaviours that scikit-learn's tests of NMF expect, on least squares."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn.decomposition
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from dnmf import NMF
from dnmf.testing.problems import baskets, planted_poisson, power_law_counts, six_by_two

SPARSE = [sp.csr_array, sp.csr_matrix, sp.csc_array, sp.csc_matrix, sp.coo_array]


def positive(n: int, d: int, seed: int = 42) -> np.ndarray:
    """An (n, d) matrix of absolute normal numbers: no low-rank structure."""
    return np.abs(np.random.default_rng(seed).normal(size=(n, d)))


def counts() -> np.ndarray:
    return planted_poisson(120, 40, 4, dtype="float64").V.copy()


def test_example_of_scikit_learn() -> None:
    X = six_by_two().V
    model = NMF(n_components=2, init="random", random_state=0)
    W = model.fit_transform(X)
    assert np.abs(W @ model.components_ - X).max() < 2e-3


def test_alike_columns_share_a_component() -> None:
    model = NMF(3, random_state=0).fit(baskets().V)
    np.testing.assert_allclose(model.components_[:, 2], model.components_[:, 3], atol=1e-3)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # exact: slow at last
@pytest.mark.parametrize("k", [1, 3, 5, 8])
def test_no_negative_values(k: int) -> None:
    model = NMF(k, random_state=0)
    W = model.fit_transform(positive(12, 5))
    assert W.min() >= 0
    assert model.components_.min() >= 0


def test_close_fit_of_a_small_matrix() -> None:
    assert NMF(5, random_state=0, max_iter=600).fit(positive(6, 5)).reconstruction_err_ < 0.1


@pytest.mark.parametrize("tol", [1e-3, 1e-6])
def test_transform_agrees_with_fit_transform(tol: float) -> None:
    """The fit's W-step stops at 1% of the residual; W then differs by a fraction of that."""
    X = counts()
    model = NMF(4, random_state=0, tol=tol)
    W = model.fit_transform(X)
    assert np.abs(model.transform(X) - W).max() < 5e-3 * W.max()


def test_transform_of_new_rows_is_non_negative_least_squares() -> None:
    from scipy.optimize import nnls

    X, new = counts(), planted_poisson(15, 40, 4, seed=1, dtype="float64").V
    model = NMF(4, random_state=0).fit(X)
    expected = np.array([nnls(model.components_.T, row)[0] for row in new])
    np.testing.assert_allclose(model.transform(new), expected, rtol=1e-5, atol=1e-6)


def test_rows_are_transformed_one_by_one_as_together() -> None:
    model = NMF(4, random_state=0).fit(counts())
    together = model.transform(counts())
    alone = np.vstack([model.transform(row[None]) for row in counts()[:5]])
    np.testing.assert_allclose(alone, together[:5], rtol=1e-6, atol=1e-9)


def test_inverse_transform_is_the_product() -> None:
    X = positive(6, 4)
    model = NMF(4, random_state=0, max_iter=1000)
    W = model.fit_transform(X)
    np.testing.assert_allclose(model.inverse_transform(W), X, atol=1e-2)
    np.testing.assert_allclose(model.inverse_transform(sp.csr_array(W)), W @ model.components_)


def test_reconstruction_error_is_the_norm_of_the_residual() -> None:
    X = counts()
    for V in (X, sp.csr_array(X)):
        model = NMF(4, random_state=0)
        W = model.fit_transform(V)
        error = np.linalg.norm(X - W @ model.components_)
        assert model.reconstruction_err_ == pytest.approx(error, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_error_is_that_of_scikit_learn(seed: int) -> None:
    X = counts()
    theirs = min(
        sklearn.decomposition.NMF(4, init="random", random_state=s, max_iter=1000)
        .fit(X)
        .reconstruction_err_
        for s in range(3)
    )
    ours = NMF(4, random_state=seed, tol=1e-5).fit(X)
    assert ours.reconstruction_err_ < 1.005 * theirs


@pytest.mark.parametrize("container", SPARSE)
def test_sparse_input_gives_what_dense_input_gives(container: Any) -> None:
    X = counts()
    X[:, ::7] = 0
    dense, sparse = (NMF(4, random_state=0, tol=1e-3) for _ in range(2))
    W, W_sparse = dense.fit_transform(X), sparse.fit_transform(container(X))
    assert sparse.n_iter_ == dense.n_iter_
    assert sparse.reconstruction_err_ == pytest.approx(dense.reconstruction_err_, rel=1e-9)
    np.testing.assert_allclose(W_sparse, W, rtol=1e-6, atol=1e-6 * W.max())
    np.testing.assert_allclose(
        sparse.transform(container(X)), dense.transform(X), rtol=1e-6, atol=1e-6 * W.max()
    )


def test_sparse_counts_stay_sparse_and_unchanged() -> None:
    V = power_law_counts().V
    before = V.copy()
    W = NMF(8, random_state=0).fit_transform(V)
    assert W.shape == (500, 8)
    assert abs(V - before).sum() == 0


@pytest.mark.parametrize(
    ("given", "computed"),
    [
        ("float32", "float32"),
        ("float64", "float64"),
        ("float16", "float64"),
        ("int32", "float64"),
        ("int64", "float64"),
        ("uint8", "float64"),
        ("bool", "float64"),
        ("longdouble", "float64"),
        ("object", "float64"),
    ],
)
def test_dtypes_follow_scikit_learn(given: str, computed: str) -> None:
    X = np.round(positive(20, 15)).astype(given)
    model = NMF(3, random_state=0, tol=1e-2)
    assert model.fit_transform(X).dtype == computed
    assert model.transform(X).dtype == computed
    assert model.components_.dtype == computed


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_chooses_what_is_computed_in(dtype: str) -> None:
    for X in (np.round(positive(20, 15)), positive(20, 15).astype("float32")):
        model = NMF(3, random_state=0, tol=1e-2, dtype=dtype)
        assert model.fit_transform(X).dtype == dtype
        assert model.transform(X).dtype == dtype


def test_float32_agrees_with_float64() -> None:
    X = counts()
    wide, narrow = (NMF(4, random_state=0, tol=1e-3) for _ in range(2))
    W = wide.fit_transform(X)
    W32 = narrow.fit_transform(X.astype("float32"))
    assert narrow.reconstruction_err_ == pytest.approx(wide.reconstruction_err_, rel=1e-5)
    np.testing.assert_allclose(W32, W, atol=1e-3 * W.max())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # exact: slow at last
@pytest.mark.parametrize(
    ("n", "d", "k"), [(30, 10, 15), (3, 8, 5), (1, 6, 2), (6, 1, 2), (1, 1, 1)]
)
def test_more_components_than_the_matrix_has_dimensions(n: int, d: int, k: int) -> None:
    model = NMF(k, random_state=0, tol=1e-2)
    W = model.fit_transform(positive(n, d))
    assert W.shape == (n, k)
    assert model.components_.shape == (k, d)
    assert np.isfinite(W).all()
    assert model.reconstruction_err_ < 0.2 * np.linalg.norm(positive(n, d))


def test_rows_and_columns_of_zeros_get_zeros() -> None:
    X = counts()
    X[3] = X[-1] = 0
    X[:, 0] = X[:, 11] = 0
    model = NMF(4, random_state=0)
    W = model.fit_transform(X)
    assert not W[[3, -1]].any()
    assert not model.components_[:, [0, 11]].any()
    assert not model.transform(np.zeros((2, 40))).any()
    assert np.isfinite(W).all()


def test_tiny_entries_do_not_disturb() -> None:
    X = counts()
    model = NMF(4, random_state=0).fit(X)
    X[0, 0], X[1, 1] = 1e-323, 1e-300
    assert NMF(4, random_state=0).fit(X).reconstruction_err_ == pytest.approx(
        model.reconstruction_err_, rel=1e-2
    )


@pytest.mark.parametrize("factor", [1e-9, 1e9])
def test_units_of_the_data_change_nothing(factor: float) -> None:
    X = counts()
    model, scaled = NMF(4, random_state=0).fit(X), NMF(4, random_state=0).fit(X * factor)
    assert abs(scaled.n_iter_ - model.n_iter_) <= 1
    assert scaled.reconstruction_err_ / factor == pytest.approx(model.reconstruction_err_, rel=1e-6)


def test_the_same_seed_gives_the_same_bits() -> None:
    first, again, other = (NMF(4, random_state=seed).fit_transform(counts()) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-6


def test_random_states_are_used_up_like_those_of_scikit_learn() -> None:
    state = np.random.RandomState(0)
    first, second = (NMF(4, random_state=state).fit_transform(counts()) for _ in range(2))
    assert np.abs(first - second).max() > 1e-6
    again = NMF(4, random_state=np.random.RandomState(0)).fit_transform(counts())
    np.testing.assert_array_equal(again, first)


def test_numpy_random_itself_means_the_global_state() -> None:
    np.random.seed(3)
    first = NMF(4, random_state=np.random).fit_transform(counts())
    np.random.seed(3)
    np.testing.assert_array_equal(NMF(4, random_state=np.random).fit_transform(counts()), first)


def test_it_warns_when_max_iter_ends_the_fit() -> None:
    message = "Maximum number of iterations 1 reached. Increase it to improve convergence."
    for X in (np.ones((2, 2)), counts()):
        with pytest.warns(ConvergenceWarning, match=message):
            model = NMF(max_iter=1).fit(X)
        assert model.n_iter_ == 1


def test_no_warning_without_tolerance() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = NMF(4, random_state=0, tol=0, max_iter=2).fit(counts())
    assert model.n_iter_ == 2
    assert "max_passes" in model.stop_reason_


def test_a_smaller_tol_fits_longer_and_better() -> None:
    loose, tight = (NMF(4, random_state=0, tol=tol).fit(counts()) for tol in (1e-2, 1e-7))
    assert tight.n_iter_ > loose.n_iter_
    assert tight.reconstruction_err_ < loose.reconstruction_err_


def test_history_tells_every_pass() -> None:
    model = NMF(4, random_state=0).fit(counts())
    assert [row["pass"] for row in model.history_] == list(range(1, model.n_iter_ + 1))
    kept = [row["objective"] for row in model.history_ if row["accepted"]]
    assert model.reconstruction_err_ == pytest.approx(np.sqrt(2 * kept[-1]))


def test_fit_returns_the_model_and_agrees_with_fit_transform() -> None:
    model, other = NMF(4, random_state=0), NMF(4, random_state=0)
    assert model.fit(counts()) is model
    W = other.fit_transform(counts(), np.zeros(120))
    np.testing.assert_array_equal(model.components_, other.components_)
    assert W.flags.c_contiguous
    assert W.flags.writeable


def test_nothing_works_before_fit() -> None:
    for method in ("transform", "inverse_transform"):
        with pytest.raises(NotFittedError):
            getattr(NMF(), method)(counts())


@given(
    n=st.integers(1, 12),
    d=st.integers(1, 12),
    k=st.integers(1, 6),
    density=st.floats(0.1, 1),
    seed=st.integers(0, 1000),
)
@settings(max_examples=15, deadline=None)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_any_matrix_is_fitted_no_worse_than_its_zero(
    n: int, d: int, k: int, density: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    X = rng.gamma(1.0, size=(n, d)) * (rng.random((n, d)) < density)
    X[rng.integers(n), rng.integers(d)] = 1.0
    model = NMF(k, random_state=seed, max_iter=20)
    W = model.fit_transform(X)
    assert W.shape == (n, k)
    residual = np.linalg.norm(X - W @ model.components_)
    assert residual <= np.linalg.norm(X)
    assert model.reconstruction_err_ == pytest.approx(residual, abs=1e-6 * np.linalg.norm(X))
    rows = np.linalg.norm(X - model.transform(X) @ model.components_, axis=1)
    dependent = np.linalg.matrix_rank(model.components_) < k  # rows are solved slowly then
    slack = (1e-2 if dependent else 1e-3) * np.linalg.norm(X, axis=1)
    assert np.all(rows <= np.linalg.norm(X - W @ model.components_, axis=1) + slack)
