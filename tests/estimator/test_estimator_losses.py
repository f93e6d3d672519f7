"""`NMF` takes scikit-learn's losses, solvers and penalties with the same meaning."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr
from sklearn import decomposition
from sklearn.base import clone
from sklearn.decomposition._nmf import _beta_divergence

import dnmf
from dnmf import NMF
from dnmf.errors import InputError
from dnmf.testing.layouts import write_compressed
from dnmf.testing.problems import planted_poisson

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

LOSSES: list[tuple[str | float, float]] = [
    ("frobenius", 2.0),
    ("kullback-leibler", 1.0),
    ("itakura-saito", 0.0),
    (0.5, 0.5),
    (1.5, 1.5),
    (3.0, 3.0),
]
PENALTIES: list[dict[str, Any]] = [
    {},
    {"alpha_W": 0.02, "l1_ratio": 0.5},
    {"alpha_W": 0.01, "alpha_H": 0.03, "l1_ratio": 1.0},
    {"alpha_W": 0.0, "alpha_H": 0.1},
]


def counts(loss: str | float) -> np.ndarray:
    V = planted_poisson(60, 20, 3, dtype="float64").V
    return V + 0.5 if loss == "itakura-saito" else V.copy()


def penalty(model: NMF, W: np.ndarray) -> float:
    """As scikit-learn's documentation defines it."""
    (n, d), H, ratio = (len(W), model.components_.shape[1]), model.components_, model.l1_ratio
    alpha_H = model.alpha_W if model.alpha_H == "same" else model.alpha_H
    value = model.alpha_W * d * (ratio * W.sum() + 0.5 * (1 - ratio) * (W**2).sum())
    return float(value + alpha_H * n * (ratio * H.sum() + 0.5 * (1 - ratio) * (H**2).sum()))


@pytest.mark.parametrize("penalties", PENALTIES, ids=str)
@pytest.mark.parametrize(("loss", "beta"), LOSSES)
def test_objective_is_scikit_learns(loss: Any, beta: float, penalties: dict[str, Any]) -> None:
    V = counts(loss)
    model = NMF(3, beta_loss=loss, solver="auto", random_state=0, max_iter=8, n_init=1, **penalties)
    W = model.fit_transform(V)
    divergence = _beta_divergence(V, W, model.components_, beta)
    best = min(row["objective"] for row in model.history_)
    np.testing.assert_allclose(best, divergence + penalty(model, W), rtol=1e-6)
    np.testing.assert_allclose(model.reconstruction_err_, np.sqrt(2 * divergence), rtol=1e-6)


@pytest.mark.parametrize("beta", [0.001, 0.005, 0.02])
def test_zeros_of_a_small_beta(beta: float) -> None:
    """d(0 | y) is y^beta / beta, far from 0 where y is 1e-100; it counted as that below too."""
    V = counts(beta)
    model = NMF(3, beta_loss=beta, solver="auto", random_state=0, max_iter=30, n_init=1)
    W = model.fit_transform(V)
    assert (V == 0).sum() > 100
    divergence = _beta_divergence(V, W, model.components_, beta)
    np.testing.assert_allclose(model.reconstruction_err_, np.sqrt(2 * divergence), rtol=1e-6)


@pytest.mark.parametrize("loss", ["itakura-saito", -0.5])
def test_infinite_divergences_are_told_without_warnings(loss: str | float) -> None:
    V, H = counts("itakura-saito"), np.ones((2, 20))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match="entries of V are zero"):
            dnmf.transform(V - 0.5, H, loss=loss)
        H[:, 2] = 0
        assert np.isfinite(np.asarray(dnmf.transform(V, H, loss=loss))).all()


@pytest.mark.parametrize("init", ["nndsvd", "nndsvda", "nndsvdar"])
@pytest.mark.parametrize("sparse", [False, True])
def test_starts_by_name(init: str, sparse: bool) -> None:
    V = counts("frobenius")
    given = {"init": init, "random_state": 0, "tol": 1e-6, "max_iter": 200}
    model = NMF(3, **given).fit(sp.csr_array(V) if sparse else V)
    peer = decomposition.NMF(3, **given).fit(V)
    assert model.reconstruction_err_ <= 1.005 * peer.reconstruction_err_
    firsts = [
        NMF(3, **{**given, "init": name, "max_iter": 1}).fit(V).reconstruction_err_
        for name in (init, "random")
    ]
    assert firsts[0] != pytest.approx(firsts[1], rel=1e-3)


