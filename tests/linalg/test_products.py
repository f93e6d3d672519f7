"""V H', W' V and residuals of a block: dense, CSR and a float64 reference agree."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from marks import slow

from dnmf.linalg.products import (
    add_WtV,
    gram,
    product_VHt,
    residual_sumsq,
    row_residual,
    zero_WtV,
)
from dnmf.linalg.tiles import padded, padded_size
from dnmf.testing.problems import exact_low_rank

TILE = 1 << 12
SIZES = st.tuples(st.integers(1, 12), st.integers(1, 9), st.integers(1, 5))
DTYPES = st.sampled_from(["float32", "float64"])


def _factors(n, d, k, seed, dtype, density=0.5):
    rng = np.random.default_rng([seed, n, d, k])
    V = (rng.gamma(1.0, size=(n, d)) * (rng.random((n, d)) < density)).astype(dtype)
    return V, rng.random((n, k)).astype(dtype), rng.random((k, d)).astype(dtype)


def _rtol(dtype):
    return 100 * float(np.finfo(dtype).eps)


@given(SIZES, DTYPES, st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_vht_of_both_kinds_is_the_product(sizes, dtype, seed):
    V, _, H = _factors(*sizes, seed, dtype)
    Ht = padded(H.T)
    expected = V.astype(float) @ H.T.astype(float)
    for found in (product_VHt(V, H, None), product_VHt(sp.csr_array(V), H, Ht)):
        assert found.dtype == dtype
        assert found.flags.c_contiguous
        np.testing.assert_allclose(found, expected, rtol=_rtol(dtype))


@given(SIZES, DTYPES, st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_wtv_is_added_to_what_is_there(sizes, dtype, seed):
    V, W, _ = _factors(*sizes, seed, dtype)
    d, k = V.shape[1], W.shape[1]
    expected = 1 + W.T.astype(float) @ V.astype(float)
    dense, sparse = (zero_WtV(k, d, np.dtype(dtype), kind) for kind in (False, True))
    for total, matrix in ((dense, V), (sparse, sp.csr_array(V))):
        total += 1
        add_WtV(matrix, W, total)
    np.testing.assert_allclose(dense, expected, rtol=_rtol(dtype))
    np.testing.assert_allclose(sparse, expected, rtol=_rtol(dtype))


def test_wtv_takes_rows_of_a_larger_w():
    V, W, _ = _factors(10, 6, 3, 0, "float32")
    whole = np.ones((30, 3), "float32")
    whole[7:17] = W
    for matrix in (V, sp.csr_array(V)):
        part, alone = (zero_WtV(3, 6, V.dtype, sp.issparse(matrix)) for _ in range(2))
        add_WtV(matrix, whole[7:17], part)
        add_WtV(matrix, W, alone)
        assert part.tobytes() == alone.tobytes()


@given(SIZES, DTYPES, st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_gram_is_symmetric_and_in_float64(sizes, dtype, seed):
    _, W, _ = _factors(*sizes, seed, dtype)
    found = gram(W)
    assert found.dtype == np.float64
    assert (found == found.T).all()
    np.testing.assert_allclose(found, W.T.astype(float) @ W.astype(float), rtol=1e-13)


@given(SIZES, DTYPES, st.integers(0, 10**6), st.sampled_from([0.0, 0.2, 1.0]))
@settings(max_examples=60, deadline=None)
def test_residual_of_both_kinds_is_the_residual(sizes, dtype, seed, density):
    V, W, H = _factors(*sizes, seed, dtype, density)
    expected = np.sum((V.astype(float) - W.astype(float) @ H.astype(float)) ** 2)
    Ht = padded(H.T)
    for found in (
        residual_sumsq(V, W, H, None, gram(H.T), TILE),
        residual_sumsq(sp.csr_array(V), W, H, Ht, gram(H.T), TILE),
    ):
        # of CSR it is a difference of sums as large as |V|^2 and |W H|^2
        size = np.sum(V.astype(float) ** 2) + np.sum((W.astype(float) @ H.astype(float)) ** 2)
        rtol = _rtol(dtype)
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * size)


def test_residual_of_blocks_higher_than_a_tile():
    V, W, H = _factors(2 * TILE // 2000 + 5, 2000, 3, 0, "float64")
    expected = np.sum((V - W @ H) ** 2)
    np.testing.assert_allclose(residual_sumsq(V, W, H, None, gram(H.T), TILE), expected, rtol=1e-12)


@pytest.mark.parametrize("sparse", [False, True])
def test_residual_of_an_exact_product_does_not_cancel(sparse):
    problem = exact_low_rank(n=600)
    V, W, H = problem.V, problem.W, problem.H
    sumsq = float(np.sum(V.astype(float) ** 2))
    by_products = sumsq - 2 * float(np.sum((V @ H.T).astype(float) * W))
    by_products += float(np.sum(gram(W) * gram(H.T)))
    Ht = padded(H.T)
    found = residual_sumsq(sp.csr_array(V) if sparse else V, W, H, Ht, gram(H.T), TILE)
    assert 0 <= found <= sumsq * (4 * np.finfo("float32").eps) ** 2
    assert abs(by_products) > 1e3 * found  # what is avoided here


def test_residual_sees_explicit_zeros_once():
    V = sp.csr_array(
        (np.array([0.0, 2.0, 0.0]), np.array([0, 1, 2]), np.array([0, 2, 3])), shape=(2, 3)
    )
    W, H = np.array([[1.0], [2.0]]), np.array([[1.0, 3.0, 0.5]])
    expected = np.sum((V.toarray() - W @ H) ** 2)
    np.testing.assert_allclose(residual_sumsq(V, W, H, H.T.copy(), gram(H.T), TILE), expected)


@given(SIZES, DTYPES, st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_row_residual_is_the_non_negative_part(sizes, dtype, seed):
    V, W, H = _factors(*sizes, seed, dtype)
    row = seed % len(V)
    expected = np.maximum(V[row].astype(float) - W[row].astype(float) @ H, 0)
    for matrix in (V, sp.csr_array(V)):
        found = row_residual(matrix, row, W[row], H)
        np.testing.assert_allclose(found, expected, atol=_rtol(dtype))
        assert found.dtype == dtype


def test_nothing_given_is_modified():
    V, W, H = _factors(20, 9, 3, 1, "float32")
    sparse, Ht = sp.csr_array(V), padded(H.T)
    given_arrays = (V, W, H, Ht, sparse.data, sparse.indices, sparse.indptr)
    before = [array.tobytes() for array in given_arrays]
    for array in given_arrays:
        array.flags.writeable = False
    for matrix in (V, sparse):
        product_VHt(matrix, H, Ht)
        residual_sumsq(matrix, W, H, Ht, gram(H.T), TILE)
        row_residual(matrix, 0, W[0], H)
    add_WtV(V, W, np.zeros((3, 9)))
    add_WtV(sparse, W, zero_WtV(3, 9, W.dtype, True))
    assert [array.tobytes() for array in given_arrays] == before


def test_long_sparse_rows_do_not_drift():
    """A sum of 40,000 positive float32 terms drifts to one side: objectives would by 5 units."""
    V = np.random.default_rng(0).random((20, 40_000), dtype="f4")
    H = np.random.default_rng(1).random((3, 40_000), dtype="f4")
    found = product_VHt(sp.csr_array(V), H, padded(H.T))
    expected = V.astype(float) @ H.T.astype(float)
    assert abs(np.mean(found / expected - 1)) < 2.0**-24


@pytest.mark.parametrize("k", [1, *slow(15), 16, 17, *slow(30, 32, 40, 48, 64), 65, *slow(100)])
def test_products_of_any_number_of_vectors(k):
    """Each number up to four has a kernel of its own, and what lies beyond k stays zero."""
    for dtype in ("float32", "float64"):
        V, W, H = _factors(25, 700, k, 0, dtype)
        sparse, total = sp.csr_array(V), zero_WtV(k, 700, V.dtype, True)
        V, W64, H64 = (x.astype(float) for x in (V, W, H))
        found = product_VHt(sparse, H, padded(H.T))
        np.testing.assert_allclose(found, V @ H64.T, rtol=_rtol(dtype))
        add_WtV(sparse, W, total)
        np.testing.assert_allclose(total, W64.T @ V, rtol=_rtol(dtype))
        rows = np.lib.stride_tricks.as_strided(total.T, (700, padded_size(k)))
        assert not rows[:, k:].any()


def test_infinite_entries_stay_in_their_rows():
    V = np.ones((3, 5), "float32")
    V[0, 2] = np.inf
    H = np.ones((2, 5), "float32")
    found = product_VHt(sp.csr_array(V), H, padded(H.T))
    assert np.isinf(found[0]).all()
    np.testing.assert_array_equal(found[1:], 5)


def test_an_array_without_room_for_whole_vectors_is_refused():
    V, W, _ = _factors(4, 6, 3, 0, "float32")
    with pytest.raises(ValueError, match="zero_WtV"):
        add_WtV(sp.csr_array(V), W, np.zeros((6, 3), "float32").T)


def test_a_component_has_the_same_bits_whichever_others_share_its_product():
    V, W, H = _factors(30, 1500, 50, 0, "float32")
    sparse = sp.csr_array(V)
    shared, sums = product_VHt(sparse, H, padded(H.T)), zero_WtV(50, 1500, W.dtype, True)
    add_WtV(sparse, W, sums)
    for j in range(50):
        alone, one = H[j : j + 1], zero_WtV(1, 1500, W.dtype, True)
        assert product_VHt(sparse, alone, padded(alone.T)).tobytes() == shared[:, j].tobytes()
        add_WtV(sparse, np.ascontiguousarray(W[:, j : j + 1]), one)
        assert one.tobytes() == sums[j].tobytes()
