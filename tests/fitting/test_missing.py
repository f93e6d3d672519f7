"""Unobserved entries: predicted well, never looked at, and a matrix without any fits as usual."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from marks import slow

import dnmf
from dnmf.errors import InputError
from dnmf.losses.masked import MaskedFrobenius
from dnmf.planning import limits

LOSSES = ["frobenius", "kullback-leibler"]


def planted(n: int = 300, d: int = 40, k: int = 4) -> np.ndarray:
    rng = np.random.default_rng(0)
    W, H = rng.gamma(0.5, 1.0, (n, k)), rng.gamma(0.5, 1.0, (k, d))
    return W @ H + 0.01


def with_holes(V: np.ndarray, share: float = 0.3, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    lost = np.random.default_rng(seed).random(V.shape) < share
    return np.where(lost, np.nan, V), lost


@pytest.mark.parametrize("loss", LOSSES)
def test_missing_entries_are_predicted(loss: str) -> None:
    V = planted()
    holed, lost = with_holes(V)
    before = holed.copy()
    fit = dnmf.fit(holed, 5, loss=loss, missing="nan", seed=0, tol=1e-5, max_passes=100)
    np.testing.assert_array_equal(holed, before)
    WH = np.asarray(fit.W) @ np.asarray(fit.H)
    error = np.linalg.norm((WH - V)[lost]) / np.linalg.norm(V[lost])
    assert error < 0.05
    accepted = [row["objective"] for row in fit.history if row["accepted"]]
    assert (np.diff(accepted) <= 1e-9 * accepted[0]).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_the_objective_is_that_of_the_observed_entries(loss: str) -> None:
    holed, lost = with_holes(planted() + 0.1)
    fit = dnmf.fit(holed, 3, loss=loss, missing="nan", seed=0, max_passes=4, sample=0)
    WH, v = (np.asarray(fit.W) @ np.asarray(fit.H))[~lost], holed[~lost]
    expected = np.sum((v - WH) ** 2) / 2
    if loss == "kullback-leibler":
        expected = np.sum(v * np.log(v / WH) - v + WH)
    assert fit.objective == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_matrix_without_holes_fits_as_usual(loss: str) -> None:
    V = planted()
    options: dict[str, Any] = {"loss": loss, "seed": 0, "tol": 1e-8, "max_passes": 300}
    usual, masked = dnmf.fit(V, 3, **options), dnmf.fit(V, 3, missing="nan", **options)
    assert masked.objective == pytest.approx(usual.objective, rel=1e-4)


@pytest.mark.parametrize("how", ["missing", *slow("weights")])
@pytest.mark.parametrize("loss", LOSSES)
def test_without_a_hole_the_product_is_that_of_no_mask(loss: str, how: str) -> None:
    """To how far both have converged; other kernels sum in another order: not to the bit."""
    V = planted()
    given: dict[str, Any] = {"missing": "nan"} if how == "missing" else {"weights": 0 * V + 1}
    options: dict[str, Any] = {"k": 4, "loss": loss, "seed": 0, "tol": 1e-8, "max_passes": 300}
    usual, masked = dnmf.fit(V, **options), dnmf.fit(V, **options, **given)
    products = [np.asarray(fit.W) @ np.asarray(fit.H) for fit in (usual, masked)]
    np.testing.assert_allclose(products[1], products[0], atol=1e-3 * V.max())


@pytest.mark.parametrize("loss", LOSSES)
def test_nan_and_what_is_not_stored_are_the_same(loss: str) -> None:
    holed, lost = with_holes(planted())
    rows, columns = np.nonzero(~lost)
    sparse = sp.csr_array((holed[~lost], (rows, columns)), shape=holed.shape)
    options: dict[str, Any] = {"loss": loss, "seed": 0, "max_passes": 5}
    one = dnmf.fit(holed, 3, missing="nan", **options)
    other = dnmf.fit(sparse, 3, missing="zeros", **options)
    np.testing.assert_allclose(np.asarray(one.H), np.asarray(other.H), rtol=1e-9, atol=1e-12)
    assert one.objective == pytest.approx(other.objective, rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_ratings_are_predicted_better_than_with_zeros(loss: str) -> None:
    """Held-out ratings, 80% of all missing: at least 5 times less squared error."""
    V = planted(400, 60, 3)
    rng = np.random.default_rng(3)
    kept = rng.random(V.shape) < 0.2
    held = kept & (rng.random(V.shape) < 0.1)
    rows, columns = np.nonzero(kept & ~held)
    ratings = sp.csr_array((V[rows, columns], (rows, columns)), shape=V.shape)
    errors = []
    for missing in ("zeros", None):
        fit = dnmf.fit(ratings, 3, loss=loss, missing=missing, seed=0, tol=1e-5, alpha_W=1e-4)
        WH = np.asarray(fit.W) @ np.asarray(fit.H)
        errors.append(float(np.sum((WH - V)[held] ** 2)))
    assert 5 * errors[0] < errors[1]


@pytest.mark.parametrize("loss", LOSSES)
def test_transform_leaves_missing_entries_out(loss: str) -> None:
    V = planted()
    fit = dnmf.fit(V, 4, loss=loss, seed=0, tol=1e-7)
    holed, lost = with_holes(V)
    W = np.asarray(dnmf.transform(holed, fit, missing="nan"))
    error = np.linalg.norm((W @ np.asarray(fit.H) - V)[lost]) / np.linalg.norm(V[lost])
    assert error < 0.05
    with pytest.raises(InputError, match="NaN"):
        dnmf.transform(holed, fit)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_dead_components_are_revived(loss: str, weighted: bool) -> None:
    """A row of H that starts at zero comes back from a badly fitted row, and is of use."""
    V = planted()
    holed, lost = with_holes(V)
    H = np.random.default_rng(0).random((5, 40))
    H[1] = 0
    how: dict[str, Any] = {"weights": np.where(lost, 0.0, 2.0)} if weighted else {"missing": "nan"}
    fit = dnmf.fit(holed, init=H, loss=loss, seed=0, tol=1e-7, max_passes=150, **how)
    assert sum(row["revived"] for row in fit.history) >= 1
    assert np.asarray(fit.W).max(axis=0).min() > 0
    WH = np.asarray(fit.W) @ np.asarray(fit.H)
    assert np.linalg.norm((WH - V)[lost]) < 0.05 * np.linalg.norm(V[lost])


def test_without_room_for_gram_matrices_of_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Diagonals and rank one go much further in 20 passes than multiplicative steps."""
    V = planted(400, 60, 5)
    holed, _ = with_holes(V, 0.8)
    options: dict[str, Any] = {"missing": "nan", "seed": 1, "max_passes": 20, "tol": 0, "sample": 0}
    errors = {}
    for name in ("exact", "rank one", "multiplicative"):
        if name == "multiplicative":
            monkeypatch.setattr(
                MaskedFrobenius, "_extrapolated", lambda self, wide, old: (old, 0.0)
            )
        whole = limits.current().losses.curvature_bytes if name == "exact" else 0
        with limits.using(losses={"curvature_bytes": whole}):
            fit = dnmf.fit(holed, 5, **options)
        accepted = [row["objective"] for row in fit.history if row["accepted"]]
        assert (np.diff(accepted) <= 1e-9 * accepted[0]).all()
        errors[name] = fit.relative_error
    assert errors["exact"] < errors["rank one"] < 0.6 * errors["multiplicative"], errors


@pytest.mark.parametrize("loss", LOSSES)
def test_what_float32_cannot_hold_is_refused_without_a_warning(loss: str) -> None:
    V = with_holes(planted())[0]
    V[2, 3] = 1e300
    for options in ({"missing": "nan"}, {"weights": np.ones(V.shape)}):
        with pytest.raises(InputError, match=r"V\[2, 3\] is infinite .*computing in float32"):
            dnmf.fit(
                np.nan_to_num(V) if "weights" in options else V,
                2,
                loss=loss,
                dtype="float32",
                **options,
            )
