"""Entries and their weights stay together, whatever held them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from dnmf.linalg.matrix import WeightedCSR, join_rows
from dnmf.linalg.measure import checksum, measure
from dnmf.linalg.weighted import column_counts, weigh
from dnmf.losses import get_loss
from dnmf.losses.values import Block


def drawn(seed: int, n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """V with zeros and, where it weighs nothing, NaN; weights with zeros."""
    rng = np.random.default_rng(seed)
    V = rng.integers(0, 4, (n, d)).astype("f4")
    M = rng.integers(0, 3, (n, d)) * rng.random((n, d))
    return np.where(M > 0, V, np.nan), M


def dense(X: WeightedCSR) -> tuple[np.ndarray, np.ndarray]:
    """V and the weights, zeros where nothing is observed."""
    weights = sp.csr_array((X.weights, X.indices, X.indptr), shape=X.shape)
    return X.entries.toarray(), weights.toarray()


@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_every_form_gives_the_same_entries(seed: int, n: int, d: int) -> None:
    V, M = drawn(seed, n, d)
    clean = np.where(M > 0, V, 0)
    forms: list[tuple[Any, Any, str | None]] = [
        (V, M, None),
        (V, sp.csr_array(M), None),
        (sp.csr_array(clean), sp.csr_array(M), None),
        (np.where(M > 0, V, np.nan), np.where(M > 0, M, 3.0), "nan"),
    ]
    for X, weights, missing in forms:
        found = weigh(X, weights, missing)
        for got, expected in zip(dense(found), (clean, M), strict=True):
            np.testing.assert_array_equal(got, expected)
        assert found.data.size == np.count_nonzero(M)
    stored = weigh(sp.csr_array(clean), np.where(M > 0, M, 3.0), "zeros")
    np.testing.assert_array_equal(dense(stored)[1], np.where(clean > 0, M, 0))


@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_rows_are_cut_and_joined(seed: int, n: int, d: int) -> None:
    V, M = drawn(seed, n, d)
    whole, clean = weigh(V, M, None), np.where(M > 0, V, 0)
    middle = n // 2
    joined = join_rows([whole[:middle], whole[middle:]])
    for got, expected in zip(dense(joined), (clean, M), strict=True):
        np.testing.assert_array_equal(got, expected)
    rows = np.random.default_rng(seed).permutation(n)[: max(1, middle)]
    for got, expected in zip(dense(whole[rows]), (clean[rows], M[rows]), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_sums_are_weighted_and_what_is_bad_is_placed() -> None:
    V, M = drawn(3, 6, 5)
    sums = np.zeros((2, 5))
    found = measure(weigh(V, M, None), *sums)
    clean = np.where(M > 0, V, 0)
    np.testing.assert_allclose(found.row_sums, (M * clean).sum(axis=1))
    np.testing.assert_allclose(sums[1], (M * clean**2).sum(axis=0))
    np.testing.assert_allclose(column_counts(weigh(V, M, None)), [clean.sum(0), (M > 0).sum(0)])
    assert found.largest_weight == M.max()
    V, M = np.ones((3, 4)), np.ones((3, 4))
    V[1, 2], M[2, 0], M[2, 3] = np.nan, -1, np.inf
    found = measure(weigh(V, M, None), *np.zeros((2, 4)))
    assert (found.bad, found.first_bad[:2]) == (1, (1, 2))
    assert (found.bad_weights, found.first_bad_weight) == (2, (2, 0, -1.0))
    M[2] = 0
    assert measure(weigh(V, M, None), *np.zeros((2, 4))).bad_weights == 0


def test_a_checksum_sees_a_weight() -> None:
    V, M = np.ones((3, 4)), np.ones((3, 4))
    before = checksum(weigh(V, M, None))
    M[1, 1] = 2
    assert checksum(weigh(V, M, None)) != before


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("level", [0.0, 1e-30])
def test_components_of_rows_that_were_gone_come_back(level: float, dtype: str) -> None:
    """Kullback-Leibler: a row that lost what it needs is as good as one that starts anew."""
    rng = np.random.default_rng(0)
    H = rng.gamma(0.5, size=(4, 60)).astype(dtype)
    truth = rng.gamma(1.0, size=(30, 4)) + 0.5
    V = sp.csr_array((truth @ H).astype(dtype))
    loss = get_loss("kullback-leibler")
    rows = np.stack([V.sum(axis=1), (V * V).sum(axis=1)]).astype(float)
    values = []
    for start in (np.zeros((30, 4), dtype), truth.astype(dtype)):
        W = start.copy()
        if start.any():
            W[:, 2] = level
        factor = loss.prepare(H, True)
        for _ in range(3):
            stats = loss.empty(4, 60, np.dtype(dtype), True)
            loss.update_block(Block(V, 0, rows), W, factor, stats, tau=1e-3, residual=False)
        values.append(loss.divergence(stats[0], 0.0, factor))
        np.testing.assert_allclose(W, truth, rtol=0.05)
    size = float(V.sum())
    assert max(values) <= 1e-5 * size
