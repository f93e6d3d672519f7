"""The fused multiplicative step of Kullback-Leibler against Lee and Seung's formula."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from marks import slow

from dnmf.linalg.kl_mu import kl_mu
from dnmf.linalg.simd import LANES
from dnmf.linalg.tiles import LINE, MOST_VECTORS, padded, padded_zeros, vectors_of


def step(V, W, H, l1=0.0, l2=0.0, moves=True):
    """Of the kernel: W, S, the rows' divergences over their nonzeros, and their fit."""
    k, d = H.shape
    tile, Wp, S = sp.csr_array(V), padded(W), padded_zeros(d, k, W.dtype)
    h_all = np.zeros(Wp.shape[1], W.dtype)
    h_all[:k] = H.sum(axis=1) + l1
    of_rows = np.empty(len(V))
    csr = tile.data, tile.indices, tile.indptr
    given = Wp, padded(H.T), h_all, l2, k, moves, S, of_rows, vectors_of(Wp.shape[1])
    kkt, fitted = kl_mu(*csr, *given)
    assert not Wp[:, k:].any()
    assert not S[:, k:].any()
    return Wp[:, :k], S[:, :k].T, of_rows, kkt, fitted


def formula(V, W, H, l1=0.0):
    """Lee and Seung (2001), theorem 2, first rule; S at the new W."""
    W = W * ((V / (W @ H)) @ H.T) / (H.sum(axis=1) + l1)
    return W, H * (W.T @ (V / (W @ H)))


def problem(seed, n, d, k, dtype=np.float64):
    rng = np.random.default_rng(seed)
    V = rng.poisson(1.0, (n, d)).astype(dtype)
    V[:, 0] += 1  # no row is empty
    return V, rng.gamma(1, size=(n, k)).astype(dtype), rng.gamma(1, size=(k, d)).astype(dtype)


@pytest.mark.parametrize("k", [1, 5, 20, *slow(16, 17, 33, 50, 64), 65, *slow(90)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_step_is_the_formula(k, dtype):
    V, W, H = problem(k, 40, 23, k, dtype)
    rtol = 1e-12 if dtype == np.float64 else 2e-5
    W_new, S_new = formula(V.astype(float), W.astype(float), H.astype(float))
    found, S, of_rows, kkt, fitted = step(V, W, H)
    np.testing.assert_allclose(found, W_new, rtol=rtol)
    np.testing.assert_allclose(S, S_new, rtol=rtol, atol=rtol * S_new.max())
    fit, some = W_new @ H, V > 0
    terms = np.where(some, fit - V + V * np.log(np.where(some, V, 1) / fit), 0)
    np.testing.assert_allclose(of_rows, terms.sum(axis=1), rtol=rtol, atol=rtol * V.sum())
    np.testing.assert_allclose(fitted, fit[some].sum(), rtol=rtol)
    g, sums = (V / fit) @ H.T, H.sum(axis=1)
    expected = np.sum((W_new * sums - W_new * g) ** 2 / (W_new * sums))
    np.testing.assert_allclose(kkt, expected, rtol=100 * rtol, atol=rtol**2 * V.sum())


def test_many_components_are_not_compiled_one_by_one():
    assert vectors_of(MOST_VECTORS * LANES) == (1,) * MOST_VECTORS
    assert vectors_of((MOST_VECTORS + 1) * LANES) == ()


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 40), st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_rows_are_independent_and_penalties_enter(seed, n, d, k):
    V, W, H = problem(seed, n, d, k)
    expected, _ = formula(V, W, H, l1=0.7)
    np.testing.assert_allclose(step(V, W, H, l1=0.7)[0], expected, rtol=1e-11)
    alone = np.concatenate([step(V[i : i + 1], W[i : i + 1], H)[0] for i in range(n)])
    np.testing.assert_array_equal(step(V, W, H)[0], alone)
    W_l2 = step(V, W, H, l2=0.3)[0]  # the stationary point of each surrogate
    s = W * ((V / (W @ H)) @ H.T)
    slope = H.sum(axis=1) + 0.3 * W_l2 - s / W_l2
    np.testing.assert_allclose(slope, 0, atol=1e-8 * np.abs(s / W_l2).max())


def test_rows_without_entries_and_components_without_anything():
    V, W, H = problem(3, 6, 9, 4)
    V[2] = 0
    H[1] = 0
    W[4] = 0
    found, S, of_rows, _, _ = step(V, W, H)
    assert not found[2].any()
    assert of_rows[2] == 0
    assert not S[1].any()
    assert (found[4, [0, 2, 3]] > 0).all()
    assert found[4, 1] == 0
    assert np.isfinite(found).all()


def test_a_still_step_leaves_W():
    V, W, H = problem(5, 30, 12, 7)
    found, S, *_ = step(V, W, H, moves=False)
    np.testing.assert_array_equal(found, W)
    np.testing.assert_allclose(S, H * (W.T @ (V / (W @ H))), rtol=1e-12)


@pytest.mark.parametrize("rows", [1, 1000])
def test_no_vector_lies_in_two_cache_lines(rows):
    for k in (1, 16, 20):
        X = padded_zeros(rows, k, np.dtype("float32"))
        assert X.shape == (rows, -(-k // LANES) * LANES)
        assert X.ctypes.data % LINE == 0
        assert not X.any()
