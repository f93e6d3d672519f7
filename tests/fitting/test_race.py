"""Which rows random starts race on, where rows are so long that few fit."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

import dnmf
from dnmf.fitting.data.sample import sample_numbers
from dnmf.planning import limits
from dnmf.steps.events import Committed, Notice
from dnmf.testing.problems import planted_poisson


def _kinds(V, **options):
    seen = []
    dnmf.fit(V, 3, seed=0, max_passes=2, on_event=seen.append, **options)
    return [event.kind for event in seen if isinstance(event, Committed)]


def test_starts_race_on_small_data():
    assert "race" in _kinds(planted_poisson().dense)
    assert "race" not in _kinds(planted_poisson().dense, n_init=1)


@pytest.mark.parametrize("seed", range(5))
def test_rows_too_long_to_race_on(seed):
    """24 rows of which one fits the race's bytes: by chance there would be none at all."""
    V = np.random.default_rng(0).random((24, 50))
    with limits.using(race={"most_bytes": 300}):
        assert "race" not in _kinds(V)
        fit = dnmf.fit(V, 2, seed=seed, init="nndsvd", max_passes=3)
    assert fit.relative_error < 1


def _notes(V, k=3, **options):
    """The remarks of a fit, and the fit."""
    seen = []
    fit = dnmf.fit(V, k, seed=0, max_passes=20, on_event=seen.append, **options)
    return [event.text for event in seen if isinstance(event, Notice)], fit


@pytest.fixture(params=[0.0, 1e-20], ids=["zeros", "tiny"])
def sparse(request):
    """2000 x 6 in float32, of which the tenth that starts race on is zero, or nearly so."""
    order = sample_numbers(0, 2000)
    V = np.zeros((2000, 6), np.float32)
    V[order > 0.2] = np.random.default_rng(0).random((int(np.sum(order > 0.2)), 6))
    V[order < 0.1] = request.param
    with limits.using(race={"fewest_bytes": 1}):
        yield V


@pytest.mark.parametrize("options", [{}, {"loss": 1.0}, {"loss": 1.5}, {"init": "nndsvd"}])
def test_rows_that_tell_nothing_are_not_raced_on(sparse, options):
    """V is no matrix of zeros because the few rows that starts race on are."""
    for V in (sparse, sp.csr_array(sparse)):
        _, fit = _notes(V, 2, **options)
        best = _notes(V, 2, sample=0, **{**options, "init": "random"})[1].objective
        assert fit.objective < 1.1 * best


def test_a_sample_of_zeros_is_not_fitted():
    """A step on it would leave an H of zeros, and another start than the one that was asked for."""
    rows = sample_numbers(0, 3000) > 0.3
    V = np.zeros((3000, 6))
    V[rows] = np.random.default_rng(0).random((int(rows.sum()), 6))
    small = {"sample_bytes": V.nbytes // 5}
    notes, fit = _notes(V, 2, **small)
    assert not any("has no effect" in note for note in notes)
    (note,) = [note for note in notes if "passes go over V from the start" in note]
    assert "none over the sample: the sample has" in note
    assert "which are zero or next to it. Raise sample or sample_bytes" in note
    assert fit.relative_error < 0.5
    for options in ({"init": "nndsvd"}, {"n_init": 5}):
        notes, other = _notes(V, 2, **small, **options)
        assert other.objective == fit.objective
        (note,) = [note for note in notes if "has no effect" in note]
        assert "of 3,000 rows, which are zero or next to it. Raise sample" in note


def test_starts_that_are_not_made_are_told():
    notes, _ = _notes(np.ones((50, 8)), init="nndsvd", sample_bytes=1)
    assert any("init = 'nndsvd' has no effect" in note for note in notes)
    assert any("the sample has 0 of 50 rows" in note for note in notes)
    V = np.random.default_rng(0).random((24, 50))
    with limits.using(race={"most_bytes": 300}):
        notes, _ = _notes(V, n_init=8)
        other = [_notes(V, **options)[0] for options in ({}, {"n_init": 1}, {"sample": 0})]
    assert any("n_init = 8 has no effect" in n and "search on 150 rows" in n for n in notes)
    for notes in other:
        assert not any("no effect" in note or "from the start" in note for note in notes)


def test_a_sample_of_no_bytes_is_none():
    """Other sizes of 0 bytes are refused."""
    V = planted_poisson().dense
    none = dnmf.fit(V, 3, seed=0, max_passes=3, sample_bytes=0)
    np.testing.assert_array_equal(none.H, dnmf.fit(V, 3, seed=0, max_passes=3, sample=0).H)
