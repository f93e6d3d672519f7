"""What CONTRIBUTING.md prints is added as it stands, and works with nothing else touched."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from extending_tools import printed, printed_module, register

import dnmf
from dnmf import losses
from dnmf.errors import OptionError
from dnmf.testing.loss_contract import LossContract


@pytest.fixture
def hellinger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module and its line in the registry."""
    (tmp_path / "hellinger.py").write_text(printed("dnmf/losses/hellinger.py"), encoding="utf-8")
    monkeypatch.setattr(losses, "__path__", [*losses.__path__, str(tmp_path)])
    register(losses.LOSSES, "hellinger", monkeypatch)
    yield
    sys.modules.pop("dnmf.losses.hellinger", None)
    vars(losses).pop("hellinger", None)


@pytest.mark.usefixtures("hellinger")
class TestHellinger(printed_module("tests/losses/test_hellinger.py").TestHellinger):  # type: ignore[misc]
    """Its contract, as printed."""

    def test_this_is_the_contract(self) -> None:
        assert isinstance(self, LossContract)


def counts() -> np.ndarray:
    rng = np.random.default_rng(0)
    W, H = rng.gamma(0.5, size=(300, 3)), rng.gamma(0.5, size=(3, 40))
    return rng.poisson(5 * W @ H).astype(np.float64)


def distance(V: np.ndarray, fit: Any) -> float:
    return float(np.sum((np.sqrt(V) - np.sqrt(np.asarray(fit.W) @ np.asarray(fit.H))) ** 2))


@pytest.mark.usefixtures("hellinger")
@pytest.mark.parametrize("penalties", [{}, {"alpha_W": 0.01, "alpha_H": 0.02, "l1_ratio": 0.5}])
def test_a_fit_with_an_added_loss_is_what_it_says(penalties: dict[str, float]) -> None:
    """Its objective is the definition's; it falls, by an optimum that least squares has not."""
    V = counts()
    fit = dnmf.fit(V, 3, loss="hellinger", seed=0, tol=1e-3, n_init=1, **penalties)
    W, H, share = np.asarray(fit.W), np.asarray(fit.H), penalties.get("l1_ratio", 0.0)
    expected = distance(V, fit)
    for X, alpha, size in ((W, "alpha_W", V.shape[1]), (H, "alpha_H", V.shape[0])):
        cost = share * X.sum() + 0.5 * (1 - share) * np.sum(X**2)
        expected += penalties.get(alpha, 0.0) * size * float(cost)
    assert fit.objective == pytest.approx(expected, rel=1e-9)
    accepted = [row["objective"] for row in fit.history if row["accepted"]]
    assert (np.diff(accepted) <= 1e-9 * accepted[0]).all()
    assert fit.passes < 200  # it converged
    other = dnmf.fit(V, 3, seed=0, tol=1e-4, **penalties)
    assert distance(V, fit) < 0.99 * distance(V, other) or penalties


@pytest.mark.usefixtures("hellinger")
def test_an_added_loss_goes_through_every_way_of_fitting(tmp_path: Path) -> None:
    V = counts()
    options: dict[str, Any] = {
        "loss": "hellinger",
        "seed": 0,
        "tol": 0,
        "max_passes": 10,
        "n_init": 1,
    }
    whole = dnmf.fit(V, 3, **options)
    sparse = dnmf.fit(sp.csr_array(V), 3, **options)
    assert sparse.objective == pytest.approx(whole.objective, rel=1e-4)
    stored = dnmf.fit(V, 3, out=tmp_path / "run", normalize="components", **options)
    np.testing.assert_allclose(np.asarray(stored.H).sum(axis=1), 1.0)
    assert distance(V, dnmf.open(tmp_path / "run")) == pytest.approx(whole.objective, rel=1e-6)
    WH = np.asarray(dnmf.transform(V, stored)) @ np.asarray(stored.H)
    assert np.sum((np.sqrt(V) - np.sqrt(WH)) ** 2) <= whole.objective * (1 + 1e-6)
    fixed = dnmf.fit(V, 3, fixed_H=np.asarray(stored.H)[:1], **options)
    np.testing.assert_allclose(np.asarray(fixed.H)[0], np.asarray(stored.H)[0])
    study = dnmf.fit_many(V, [2, 3], 2, loss="hellinger", holdout=None, max_passes=10)
    assert study.result(2).objective > study.result(3).objective


@pytest.mark.usefixtures("hellinger")
def test_what_an_added_loss_does_not_offer_is_refused() -> None:
    V = counts()
    for given, text in (
        ({"solver": "mu"}, "minimised by its default solver alone"),
        ({"missing": "nan"}, "known to the losses .* not to 'hellinger'"),
        ({"beta": 0.5}, "loss is 'hellinger', which has no beta"),
        ({"loss": "helliger"}, "must be one of .*, beta, hellinger"),
    ):
        with pytest.raises(OptionError, match=text):
            dnmf.fit(V, 3, **{"loss": "hellinger", **given})
    with pytest.raises(OptionError, match="not for loss 'hellinger'; give holdout=None"):
        dnmf.fit_many(V, [2], loss="hellinger")
