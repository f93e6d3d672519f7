"""Penalties mean the same on a sample as on all rows: those of H are multiplied by the rows."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import dnmf
from dnmf.config import FitConfig, ModelSpec
from dnmf.fitting.kinds import race as race_work
from dnmf.fitting.models import batch
from dnmf.fitting.models.factors import start_row
from dnmf.losses import Loss
from dnmf.testing.problems import planted_poisson

OPTIONS: list[dict[str, Any]] = [
    {"alpha_W": 0.02, "alpha_H": 0.5, "l1_ratio": 1.0},
    {"alpha_W": 0.02, "alpha_H": 0.5},
    {"alpha_W": 0.02, "alpha_H": 0.2, "loss": "kullback-leibler"},
    {"alpha_W": 0.01, "alpha_H": 0.1, "l1_ratio": 1.0, "loss": "kullback-leibler"},
    {"alpha_W": 0.01, "alpha_H": 0.1, "l1_ratio": 1.0, "loss": "itakura-saito"},
]


def after_the_sample(V: np.ndarray, options: dict[str, Any]) -> tuple[float, float]:
    """The objective of the first pass over all rows, and at the end."""
    fit = dnmf.fit(V, 4, seed=0, sample_bytes=V.nbytes // 5, n_init=1, max_passes=20, **options)
    values = [row["objective"] for row in fit.history if row["accepted"]]
    return values[0], values[-1]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_sample_solves_the_same_problem(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fifth of the rows brings the fit near its end; with the penalty of all rows it does not."""
    V = planted_poisson(2000, 40, 4, dtype="float64").V + 0.2
    first, last = after_the_sample(V, options)
    assert first <= 1.03 * last
    right: Callable[..., Loss] = batch.loss_of

    def wrong(plan: Any, rows: int, *more: Any, **named: Any) -> Loss:
        return right(plan, plan.shape[0], *more, **named)

    for module in (batch, race_work):
        monkeypatch.setattr(module, "loss_of", wrong)
    first, last = after_the_sample(V, options)
    assert first > 1.1 * last


STRONG: list[tuple[str, float, float, float, float]] = [
    # the best of scikit-learn 1.9 from three random starts, tol=1e-8, 1000 iterations
    ("frobenius", 1e-3, 1e-3, 1.0, 24.74),
    ("frobenius", 1e-4, 1e-1, 1.0, 77.19),
    ("kullback-leibler", 1e-2, 1e-2, 0.5, 184.97),
    ("kullback-leibler", 1e-1, 1e-4, 1.0, 102.73),
]


def three_parts() -> np.ndarray:
    """300 x 40 of rank 3 and some noise: of 8 components most are not worth their penalty."""
    rng = np.random.default_rng(0)
    W, H = rng.random((300, 3)), rng.random((3, 40)) * (rng.random((3, 40)) < 0.4)
    return W @ H + 0.02 * rng.random((300, 40))


@pytest.mark.parametrize(("loss", "alpha_W", "alpha_H", "l1_ratio", "other"), STRONG)
def test_strong_penalties(
    loss: str, alpha_W: float, alpha_H: float, l1_ratio: float, other: float
) -> None:
    """Components die, stay dead, and the fit goes on to the same place from every start.

    Starts of the size of V's sums lost all components in the first H-step, and dead ones were
    given a row of unit norm, which raised the objective and ended the fit: up to 20% too high.
    """
    V, found = three_parts(), []
    options: dict[str, Any] = {"alpha_W": alpha_W, "alpha_H": alpha_H, "l1_ratio": l1_ratio}
    for seed in range(2):
        for start in ({"n_init": 1, "sample": 0}, {}):
            fit = dnmf.fit(V, 8, loss=loss, seed=seed, tol=1e-5, max_passes=300, **options, **start)
            found.append(fit.objective)
            assert "rounding" not in fit.stop_reason
    assert max(found) <= 1.005 * min(found)
    assert max(found) <= 1.005 * other


LITTLE_LEFT = [("itakura-saito", 0.1), (1.5, 30.0), (2.5, 1.0), (3.0, 3.0), (3.0, 30.0), (1.5, 1e4)]


@pytest.mark.parametrize("solver", [None, "mu"])
@pytest.mark.parametrize(("loss", "alpha"), LITTLE_LEFT)
def test_rows_and_components_that_are_worth_nothing(
    loss: str | float, alpha: float, solver: str | None
) -> None:
    """Rows of zeros began anew in every pass, which raised the objective and ended the fit.

    And components shrank through numbers whose quotients left the range, which was refused.
    """
    rng = np.random.default_rng(0)
    V = rng.poisson(3 * rng.gamma(0.5, size=(60, 4)) @ rng.gamma(0.5, size=(4, 20))) + 0.0
    V += 0.5 * (loss == "itakura-saito")
    for seed in range(2):
        options: dict[str, Any] = {"alpha_W": alpha, "l1_ratio": 1.0, "solver": solver}
        fit = dnmf.fit(V, 3, loss=loss, seed=seed, tol=1e-6, max_passes=40, **options)
        assert fit.objective is not None
        assert "rounding" not in str(fit.stop_reason)
        if isinstance(loss, float):
            nothing = np.sum(V**loss) / (loss * (loss - 1))
            assert fit.objective <= nothing * (1 + 1e-12)
            assert (fit.objective < 0.99 * nothing) == (alpha < 10)
        assert np.isfinite(fit.W[:]).all()
        assert np.isfinite(fit.H[:]).all()


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
@pytest.mark.parametrize("exponent", [-20, 20])
def test_penalties_that_scale_with_v(loss: str, exponent: int) -> None:
    """V s, W sqrt(s) and H sqrt(s) are the same problem if the penalties are scaled as it needs."""
    V, s, power = three_parts(), 2.0**exponent, 2 if loss == "frobenius" else 1
    options: dict[str, Any] = {"loss": loss, "l1_ratio": 1.0, "seed": 0}
    one = dnmf.fit(V, 6, alpha_W=1e-3, **options)
    other = dnmf.fit(V * s, 6, alpha_W=1e-3 * s ** (power - 0.5), **options)
    assert other.objective / s**power == pytest.approx(one.objective, rel=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_start_has_the_size_that_penalties_allow(weighted: bool) -> None:
    """W and H alike make k products of V's mean; the one that costs more is the smaller one."""
    config = FitConfig((ModelSpec(4, 0),), alpha_W=1e-2, l1_ratio=1.0)
    profile, rows = (np.full(5, 9.0), 1) if weighted else (np.full(5, 900.0), 100)
    plan: Any = SimpleNamespace(config=config, axis="rows", shape=(9, 5), all_columns=5, all_rows=9)
    np.testing.assert_allclose(start_row(plan, profile, rows, 4), 1.5)
    plan.config = config.replace(alpha_H=1.0)
    np.testing.assert_allclose(start_row(plan, profile, rows, 4), 0.15)
    plan.config = config.replace(alpha_W=0.0)
    assert start_row(plan, profile, rows, 4) is profile