@pytest.mark.parametrize("penalties", PENALTIES[:3], ids=str)
@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler", "itakura-saito"])
def test_ends_where_scikit_learn_ends(loss: str, penalties: dict[str, Any]) -> None:
    """The best of 5 seeds is within 0.5% of scikit-learn's best of 5 (mostly below it)."""
    V, ours, theirs = counts(loss), [], []
    beta = dict(LOSSES)[loss]
    for seed in range(5):
        given = {"beta_loss": loss, "random_state": seed, **penalties}
        model = NMF(3, solver="auto", tol=1e-6, max_iter=100, n_init=2, **given)
        W = model.fit_transform(V)
        ours.append(_beta_divergence(V, W, model.components_, beta) + penalty(model, W))
        peer = decomposition.NMF(3, solver="mu", init="random", tol=1e-7, max_iter=500, **given)
        W = peer.fit_transform(V)
        theirs.append(_beta_divergence(V, W, peer.components_, beta) + penalty(peer, W))
    assert min(ours) <= 1.005 * min(theirs), (ours, theirs)


@pytest.mark.parametrize(
    ("beta", "offset", "options"),
    [
        (0.5, 0.0, {}),  # 29% zeros
        (0.5, 0.0, {"n_init": 1}),
        (0.5, 0.0, {"n_init": 1, "solver": "mu", "max_iter": 500}),
        (0.2, 0.0, {}),
        (0.5, 0.5, {}),
        (1.5, 0.0, {}),
        (3.0, 0.0, {}),
    ],
    ids=str,
)
def test_other_betas_end_where_scikit_learn_ends(
    beta: float, offset: float, options: dict[str, Any]
) -> None:
    """Below beta = 1 zeros make so many local optima that plain starts end 10% apart."""
    assert _apart(counts(beta) + offset, beta, options) <= 1.005


def test_spectra_with_speckle_end_where_scikit_learn_ends() -> None:
    """Itakura-Saito of entries that are exponential around their mean: far from V + 0.5."""
    rng = np.random.default_rng(0)
    mean = rng.gamma(0.5, size=(60, 3)) @ rng.gamma(0.5, size=(3, 20)) + 1e-3
    V = mean * rng.exponential(size=mean.shape) + 1e-9
    assert _apart(V, "itakura-saito", {}) <= 1.005


def _apart(V: np.ndarray, loss: str | float, options: dict[str, Any]) -> float:
    """Our best of 5 seeds, relative to scikit-learn's."""
    found = []
    for kind, given in ((_ours, options), (_theirs, {})):
        models = [kind(beta_loss=loss, random_state=seed, **given).fit(V) for seed in range(5)]
        found.append(min(model.reconstruction_err_ for model in models) ** 2)
    return float(found[0] / found[1])


def _ours(**options: Any) -> NMF:
    return NMF(3, **{"solver": "auto", "tol": 1e-6, "max_iter": 100, "n_init": 2, **options})


