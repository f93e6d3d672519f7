"""Small non-negative least squares: right, independent by row, free of scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import nnls

from dnmf.init.random import random_H
from dnmf.linalg.hals import ROWS_AT_ONCE, cold_start, solve_rows
from dnmf.losses.least_squares import least_curvature
from dnmf.testing.problems import planted_poisson

SIZES = st.tuples(st.integers(1, 7), st.integers(1, 5), st.integers(1, 9))


def _problem(m, k, d, seed, dtype="float64"):
    """V, H and what solve_rows takes of them; H has full row rank where d >= k."""
    rng = np.random.default_rng([seed, m, k, d])
    H = rng.gamma(0.7, size=(k, d)).astype(dtype)
    V = (rng.gamma(0.7, size=(m, d)) * (rng.random((m, d)) < 0.7)).astype(dtype)
    return V, H, V @ H.T, H @ H.T, np.sum(V.astype(float) ** 2, axis=1)


def _objective(V, W, H):
    return 0.5 * np.sum((V - W @ H) ** 2, axis=1)


@given(SIZES, st.integers(0, 10**6), st.booleans())
@settings(max_examples=60, deadline=None)
def test_agrees_with_scipys_active_set_method(sizes, seed, cold):
    V, H, C, G, sumsq = _problem(*sizes, seed)
    W = cold_start(C, G) if cold else np.zeros_like(C)
    solve_rows(W, C, G, sumsq, tau=1e-10, max_sweeps=20_000, exact=True)  # sweeps may crawl
    best = np.array([nnls(H.T, v)[1] for v in V])
    assert (W >= 0).all()
    np.testing.assert_allclose(
        np.sqrt(2 * _objective(V, W, H)), best, rtol=1e-5, atol=1e-6 * np.sqrt(sumsq.max())
    )


@given(SIZES, st.integers(0, 10**6), st.booleans())
@settings(max_examples=60, deadline=None)
def test_sweeps_alone_agree_with_scipy_where_components_are_not_parallel(sizes, seed, cold):
    V, H, C, G, sumsq = _problem(*sizes, seed)
    assume(least_curvature(G) > 1e-3)
    W = cold_start(C, G) if cold else np.zeros_like(C)
    solve_rows(W, C, G, sumsq, tau=1e-10, max_sweeps=20_000)
    best = np.array([nnls(H.T, v)[1] for v in V])
    assert (W >= 0).all()
    np.testing.assert_allclose(
        np.sqrt(2 * _objective(V, W, H)), best, rtol=1e-5, atol=1e-6 * np.sqrt(sumsq.max())
    )


def test_one_component_has_a_closed_form():
    C = np.array([[3.0], [0.0], [-2.0]])
    W = np.ones((3, 1))
    found = solve_rows(W, C, np.array([[4.0]]), np.array([9.0, 1.0, 4.0]), tau=1e-2)
    assert W.ravel().tolist() == [0.75, 0.0, 0.0]
    np.testing.assert_allclose(found.residual_sumsq, [9 - 9 / 4, 1, 4])
    assert (found.cross, found.total, found.sumsq, found.kkt) == (2.25, 0.75, 0.5625, 0.0)


def test_orthogonal_components_need_one_sweep_and_one_to_see_it():
    C = np.array([[2.0, 6.0], [-1.0, 3.0]])
    W = np.zeros_like(C)
    found = solve_rows(W, C, np.diag([2.0, 3.0]), np.array([50.0, 50.0]), tau=0.0)
    assert W.tolist() == [[1.0, 2.0], [0.0, 1.0]]
    assert found.sweeps == 4


def test_l1_is_added_to_the_gradient():
    W = np.zeros((2, 2))
    C = np.array([[2.0, 6.0], [0.5, 3.0]])
    solve_rows(W, C, np.diag([2.0, 3.0]), np.array([50.0, 50.0]), tau=0.0, l1=1.0)
    np.testing.assert_allclose(W, [[0.5, 5 / 3], [0.0, 2 / 3]])


@given(SIZES, st.integers(0, 10**6), st.sampled_from(["float32", "float64"]))
@settings(max_examples=40, deadline=None)
def test_the_objective_never_rises_from_sweep_to_sweep(sizes, seed, dtype):
    V, H, C, G, sumsq = _problem(*sizes, seed, dtype)
    W = np.random.default_rng(seed).gamma(1.0, size=C.shape).astype(dtype)
    before = _objective(V.astype(float), W.astype(float), H.astype(float))
    for _ in range(6):
        start = np.sum((W.astype(float) @ H) ** 2, axis=1)  # what float32 rounds relative to
        solve_rows(W, C, G, sumsq, tau=0.0, max_sweeps=1)
        after = _objective(V.astype(float), W.astype(float), H.astype(float))
        slack = 50 * np.finfo(dtype).eps * (sumsq + start)
        assert (after <= before + slack).all()
        before = after


@given(SIZES, st.integers(0, 10**6), st.sampled_from(["float32", "float64"]))
@settings(max_examples=40, deadline=None)
def test_a_rows_bits_depend_on_nothing_but_the_row(sizes, seed, dtype):
    _, _, C, G, sumsq = _problem(*sizes, seed, dtype)
    start = np.random.default_rng(seed).gamma(1.0, size=C.shape).astype(dtype)
    together = start.copy()
    all_rows = solve_rows(together, C, G, sumsq, tau=1e-3)
    backwards = start[::-1].copy()
    solve_rows(backwards, C[::-1].copy(), G, sumsq[::-1].copy(), tau=1e-3)
    assert backwards[::-1].tobytes() == together.tobytes()
    for i in range(len(C)):
        alone = start[i : i + 1].copy()
        row = solve_rows(alone, C[i : i + 1], G, sumsq[i : i + 1], tau=1e-3)
        assert alone.tobytes() == together[i : i + 1].tobytes()
        assert row.residual_sumsq[0] == all_rows.residual_sumsq[i]


@pytest.mark.parametrize("power", [-40, -20, 20, 40])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scaling_v_scales_the_bits(power, dtype):
    _, _, C, G, sumsq = _problem(40, 4, 12, 0, dtype)
    scale = 2.0**power
    plain, scaled = np.zeros_like(C), np.zeros_like(C)
    before = solve_rows(plain, C, G, sumsq, tau=1e-2)
    after = solve_rows(scaled, C * C.dtype.type(scale), G, sumsq * scale**2, tau=1e-2)
    assert after.sweeps == before.sweeps
    assert scaled.tobytes() == (plain * C.dtype.type(scale)).tobytes()


@pytest.mark.parametrize("power", [-20, 20])
def test_scaling_h_scales_the_bits_the_other_way(power):
    _, _, C, G, sumsq = _problem(40, 4, 12, 1)
    scale = 2.0**power
    plain, scaled = np.zeros_like(C), np.zeros_like(C)
    solve_rows(plain, C, G, sumsq, tau=1e-2)
    solve_rows(scaled, C * scale, G * scale**2, sumsq, tau=1e-2)
    assert (scaled * scale).tobytes() == plain.tobytes()


def test_a_warm_start_is_cheap():
    _, _, C, G, sumsq = _problem(200, 6, 30, 2)
    W = np.zeros_like(C)
    cold = solve_rows(W, C, G, sumsq, tau=1e-6, max_sweeps=5000).sweeps
    warm = solve_rows(W, C, G, sumsq, tau=1e-2).sweeps
    assert warm == len(C) < cold  # one sweep per row to see that it is there


def test_a_cold_start_needs_fewer_sweeps_than_zero():
    problem = planted_poisson(n=300, d=120, k=6, dtype="float64")
    H = random_H(0, 0, 6, 0, problem.V.sum(axis=0), "float64")
    C, G, sumsq = problem.V @ H.T, H @ H.T, np.sum(problem.V**2, axis=1)
    zero, cold = np.zeros_like(C), cold_start(C, G)
    from_zero = solve_rows(zero, C, G, sumsq, tau=1e-2).sweeps
    from_cold = solve_rows(cold, C, G, sumsq, tau=1e-2).sweeps
    assert from_cold < from_zero / 3
    assert _objective(problem.V, cold, H).sum() <= 1.001 * _objective(problem.V, zero, H).sum()


def test_a_tighter_tolerance_ends_nearer():
    V, H, C, G, sumsq = _problem(100, 8, 20, 4)
    errors = []
    for tau in (1e-1, 1e-2, 1e-4):
        W = np.zeros_like(C)
        solve_rows(W, C, G, sumsq, tau=tau, max_sweeps=5000)
        errors.append(float(_objective(V, W, H).sum()))
    assert errors[0] > errors[1] > errors[2]


def test_the_bound_on_sweeps_holds_for_every_row():
    _, _, C, G, sumsq = _problem(30, 6, 7, 5)
    W = np.zeros_like(C)
    assert solve_rows(W, C, G, sumsq, tau=0.0, max_sweeps=3).sweeps <= 90


@given(SIZES, st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_the_sums_are_of_the_solution(sizes, seed):
    V, H, C, G, sumsq = _problem(*sizes, seed)
    W = np.zeros_like(C)
    found = solve_rows(W, C, G, sumsq, tau=1e-3)
    gradient = W @ G - C
    step = W - np.maximum(0, W - gradient / np.diag(G))
    atol = 1e-10 * sumsq.sum()
    np.testing.assert_allclose(found.residual_sumsq, 2 * _objective(V, W, H), atol=atol)
    np.testing.assert_allclose(found.cross, np.sum(C * W), atol=atol)
    np.testing.assert_allclose(found.total, W.sum(), atol=1e-12 + 1e-12 * W.sum())
    np.testing.assert_allclose(found.sumsq, np.sum(W * W), atol=1e-12 + 1e-12 * np.sum(W * W))
    np.testing.assert_allclose(found.kkt, np.sum(np.diag(G) * step**2), atol=atol)


def test_a_component_of_zeros_gets_zero_weights():
    _, H, _, _, _ = _problem(5, 3, 6, 6)
    H[1] = 0
    V = np.random.default_rng(0).random((5, 6))
    for start in (np.ones((5, 3)), cold_start(V @ H.T, H @ H.T)):
        solve_rows(start, V @ H.T, H @ H.T, np.sum(V**2, axis=1), tau=1e-6)
        assert not start[:, 1].any()
        assert start[:, [0, 2]].any()


def test_rows_of_zeros_end_at_zero_from_any_start():
    _, _, C, G, sumsq = _problem(4, 3, 8, 7)
    C[2], sumsq[2] = 0, 0
    W = np.ones_like(C)
    found = solve_rows(W, C, G, sumsq, tau=1e-2)
    assert not W[2].any()
    assert found.residual_sumsq[2] == 0
    assert np.isfinite([found.cross, found.kkt]).all()


def test_equal_components_share_without_blowing_up():
    H = np.tile(np.random.default_rng(0).random(6), (3, 1))  # G has rank 1
    V = np.random.default_rng(1).random((20, 6))
    C, G = V @ H.T, H @ H.T
    for W in (np.zeros_like(C), cold_start(C, G)):
        solve_rows(W, C, G, np.sum(V**2, axis=1), tau=1e-6, max_sweeps=2000)
        np.testing.assert_allclose(W.sum(axis=1), C[:, 0] / G[0, 0], rtol=1e-6)


def test_a_cold_start_of_nothing_is_zero():
    assert not cold_start(np.zeros((3, 2)), np.zeros((2, 2))).any()


@given(hnp.arrays("f8", (4, 3), elements=st.floats(0, 10)), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_only_w_changes(C, seed):
    _, _, _, G, _ = _problem(4, 3, 8, seed)
    sumsq = np.full(4, 100.0)
    copies = C.copy(), G.copy(), sumsq.copy()
    for array in (C, G, sumsq):
        array.flags.writeable = False
    solve_rows(np.zeros_like(C), C, G, sumsq, tau=1e-2)
    for array, copy in zip((C, G, sumsq), copies, strict=True):
        assert array.tobytes() == copy.tobytes()


@given(SIZES, st.integers(0, 10**6), st.floats(0, 3))
@settings(max_examples=40, deadline=None)
def test_gain_and_start_kkt_are_what_they_say(sizes, seed, l1):
    V, H, C, G, sumsq = _problem(*sizes, seed)
    start = np.random.default_rng(seed).gamma(1.0, size=C.shape)
    W = start.copy()
    W[:, np.diag(G) == 0] = start[:, np.diag(G) == 0] = 0
    found = solve_rows(W, C, G, sumsq, tau=1e-2, l1=l1)
    before, after = (_objective(V, X, H).sum() + l1 * X.sum() for X in (start, W))
    np.testing.assert_allclose(found.gain, before - after, rtol=1e-9, atol=1e-11 * (1 + before))
    gradient = start @ G - C + l1
    step = start - np.maximum(0, start - gradient / np.where(np.diag(G) > 0, np.diag(G), 1))
    np.testing.assert_allclose(found.start_kkt, np.sum(np.diag(G) * step**2), rtol=1e-9)


def _row_by_row(W, C, G, sumsq, tau):
    """What `solve_rows` documents, one row after the other, with the same operations in turn."""
    one, taken = W.dtype.type, 0
    for w, c, size in zip(W, C, sumsq, strict=True):
        w[np.diag(G) == 0] = 0
        g = -c
        for j in range(w.size):
            g += w[j] * G[j]
        while True:
            taken, moved = taken + 1, 0.0
            for j in np.flatnonzero(np.diag(G)):
                new = max(w[j] - g[j] * (one(1) / G[j, j]), one(0))
                delta = new - w[j]
                w[j] = new
                g += delta * G[j]
                moved += float(G[j, j]) * float(delta) ** 2
            left = size + float(w.astype(float) @ (g.astype(float) - c))
            if moved <= tau**2 * max(left, float(np.finfo(W.dtype).eps) * size):
                break
    return taken


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [1, 4, 6])
def test_rows_side_by_side_are_rows_one_by_one_bit_for_bit(dtype, k):
    """More rows than go at once, and not a whole number of them; a component that is nothing."""
    V, H, C, G, sumsq = _problem(2 * ROWS_AT_ONCE + 5, k, 9, 1, dtype)
    if k == 6:
        H[2] = 0
        C, G = V @ H.T, H @ H.T
    W = np.random.default_rng(2).gamma(1.0, size=C.shape).astype(dtype)
    alone = W.copy()
    found = solve_rows(W, C, G, sumsq, tau=1e-2)
    assert found.sweeps == _row_by_row(alone, C, G, sumsq, 1e-2)
    assert np.array_equal(W, alone)
    assert found.sweeps > 2 * len(W) or k == 1  # rows need different numbers of sweeps
    residual = V.astype(float) - W.astype(float) @ H.astype(float)
    atol = 1e-5 * sumsq.max() if dtype == "float32" else 0
    np.testing.assert_allclose(found.residual_sumsq, np.sum(residual**2, axis=1), atol=atol)
    np.testing.assert_allclose(found.cross, np.sum(C.astype(float) * W), rtol=1e-9)
    np.testing.assert_allclose(found.sumsq, np.sum(W.astype(float) ** 2), rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_denormal_diagonal_counts_as_zero(dtype):
    """Its inverse is infinite: the coordinate became infinite, and its sums NaN."""
    tiny = np.finfo(dtype).tiny
    G = np.array([[2.0, 0.0], [0.0, tiny / 2**20]], dtype)
    W, C = np.ones((3, 2), dtype), np.array([[4.0, 1.0], [0.0, 0.0], [2.0, 3.0]], dtype)
    found = solve_rows(W, C, G, np.array([9.0, 1.0, 4.0]), tau=1e-2)
    assert W.tolist() == [[2.0, 0.0], [0.0, 0.0], [1.0, 0.0]]
    assert np.isfinite([found.cross, found.total, found.sumsq, found.kkt, found.gain]).all()
