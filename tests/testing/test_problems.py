from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from dnmf.testing import problems

SAMPLED = {
    "planted_poisson": problems.planted_poisson,
    "power_law_counts": problems.power_law_counts,
}
ALL = {**problems.EXACT_PROBLEMS, **SAMPLED}


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_same_arguments_give_the_same_problem(make) -> None:
    first, second = make(), make()
    assert first.name == second.name
    np.testing.assert_array_equal(first.dense, second.dense)


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_a_problem_is_a_non_negative_matrix_that_cannot_be_changed(make) -> None:
    problem = make()
    assert np.isfinite(problem.dense).all()
    assert (problem.dense >= 0).all()
    assert problem.W.shape == (problem.V.shape[0], problem.k)
    assert problem.H.shape == (problem.k, problem.V.shape[1])
    with pytest.raises(ValueError, match="read-only"):
        problem.W[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        (problem.V.data if sp.issparse(problem.V) else problem.V)[:1] = 1


@pytest.mark.parametrize("make", problems.EXACT_PROBLEMS.values(), ids=problems.EXACT_PROBLEMS)
def test_exact_problems_are_the_product_of_their_factors(make) -> None:
    problem = make()
    assert problem.exact
    epsilon = np.finfo(problem.V.dtype).eps
    error = np.abs(problem.W.astype(float) @ problem.H - problem.V).max()
    assert error <= 4 * problem.k * epsilon * problem.V.max()
    assert error < problem.tolerance < problem.V.max()
    assert np.linalg.matrix_rank(problem.V) == problem.k


def test_separable_contains_its_own_factors() -> None:
    """What the proof of uniqueness needs: diagonal rows in W, diagonal columns in H."""
    problem = problems.separable(20, 15, 4, seed=3)
    for factor in (problem.W, problem.H.T):
        pure = factor[(factor > 0).sum(axis=1) == 1]
        assert set(np.argmax(pure, axis=1)) == set(range(problem.k))
    with pytest.raises(ValueError, match="at least k = 4"):
        problems.separable(3, 15, 4)


def test_zero_rows_and_columns_are_there() -> None:
    V = problems.with_zero_rows_and_columns().V
    assert (V.sum(axis=1) == 0).sum() == 4
    assert (V.sum(axis=0) == 0).sum() == 3


def test_power_law_counts_are_sparse_skewed_and_canonical() -> None:
    problem = problems.power_law_counts()
    V = problem.V
    assert V.has_canonical_format
    assert V.dtype == np.int32
    assert 0 < V.nnz < 0.2 * V.shape[0] * V.shape[1]
    columns = np.sort(V.sum(axis=0))[::-1]
    assert columns[: len(columns) // 10].sum() > 0.4 * columns.sum()
    assert (np.diff(V.indptr) == 0).any()


def test_planted_poisson_has_the_mean_and_dtype_asked_for() -> None:
    problem = problems.planted_poisson(200, 100, 5, seed=1, mean=2.0, dtype="float64")
    assert problem.V.dtype == np.float64
    assert abs(problem.V.mean() - 2) < 0.1
    np.testing.assert_array_equal(problem.V, np.round(problem.V))