def _theirs(**options: Any) -> decomposition.NMF:
    return decomposition.NMF(3, solver="mu", init="random", tol=1e-7, max_iter=500, **options)


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
def test_mu_is_scikit_learns_mu(loss: str) -> None:
    """Lee and Seung's two rules from the same start give the same factors, pass by pass."""
    V = counts(loss)
    rng = np.random.default_rng(0)
    start = {"W": rng.random((60, 3)) + 0.1, "H": rng.random((3, 20)) + 0.1}
    given = {"solver": "mu", "beta_loss": loss, "init": "custom", "tol": 0}
    for turns in (1, 5):
        peer = decomposition.NMF(3, max_iter=turns, **given)
        peer.fit_transform(V, **{name: x.copy() for name, x in start.items()})
        # a pass is (W at H, H from W): it commits the H that the pass before it made
        model = NMF(3, max_iter=turns + 1, **given).fit(V, **start)
        theirs = peer.components_ / np.linalg.norm(peer.components_, axis=1, keepdims=True)
        match = np.argmax(model.components_ @ theirs.T, axis=1)
        assert sorted(match) == [0, 1, 2]
        np.testing.assert_allclose(model.components_, theirs[match], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("penalties", PENALTIES[1:3], ids=str)
@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
def test_mu_with_penalties_ends_where_scikit_learns_does(loss: Any, penalties: Any) -> None:
    """Its steps differ: scale moves between W and H to where penalties are least."""
    V, beta = counts(loss), dict(LOSSES)[loss]
    ends = []
    for make in (NMF, decomposition.NMF):
        given = {"solver": "mu", "beta_loss": loss, "init": "random", "tol": 1e-7, **penalties}
        models = [make(3, max_iter=500, random_state=seed, **given) for seed in range(5)]
        values = []
        for model in models:
            W = model.fit_transform(V)
            values.append(_beta_divergence(V, W, model.components_, beta) + penalty(model, W))
        ends.append(min(values))
    assert ends[0] <= 1.005 * ends[1]


def test_dense_and_sparse_agree() -> None:
    for loss in ("kullback-leibler", 0.5):
        V = counts(loss)
        models = [
            NMF(3, beta_loss=loss, solver="auto", random_state=1).fit(X)
            for X in (V, sp.csr_array(V))
        ]
        errors = [model.reconstruction_err_ for model in models]
        np.testing.assert_allclose(errors[0], errors[1], rtol=1e-8)


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler", "itakura-saito"])
def test_transform_gives_the_fits_W(loss: str) -> None:
    V = counts(loss)
    model = NMF(
        3, beta_loss=loss, solver="auto", alpha_W=0.01, random_state=0, tol=1e-7, max_iter=400
    )
    W = model.fit_transform(V)
    again = model.transform(V)
    value = [
        _beta_divergence(V, X, model.components_, dict(LOSSES)[loss]) + penalty(model, X)
        for X in (W, again)
    ]
    assert value[1] <= value[0] * (1 + 1e-6)
    assert value[1] >= value[0] * (1 - 1e-3)


@pytest.mark.parametrize("loss", ["kullback-leibler", "itakura-saito", 0.5])
def test_rows_are_transformed_one_by_one_as_together(loss: Any) -> None:
    """A row's W depends on that row alone: also where rows of a tile are solved side by side."""
    V = counts("itakura-saito")
    model = NMF(3, beta_loss=loss, solver="auto", random_state=0).fit(V)
    together = model.transform(V)
    alone = np.concatenate([model.transform(row[None, :]) for row in V[:20]])
    np.testing.assert_allclose(alone, together[:20], rtol=1e-8, atol=1e-10 * together.max())


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler", "itakura-saito"])
def test_an_l1_penalty_makes_factors_sparse(loss: str) -> None:
    V = counts(loss)
    zeros = []
    for alpha in (0.0, 0.3):
        model = NMF(
            3, beta_loss=loss, solver="auto", random_state=0, alpha_W=alpha, l1_ratio=1.0, tol=1e-6
        )
        W = model.fit_transform(V)
        zeros.append(float(np.mean(W / W.max() < 1e-4)))
    assert zeros[1] > zeros[0]


def test_zeros_are_refused_where_the_loss_is_infinite(tmp_path: Path) -> None:
    V = counts("frobenius")
    for loss in ("itakura-saito", -0.5):
        with pytest.raises(ValueError, match=r"of the 1,200 entries of V are zero.*beta_loss <= 0"):
            NMF(3, beta_loss=loss, solver="auto").fit(V)
    zeros = np.count_nonzero(V == 0)
    text = rf"needs V > 0, but .* is sparse, and at least {zeros} of its 1,200 entries are zero"
    with pytest.raises(ValueError, match=text):
        NMF(3, beta_loss="itakura-saito", solver="auto").fit(sp.csr_array(V))
    for form in (sp.csr_array, sp.csc_array):
        path = tmp_path / f"{form.__name__}.zarr"
        write_compressed(path, form(V), 100)
        with pytest.raises(ValueError, match=text):
            dnmf.plan(str(path), 3, loss="itakura-saito")


def _weighted(loss: str, V: np.ndarray, M: np.ndarray, WH: np.ndarray) -> float:
    if loss == "frobenius":
        return float(np.sum(M * (V - WH) ** 2)) / 2
    return float(np.sum(M * (V * np.log(V / WH) - V + WH)))


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
def test_weights_are_those_of_fit(loss: str) -> None:
    """An argument of fit, fit_transform and transform, as scikit-learn has them for data."""
    V = counts("itakura-saito")
    M = np.random.default_rng(0).gamma(1.0, size=V.shape)
    M[np.random.default_rng(1).random(V.shape) < 0.2] = 0
    broken = np.where(M > 0, V, np.nan)
    given: dict[str, Any] = {"beta_loss": loss, "solver": "auto", "random_state": 0, "tol": 1e-8}
    model = NMF(3, max_iter=400, **given)
    W = model.fit_transform(broken, weights=M)
    same = dnmf.fit(V, 3, weights=M, loss=loss, seed=0, tol=1e-8, max_passes=400, n_init=1)
    np.testing.assert_array_equal(W, np.asarray(same.W))
    plain = NMF(3, max_iter=400, **given).fit(V)
    assert not np.allclose(plain.components_, model.components_, rtol=1e-3)
    again = NMF(3, max_iter=400, **given).fit(broken, weights=sp.csr_array(M))
    np.testing.assert_array_equal(again.components_, model.components_)
    once = model.transform(broken, weights=M)
    values = [_weighted(loss, V, M, X @ model.components_) for X in (W, once)]
    assert values[1] <= values[0] * (1 + 1e-6)
    with pytest.raises(ValueError, match="NaN"):
        model.transform(broken)
    with pytest.raises(ValueError, match=r"V\[\d+, \d+\] is NaN"):
        NMF(3).fit(broken, weights=np.ones(V.shape))


def test_fixed_H_are_the_first_components() -> None:
    V = counts("itakura-saito")
    F = V[:2] + 1.0
    model = NMF(4, fixed_H=F, random_state=0).fit(V)
    np.testing.assert_array_equal(model.components_[:2], F)
    assert clone(model).fit(V).components_.tobytes() == model.components_.tobytes()
    with pytest.raises(ValueError, match="fixed_H has 2 rows, but k is 2"):
        NMF(2, fixed_H=F).fit(V)


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
@pytest.mark.parametrize("missing", ["nan", "zeros"])
def test_missing_entries_are_those_of_fit(loss: str, missing: str) -> None:
    """By fit, fit_transform and transform; what is observed predicts the rest."""
    V = counts("itakura-saito")
    lost = np.random.default_rng(1).random(V.shape) < 0.2
    X = np.where(lost, np.nan, V) if missing == "nan" else sp.csr_array(np.where(lost, 0, V))
    kept = X.copy()
    given: dict[str, Any] = {"beta_loss": loss, "solver": "auto", "random_state": 0, "tol": 1e-7}
    model = NMF(3, max_iter=300, missing=missing, **given)
    W = model.fit_transform(X)
    same = dnmf.fit(
        X, 3, missing=missing, loss=loss, seed=0, tol=1e-7, max_passes=300, n_init=1, dtype="f8"
    )
    np.testing.assert_array_equal(W, np.asarray(same.W))
    fitted = clone(model).fit(X)
    np.testing.assert_array_equal(fitted.components_, model.components_)
    value = _weighted(loss, V, ~lost, W @ model.components_)
    assert model.reconstruction_err_ == pytest.approx(np.sqrt(2 * value), rel=1e-6)
    once = model.transform(X)
    assert _weighted(loss, V, ~lost, once @ model.components_) <= value * (1 + 1e-6)
    predicted = model.inverse_transform(once)[lost]
    assert np.linalg.norm(predicted - V[lost]) < 0.5 * np.linalg.norm(V[lost])
    for before, after in zip(_arrays(kept), _arrays(X), strict=True):
        np.testing.assert_array_equal(before, after)


def _arrays(X: Any) -> list[np.ndarray]:
    return [X] if isinstance(X, np.ndarray) else [X.data, X.indices, X.indptr]


def test_missing_entries_of_a_data_frame_and_of_a_store(tmp_path: Path) -> None:
    V = counts("itakura-saito")
    X = np.where(np.random.default_rng(1).random(V.shape) < 0.2, np.nan, V)
    plain = NMF(3, random_state=0, missing="nan").fit(X)
    framed = NMF(3, random_state=0, missing="nan").fit(pd.DataFrame(X).rename(columns=str))
    np.testing.assert_array_equal(framed.components_, plain.components_)
    path = tmp_path / "X.zarr"
    zarr.create_array(path, shape=X.shape, chunks=(20, 20), dtype=X.dtype)[:] = X
    stored = NMF(3, random_state=0, missing="nan").fit(path)
    np.testing.assert_allclose(stored.components_, plain.components_, rtol=1e-9)
    np.testing.assert_allclose(stored.transform(path)[:], plain.transform(X), rtol=1e-6, atol=1e-9)


def test_missing_is_refused_where_it_cannot_be() -> None:
    V = counts("itakura-saito")
    X = np.where(np.random.default_rng(1).random(V.shape) < 0.2, np.nan, V)
    with pytest.raises(ValueError, match="contains NaN"):
        NMF(3).fit(X)
    with pytest.raises(ValueError, match="contains NaN"):
        NMF(3).fit(V).transform(X)
    with pytest.raises(ValueError, match="infinity"):
        NMF(3, missing="nan").fit(np.where(np.isnan(X), np.inf, X))
    refused: list[tuple[Any, dict[str, Any], str]] = [
        (sp.csr_array(V), {"missing": "nan"}, r"missing is 'nan', but .* is sparse"),
        (V, {"missing": "zeros"}, r"missing is 'zeros' .* is dense"),
        (X, {"missing": "nan", "solver": "mu"}, r"solver is 'mu', but .* with missing entries"),
        (X, {"missing": "nan", "solver": "auto", "beta_loss": 0.5}, r"missing entries .* not to"),
    ]
    for data, options, message in refused:
        with pytest.raises(ValueError, match=message):
            NMF(3, **options).fit(data)
