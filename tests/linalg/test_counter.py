"""Random numbers by coordinates: the same however they are cut, and random."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dnmf.linalg.counter import exponential, uniform


def _all(seed=0, stream=0, n=400, d=250):
    return uniform(seed, stream, np.arange(n), np.arange(d))


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 50),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 8),
    st.integers(0, 8),
)
@settings(max_examples=60, deadline=None)
def test_any_slice_is_a_slice_of_the_whole(seed, stream, n, d, i, j):
    rows, columns = np.arange(20) + 2**40, np.arange(17) + 5
    whole = uniform(seed, stream, rows, columns)
    part = uniform(seed, stream, rows[i : i + n], columns[j : j + d])
    assert part.tobytes() == whole[i : i + n, j : j + d].copy().tobytes()
    whole = exponential(seed, stream, rows, columns)
    mixed = exponential(seed, stream, rows[::-3], columns[[4, 4, 1]])
    assert mixed.tobytes() == whole[::-3][:, [4, 4, 1]].copy().tobytes()


def test_uniform_moments_and_distribution():
    u = _all().ravel()
    assert u.min() > 0
    assert u.max() < 1
    assert abs(u.mean() - 1 / 2) < 4 / np.sqrt(12 * u.size)
    assert abs(u.var() - 1 / 12) < 4 / np.sqrt(180 * u.size)
    assert stats.kstest(u, "uniform").pvalue > 1e-3


def test_exponential_moments_and_distribution():
    x = exponential(3, 1, np.arange(300), np.arange(300)).ravel()
    assert x.min() > 0
    assert abs(x.mean() - 1) < 4 / np.sqrt(x.size)
    assert abs(x.var() - 1) < 4 * np.sqrt(8 / x.size)
    assert stats.kstest(x, "expon").pvalue > 1e-3


def test_neighbours_are_independent():
    u = _all(7, 2)
    for one, other in (
        (u[1:], u[:-1]),
        (u[:, 1:], u[:, :-1]),
        (u[1:, 1:], u[:-1, :-1]),
        (u[1:, :-1], u[:-1, 1:]),
        (u[:, 0:250:2], u[:, 1:250:2]),
    ):
        r = np.corrcoef(one.ravel(), other.ravel())[0, 1]
        assert abs(r) < 5 / np.sqrt(one.size)
    assert np.unique(u).size == u.size


@pytest.mark.parametrize("other", [(1, 0), (0, 1), (2**32, 0), (2**63, 0), (0, 2**20)])
def test_streams_and_seeds_are_independent(other):
    one, two = _all(), _all(*other)
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 5 / np.sqrt(one.size)
    assert not np.isin(one, two).any()
    assert not np.isin(one, two.T).any()


def test_rows_and_columns_are_not_exchangeable():
    u = _all(0, 0, 50, 50)
    assert (np.triu(u == u.T, 1)).sum() == 0


def test_numbers_stay_inside_the_open_interval_at_the_extremes(monkeypatch):
    """The largest and the smallest hash give numbers between 0 and 1, and finite logarithms."""
    from dnmf.linalg import counter

    for bits in (0, 2**64 - 1):
        full = np.full((1, 1), bits, np.uint64)
        monkeypatch.setattr(counter, "_finalize", lambda x, full=full: full)
        monkeypatch.setattr(counter, "_finalize_int", lambda x: 0)
        u = uniform(0, 0, np.arange(1), np.arange(1))
        assert 0 < u[0, 0] < 1
        assert 0 < exponential(0, 0, np.arange(1), np.arange(1))[0, 0] < 50


def test_the_numbers_of_a_seed_stay_the_same_between_versions():
    """A run that another version began would change its bits: a new hash is a new format."""
    found = uniform(0, 0, np.arange(2), np.arange(2))
    assert found.tobytes().hex() == (
        "046455453a98c03fb09cf3721f8fa93f9e7415503ba9d83fcb15877a00c4ee3f"
    )
