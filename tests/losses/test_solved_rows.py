"""Rows that a transform solves are at their optimum, however much the rows of H have in common.

Rows of H are peaks on one background: the larger it is, the nearer to one line they are. What
SciPy finds, from an even start and from what was found, is not better by more than 1e-6 (1e-3 in
float32) of the objective.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from row_reference import Row
from scipy.optimize import nnls

import dnmf
from dnmf.losses import LossLimits, get_loss
from dnmf.losses.values import Block
from dnmf.planning.limits import using
from dnmf.steps.events import Notice

D, K, ROWS = 40, 5, 8
BACKGROUNDS = {30: 4.0, 1e3: 150.0, 1e6: 1.5e5}
TOLERANCE = {"float32": 1e-3, "float64": 1e-6}
VARIANTS = ("dense", "csr", "l1", "l2", "both", "weights", "missing")


def peaks(background: float, k: int = K) -> np.ndarray:
    x, centers = np.arange(D), np.linspace(3, D - 4, k)
    H = np.exp(-0.5 * ((x - centers[:, None]) / 2.5) ** 2) + background
    return H / np.linalg.norm(H, axis=1)[:, None]


def problem(beta: float, background: float, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(int(10 * beta) + 1)
    H = peaks(background)
    W = rng.gamma(1.0, size=(ROWS, K)) * (rng.random((ROWS, K)) < 0.6) * 300 + 1.0
    Y = W @ H
    V = rng.gamma(20.0, Y / 20.0) if beta < 1 else rng.poisson(Y).astype(float)
    return V.astype(dtype), H.astype(dtype)


def solved(variant: str, V: np.ndarray, H: np.ndarray, beta: float) -> tuple[Any, Any, dict]:
    """Return W, the weights of all entries, and l1 and l2."""
    rng, m, options = np.random.default_rng(7), np.ones(V.shape), {}
    alpha, given = 0.02, V
    if variant in ("l1", "l2", "both"):
        options = {"alpha_W": alpha, "l1_ratio": {"l1": 1.0, "l2": 0.0, "both": 0.5}[variant]}
    if variant == "csr":
        given = sp.csr_array(V)
    if variant == "weights":
        m = rng.gamma(2.0, size=V.shape).astype(V.dtype)
        options["weights"] = m
    if variant == "missing":
        m[rng.random(V.shape) < 0.3] = 0
        given, options["missing"] = np.where(m > 0, V, np.nan).astype(V.dtype), "nan"
    W = dnmf.transform(given, H, beta=beta, **options)
    l1 = D * alpha * options.get("l1_ratio", 0.0) if "alpha_W" in options else 0.0
    l2 = D * alpha * (1 - options["l1_ratio"]) if "alpha_W" in options else 0.0
    return W, m.astype(float), {"l1": l1, "l2": l2}


CASES = [
    (beta, variant)
    for beta in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
    for variant in VARIANTS
    if beta in (1.0, 2.0) or variant not in ("weights", "missing")
    if beta or variant != "csr"
]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("beta", "variant"), CASES)
def test_no_row_is_worse_than_what_scipy_finds(beta: float, variant: str, dtype: str) -> None:
    for condition, background in BACKGROUNDS.items():
        V, H = problem(beta, background, dtype)
        assert np.linalg.cond(H.astype(float)) == pytest.approx(condition, rel=0.5)
        W, m, penalties = solved(variant, V, H, beta)
        assert W.dtype == dtype
        for i in (0, 5):
            row, w = Row(V[i], H, m[i], beta, **penalties), np.asarray(W[i], float)
            found = row(w)[0]
            even = np.full(K, V[i].sum() / H.sum(dtype=float))
            best = min(row.best(even), row.best(w + 1e-3 * even))
            assert found <= best * (1 + TOLERANCE[dtype]), (condition, i)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("sparse", [False, True])
def test_W_of_least_squares_is_that_of_scipy(sparse: bool, dtype: str) -> None:
    """also where only residuals have the digits that tell W"""
    rng = np.random.default_rng(0)
    for background in BACKGROUNDS.values():
        H = peaks(background).astype(dtype)
        W = rng.gamma(1.0, size=(20, K)) * (rng.random((20, K)) < 0.6)
        V = (W @ H.astype(float)).astype(dtype)
        found = dnmf.transform(sp.csr_array(V) if sparse else V, H)
        right = np.stack([nnls(H.T.astype(float), v.astype(float))[0] for v in V])
        np.testing.assert_allclose(found, right, atol=TOLERANCE[dtype] * right.max())


@pytest.mark.parametrize("beta", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("rows", ["twice", "zeros", "k > d"])
def test_rows_of_a_singular_H_are_solved(beta: float, rows: str) -> None:
    rng = np.random.default_rng(3)
    H = rng.gamma(1.0, size=(44 if rows == "k > d" else 4, D))
    H = np.concatenate([H, H[:2]]) if rows == "twice" else H
    if rows == "zeros":
        H[1] = 0
    V = rng.poisson(rng.gamma(1.0, size=(6, len(H))) @ H).astype(float)
    V[2] = 0
    told: list[Any] = []
    W = dnmf.transform(V, H, beta=beta, on_event=told.append)
    assert not [event for event in told if isinstance(event, Notice)]
    assert not W[2].any()
    for i in (0,):
        row = Row(V[i], H, np.ones(D), beta, 0.0, 0.0)
        even = np.full(len(H), V[i].sum() / H.sum())
        value, slope = row(W[i])
        assert value <= row.best(even) * (1 + 1e-6) + 1e-9 * V[i].sum()
        assert slope.min() > -1e-6 * np.abs(H).sum()


def test_what_a_step_cannot_solve_is_told_and_kept(tmp_path: Any) -> None:
    """from a limit of one exact step: three rows are far, one of zeros is not"""
    V, H = problem(1.0, BACKGROUNDS[1e6], "float64")
    V[3] = 0
    told: list[Any] = []
    few = {"exact_steps": 1, "kl_patient_steps": 1}
    with using(losses=few):
        dnmf.transform(V, H, loss="kullback-leibler", out=tmp_path / "W", on_event=told.append)
    notices = [event.text for event in told if isinstance(event, Notice)]
    assert len(notices) == 1
    assert "of 8 rows of W are not solved, the first is row 0" in notices[0]
    result = dnmf.open(tmp_path / "W")
    count = int(notices[0].split()[0])
    assert 0 < count < ROWS
    assert result.inspect()["open_rows"] == count
    assert result.stop_reason == notices[0]
    whole = dnmf.transform(V, H, loss="kullback-leibler", out=tmp_path / "whole")
    assert whole.shape == (ROWS, K)
    assert dnmf.open(tmp_path / "whole").inspect()["open_rows"] == 0


@pytest.mark.parametrize(
    ("name", "options"),
    [("itakura-saito", {}), ("beta", {"beta": 3.0}), ("kullback-leibler", {"masked": True})],
)
def test_a_loss_says_which_rows_are_open(name: str, options: dict[str, Any]) -> None:
    V, H = problem(0.0, BACKGROUNDS[1e3], "float64")
    block = Block(V, 0, np.stack([V.sum(axis=1), (V**2).sum(axis=1)]))
    few = LossLimits(exact_steps=1, beta_patient_steps=1, kl_patient_steps=1)
    for limits, everything in ((few, False), (LossLimits(), True)):
        loss = get_loss(name, limits=limits, **options)
        found = loss.solve(block, loss.prepare(H, False))
        assert found.is_open.shape == (ROWS,)
        assert bool(found.is_open.any()) != everything
