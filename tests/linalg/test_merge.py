"""Merging components: what it costs, and what it keeps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnmf.linalg.merge import merge_components, merge_costs


def gammas(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).gamma(0.5, size=shape)


@given(seed=st.integers(0, 10_000), k=st.integers(2, 6))
@settings(max_examples=25, deadline=None)
def test_costs_are_half_the_second_singular_value_squared(seed: int, k: int) -> None:
    W, H = gammas(seed, 12, k), gammas(seed + 1, k, 9)
    cost = merge_costs(W.T @ W, H @ H.T)
    assert np.all(np.isinf(np.diag(cost)))
    for i in range(k):
        for j in range(i):
            product = W[:, [i, j]] @ H[[i, j]]
            second = np.linalg.svd(product, compute_uv=False)[1]
            size = float(np.sum(product**2))
            assert cost[i, j] == cost[j, i]
            assert cost[i, j] == pytest.approx(second**2 / 2, abs=1e-12 * size, rel=1e-6)


def test_a_component_told_twice_is_told_once_again() -> None:
    H = gammas(0, 5, 40)
    W = gammas(1, 60, 5)
    twice = np.concatenate([H, 3.0 * H[2:3], 0.5 * H[4:5]])
    split = np.concatenate([W, W[:, 2:3], W[:, 4:5]], axis=1)
    split[:, [2, 4]] *= 0.5
    split[:, 5] *= 0.5 / 3.0
    merged = merge_components(twice.astype(np.float32), split.T @ split, 5)
    assert merged.dtype == np.float32
    cosines = _unit(merged) @ _unit(H).T
    np.testing.assert_allclose(np.sort(cosines.max(axis=1)), 1.0, atol=1e-6)
    assert sorted(cosines.argmax(axis=1)) == [0, 1, 2, 3, 4]


def test_zero_components_go_first() -> None:
    H, W = gammas(0, 4, 20), gammas(1, 30, 4)
    H[1], W[:, 3] = 0.0, 0.0
    merged = merge_components(H, W.T @ W, 2)
    cosines = _unit(merged) @ _unit(H).T
    assert sorted(cosines.argmax(axis=1)) == [0, 2]
    np.testing.assert_allclose(cosines.max(axis=1), 1.0, atol=1e-12)
    assert not merge_components(np.zeros((3, 4)), np.zeros((3, 3)), 1).any()


def _unit(H: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(H, axis=1, keepdims=True)
    return np.divide(H, norms, out=np.zeros_like(H, dtype=float), where=norms > 0)


@pytest.mark.parametrize("of_H", [0, -200, 200])
@pytest.mark.parametrize("of_W", [-400, -100, 300, 400])
def test_scale_changes_no_digit(of_H: int, of_W: int) -> None:
    """Costs of components of 1e-80 were all zero, and of 1e80 infinite: any pair was merged."""
    H, W = gammas(0, 6, 20), gammas(1, 30, 6)
    merged = merge_components(H, W.T @ W, 3)
    other = merge_components(np.ldexp(H, of_H), np.ldexp(W.T @ W, 2 * of_W), 3)
    np.testing.assert_array_equal(np.ldexp(other, -of_H), merged)
