"""Rounds on a compressed V: what the model promises is the objective, where it must be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnmf.losses import get_loss
from dnmf.losses.compressed import Alternation, RoundSums, basis, solve_round
from dnmf.losses.values import NO_PENALTIES, Penalties

PENALTIES = Penalties(0.3, 0.2, 0.4, 0.1)


def problem(seed: int, n: int = 60, d: int = 24, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    V = rng.gamma(0.5, size=(n, k)) @ rng.gamma(0.5, size=(k, d)) + rng.gamma(0.3, size=(n, d))
    return V, rng.gamma(1.0, size=(k, d))


def objective(V: np.ndarray, W: np.ndarray, H: np.ndarray, penalties: Penalties) -> float:
    of_W = penalties.of_W(float(W.sum()), float(np.sum(W * W)))
    return 0.5 * float(np.sum((V - W @ H) ** 2)) + of_W + penalties.of_H(H)


def started(
    V: np.ndarray, H: np.ndarray, B: np.ndarray, penalties: Penalties = NO_PENALTIES, fixed: int = 0
) -> tuple[Alternation, Any, np.ndarray]:
    """The rounds after a pass at H: the alternation, its rows, and W of the pass."""
    loss = get_loss("frobenius", penalties, None, None, False, fixed, limits=None)
    W, Y = np.ones((len(V), len(H))), V @ B.T
    sumsq = np.sum(V * V, axis=1)
    for _ in range(20):
        solve_round(loss, W, V, H.T, H @ H.T, sumsq)
    WtV, sums = W.T @ V, solve_round(loss, W, Y, None, H @ H.T, sumsq)
    facts = sums, float(np.sum(V * V)), np.sum(V * V, axis=0)
    alternation = Alternation(loss, H, H, B, WtV, *facts)
    assert alternation.objective == pytest.approx(objective(V, W, H, penalties), rel=1e-10)
    alternation.next_H = alternation._h_step(sums, WtV, H)[0]
    rows = W.copy()

    def solve(BHt: np.ndarray, G: np.ndarray, scale: np.ndarray) -> RoundSums:
        rows[:] *= scale
        return solve_round(loss, rows, Y, BHt, G, sumsq)

    return alternation, solve, W


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_a_basis_is_orthonormal_and_spans_what_it_is_of(seed: int, k: int, earlier: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [rng.gamma(0.5, size=(k, 20)) * 10.0 ** rng.integers(-100, 100) for _ in range(3)]
    H, spans = parts[0], parts[1 : 1 + earlier]
    B = basis(H, spans)
    assert B.shape == (min(k * (1 + earlier), 20), 20)
    np.testing.assert_allclose(B @ B.T, np.eye(len(B)), atol=1e-12)
    for part in (H, *spans):
        unit = part / np.linalg.norm(part, axis=1, keepdims=True)
        np.testing.assert_allclose(unit @ B.T @ B, unit, atol=1e-9)


@pytest.mark.parametrize("penalties", [NO_PENALTIES, PENALTIES], ids=["plain", "penalties"])
def test_at_w_of_the_pass_the_model_is_the_objective_for_every_h(penalties: Penalties) -> None:
    V, H = problem(0)
    B = basis(H, [])  # as small as it may be
    model, _, W = started(V, H, B, penalties)
    sums = RoundSums(W.T @ W, W.T @ (V @ B.T), W.sum(axis=0))
    T = sums.WtY @ B + model._C
    for seed in range(5):
        other = np.random.default_rng(seed).gamma(0.7, size=H.shape)
        wanted = objective(V, W, other, penalties)
        assert model._objective(sums, T, other) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("penalties", [NO_PENALTIES, PENALTIES], ids=["plain", "penalties"])
def test_where_the_basis_spans_all_rounds_keep_what_they_promise(penalties: Penalties) -> None:
    """Then the compressed V is V: what is predicted is what W and H make of it."""
    V, H = problem(1)
    B = basis(H, [np.eye(24)])
    assert len(B) == 24
    model, solve, _ = started(V, H, B, penalties)
    found = model.run(solve, 40, 0.01)
    assert found.rounds > 3
    W = np.ones((len(V), len(H)))
    for _ in range(400):
        solve_round(model.loss, W, V, found.H.T, found.H @ found.H.T, np.sum(V * V, axis=1))
    reached = objective(V, W, found.H, penalties)
    assert reached <= found.objective * (1 + 1e-6)
    assert reached == pytest.approx(found.objective, rel=2e-3)
    assert reached < model.objective


def test_an_optimum_stays_where_it_is() -> None:
    """A fixed point of the model is one of the objective, and the other way round."""
    V, H = problem(2, 30, 12, 2)
    for _ in range(400):
        model, _, _W = started(V, H, basis(H, []))
        if np.max(np.abs(model.next_H - H)) < 1e-12 * H.max():
            break
        H = model.next_H
    model, solve, _ = started(V, H, basis(H, []))
    found = model.run(solve, 20, 0.01)
    scale = found.H.sum(axis=1, keepdims=True) / H.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.H / scale, H, atol=1e-4 * H.max())
    assert model.objective - found.objective < 1e-6 * model.objective


def test_columns_of_zeros_stay_zero_and_given_rows_stay_as_they_are() -> None:
    V, H = problem(3)
    V[:, [4, 11]] = 0
    H[:, [4, 11]] = 0
    first = H[0].copy()
    model, solve, _ = started(V, H, basis(H, []), fixed=1)
    found = model.run(solve, 20, 0.01)
    assert found.rounds > 0
    assert not found.H[:, [4, 11]].any()
    np.testing.assert_array_equal(found.H[0], first)


def test_rounds_end_where_h_leaves_the_basis() -> None:
    """A sample that lacks columns: rounds are not followed into them beyond the first."""
    V, H = problem(4)
    H[:, ::2] = 0
    model, solve, _ = started(V, H, basis(H, []))
    found = model.run(solve, 40, 0.01)
    assert found.rounds <= 1


def test_a_step_that_raises_the_objective_is_not_taken() -> None:
    V, H = problem(5)
    model, solve, _ = started(V, H, basis(H, []))
    model.objective = 1e-3  # nothing is as low as that
    found = model.run(solve, 20, 0.01)
    assert found.rounds == 0
    np.testing.assert_array_equal(found.H, model.next_H)
