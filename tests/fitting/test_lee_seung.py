"""`solver="mu"` is the two update rules of Lee and Seung (2001), step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import dnmf


def rules(loss: str, V: np.ndarray, W: np.ndarray, H: np.ndarray, steps: int) -> np.ndarray:
    """W H after so many updates of W, with one of H between two of them, from the formulas."""
    for step in range(steps):
        if step and loss == "frobenius":
            H = H * (W.T @ V) / (W.T @ W @ H)
        elif step:
            H = H * (W.T @ (V / (W @ H))) / W.sum(axis=0)[:, None]
        if loss == "frobenius":
            W = W * (V @ H.T) / (W @ H @ H.T)
        else:
            W = W * ((V / (W @ H)) @ H.T) / H.sum(axis=1)
    return W @ H


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
def test_every_step_is_the_formula(loss: str, sparse: bool) -> None:
    rng = np.random.default_rng(0)
    V = rng.poisson(2.0, (60, 20)).astype(float)
    V[V.sum(axis=1) == 0, 0] = 1
    W, H = rng.random((60, 3)) + 0.1, rng.random((3, 20)) + 0.1
    given: dict[str, Any] = {"init": H, "init_W": W, "solver": "mu", "loss": loss, "tol": 0}
    X = sp.csr_array(V) if sparse else V
    for steps in (1, 2, 3, 7):
        fit = dnmf.fit(X, seed=0, max_passes=steps, block_size=2000, **given)
        assert len(fit.history) == steps
        found = np.asarray(fit.W) @ np.asarray(fit.H)
        np.testing.assert_allclose(found, rules(loss, V, W, H, steps), rtol=1e-9)


def test_other_solvers_are_other_rules() -> None:
    """Hierarchical least squares is a rule of its own; so is the loss's own for counts."""
    V = np.random.default_rng(0).poisson(2.0, (60, 20)).astype(float)
    for loss, names in (("frobenius", ("hals", "mu")), ("kullback-leibler", (None, "mu"))):
        H = np.random.default_rng(1).random((3, 20)) + 0.1
        given: dict[str, Any] = {"init": H, "loss": loss, "tol": 0, "max_passes": 5}
        one, other = (dnmf.fit(V, seed=0, solver=name, **given).objective for name in names)
        assert one < other
    default, hals = (dnmf.fit(V, 3, seed=0, solver=name).H for name in (None, "hals"))
    np.testing.assert_array_equal(np.asarray(default), np.asarray(hals))
