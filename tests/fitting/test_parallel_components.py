"""Components that are nearly parallel: a pass solves rows and columns exactly."""

from __future__ import annotations

import numpy as np
import pytest

import dnmf
from dnmf.steps.serial import Serial

N, D, K = 400, 60, 5


def counts() -> np.ndarray:
    rng = np.random.default_rng(0)
    mean = rng.gamma(0.5, size=(N, K)) @ rng.gamma(0.5, size=(K, D)) * 3
    return rng.poisson(mean).astype(float)


def one_saturated_column() -> np.ndarray:
    V = counts()
    V[:, 7] = 65535
    return V


def two_saturated_columns() -> np.ndarray:
    V = counts()
    V[:, 7], V[:, 30] = 65535, 4095
    return V


def columns_of_different_scale() -> np.ndarray:
    V = counts()
    V[:, :3] *= 3e4
    V[:, 7] += 1e5
    return V


@pytest.mark.parametrize("n_init", [1, 2])
@pytest.mark.parametrize(
    "data", [one_saturated_column, two_saturated_columns, columns_of_different_scale]
)
def test_the_end_is_near_that_of_a_tight_fit(data, n_init):
    V = data()
    found = dnmf.fit(V, K, seed=0, n_init=n_init, executor=Serial())
    tight = dnmf.fit(V, K, seed=0, init="nndsvd", tol=1e-8, max_passes=300, executor=Serial())
    explained = 0.5 * float(np.sum((V - V.mean(axis=0)) ** 2)) - tight.objective
    assert found.objective - tight.objective <= 0.02 * explained, found.stop_reason
