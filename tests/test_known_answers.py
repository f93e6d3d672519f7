"""Matrices whose answer is known, and scikit-learn's answers on real data."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

import dnmf
from dnmf.testing.problems import EXACT_PROBLEMS, baskets, six_by_two


def _error(result, V):
    return float(np.max(np.abs(np.asarray(result.W) @ np.asarray(result.H) - V)))


def _unit(rows):
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


@pytest.mark.parametrize("options", [{}, {"sample": 0}, {"n_init": 1}], ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_the_example_of_scikit_learns_documentation(seed, options):
    V = six_by_two().V
    fit = dnmf.fit(V, 2, seed=seed, **options)
    assert _error(fit, V) <= 2e-3


@pytest.mark.parametrize("options", [{"sample": 0}, {}], ids=str)
def test_shop_baskets_from_sixty_seeds(options):
    """A random start collapses a component now and then: revived, it finds the answer."""
    V = baskets().V
    for seed in range(60):
        fit = dnmf.fit(V, 3, seed=seed, **options)
        assert _error(fit, V) <= 1e-3, f"seed {seed}: {fit!r}"
        H = _unit(fit.H)
        together = [j for j in range(3) if H[j, 2] > 0.5 and H[j, 3] > 0.5]
        assert len(together) == 1, f"seed {seed}: {H}"
        np.testing.assert_allclose(fit.H[:, 2], fit.H[:, 3], atol=1e-3 * fit.H.max())


@pytest.mark.parametrize("name", EXACT_PROBLEMS)
def test_exact_products_are_reproduced(name):
    problem = EXACT_PROBLEMS[name]()
    fits = [dnmf.fit(problem.V, problem.k, seed=seed, tol=1e-6) for seed in range(3)]
    best = min(fits, key=lambda fit: fit.objective)
    assert _error(best, problem.dense) <= problem.tolerance
    if problem.unique:  # equal up to order and scale
        alike = _unit(best.H) @ _unit(problem.H).T
        assert sorted(alike.argmax(axis=0)) == list(range(problem.k))
        assert alike.max(axis=0).min() > 0.99


def _by_scikit_learn(V, k, seed, max_iter, start=None):
    """The objective after so many iterations from a random start, or from the one given."""
    model = NMF(k, init="custom" if start else "random", random_state=seed, max_iter=max_iter)
    arrays = {"W": start.W.copy(), "H": start.H.copy()} if start else {}
    with threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit_transform(V, **arrays)
    return model.reconstruction_err_**2 / 2


def test_digits_are_within_one_percent_of_scikit_learn():
    V = load_digits().data
    theirs = min(_by_scikit_learn(V, 16, seed, 200) for seed in range(5))
    ours = min(dnmf.fit(V, 16, seed=seed, sample=0).objective for seed in range(5))
    assert ours <= 1.01 * theirs


def test_digits_with_the_sample_start():
    V = load_digits().data
    fits = [dnmf.fit(V, 16, seed=seed) for seed in range(5)]
    best = min(fits, key=lambda fit: fit.objective)
    polished = _by_scikit_learn(V, 16, 0, 50, best)
    assert best.objective <= 1.01 * polished


def test_faces_are_within_one_percent_of_scikit_learn(shared_data):
    V = np.load(shared_data / "faces" / "orl.npz")["images"].astype(np.float32)
    fit = dnmf.fit(V, 49, seed=0, sample=0, max_passes=60)
    theirs = _by_scikit_learn(V, 49, 0, 100)
    polished = _by_scikit_learn(V, 49, 0, 30, fit)  # what is left to gain from here
    assert fit.objective <= 1.01 * min(theirs, polished)
