"""Explicit vectors: logarithms, sums, Gram matrices and small problems against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnmf.linalg.jit import kernel
from dnmf.linalg.lanes import BOXED, GRADIENT, HIGHEST, INVERSE, LOWEST, X, descend
from dnmf.linalg.logs import log, sum_of
from dnmf.linalg.simd import LANES
from dnmf.linalg.tiles import add_gram, add_rows, dots, padded


@kernel
def _logs(x, out):  # type: ignore[no-untyped-def]
    for p in range(x.size):
        out[p] = log(x[p])


def test_logarithms_are_those_of_numpy_to_a_few_last_places() -> None:
    rng = np.random.default_rng(0)
    near_one = 1 + rng.normal(size=5_000) * 10.0 ** rng.integers(-16, -1, 5_000)
    wide = 2.0 ** rng.uniform(-1022, 1023, 5_000)
    powers = 2.0 ** np.arange(-1022.0, 1024.0)
    x = np.concatenate([near_one, wide, powers, [0.5**0.5, 2**0.5, np.finfo(float).max]])
    found = np.empty_like(x)
    _logs(x, found)
    np.testing.assert_allclose(found, np.log(x), rtol=4 * 2.0**-52, atol=0)


@given(st.integers(0, 70), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_a_sum_is_exact_where_the_numbers_are(size: int, rest: int) -> None:
    x = np.arange(size + rest, dtype=np.float64)
    assert sum_of(x, size) == size * (size - 1) / 2


@pytest.mark.parametrize("k", [1, 3, 8, 9, 16, 17, 20, 24, 33, 36, 50])
@pytest.mark.parametrize("size", [0, 1, 6])
def test_small_products(k: int, size: int) -> None:
    rng = np.random.default_rng(k)
    A, W = padded(rng.random((size + 2, k))), padded(rng.random((3, k)))
    s, o = rng.random(size + 1), 2
    rows = A[o : o + size]
    out = np.zeros(size + 2)
    dots(out, A, o, size, W, 1)
    np.testing.assert_allclose(out[o:], rows @ W[1], rtol=1e-13)
    sums = np.zeros((2, A.shape[1]))
    add_rows(sums, 1, s, 1, A, o, size)
    np.testing.assert_allclose(sums[1], s[1:] @ rows, rtol=1e-13)
    assert not sums[0].any()
    K = np.zeros((A.shape[1], A.shape[1]))
    add_gram(K, s, 1, A, o, size, k)
    expected = (rows * s[1:, None]).T @ rows
    np.testing.assert_allclose(np.tril(K)[:k, :k], np.tril(expected)[:k, :k], rtol=1e-13)


def _problems(k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    roots = rng.random((LANES, k, k + 2))
    G = np.einsum("rij,rkj->rik", roots, roots)
    t, u = np.tril_indices(k)
    boxed = np.zeros((BOXED, k, LANES))
    boxed[X] = 1.0
    boxed[GRADIENT] = rng.normal(size=(k, LANES))
    boxed[INVERSE] = 1 / np.diagonal(G, axis1=1, axis2=2).T
    boxed[LOWEST], boxed[HIGHEST] = 0.5, 1.5
    return boxed, np.ascontiguousarray(G[:, t, u].T), G


def test_problems_side_by_side_end_where_nothing_pulls() -> None:
    boxed, K, G = _problems(5)
    start = boxed.copy()
    descend(boxed, K, np.zeros(LANES), np.ones(LANES), 3_000)
    for r in range(LANES):
        step = boxed[X, :, r] - 1
        gradient = start[GRADIENT, :, r] + G[r] @ step
        np.testing.assert_allclose(boxed[GRADIENT, :, r], gradient, atol=1e-9)
        inside = np.clip(boxed[X, :, r] - gradient, 0.5, 1.5)
        np.testing.assert_allclose(inside, boxed[X, :, r], atol=1e-9)


def test_a_problem_does_not_see_its_neighbours() -> None:
    boxed, K, _ = _problems(5)
    limit = np.full(LANES, 1e-6)
    alone = boxed.copy()
    only = np.zeros(LANES)
    only[3] = 1
    descend(boxed, K, limit, np.ones(LANES), 50)
    others = alone.copy()
    descend(alone, K, limit, only, 50)
    np.testing.assert_array_equal(alone[:, :, 3], boxed[:, :, 3])
    np.testing.assert_array_equal(alone[:, :, 4], others[:, :, 4])
