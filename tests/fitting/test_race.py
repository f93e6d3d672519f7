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


def _raced(V, k, **options):
    """Each start's row, told while the fit runs."""
    seen = []
    fit = dnmf.fit(V, k, on_event=seen.append, **options)
    rows = [row for event in seen if isinstance(event, Committed) for row in event.rows]
    return [row for row in rows if row.get("kind") == "race"], fit


@pytest.mark.parametrize(
    ("options", "inits"),
    [
        ({}, ["random", "random", "nndsvd"]),
        ({"loss": 1.0}, ["random", "random", "nndsvd"]),
        ({"loss": 0.5, "n_init": 3}, ["random"] * 3 + ["nndsvd"]),
        ({"n_init": 1}, []),
        ({"init": "nndsvda"}, ["nndsvda"]),
    ],
    ids=str,
)
def test_a_start_from_the_singular_vectors_joins(options, inits):
    raced, fit = _raced(planted_poisson().dense, 3, seed=0, max_passes=2, **options)
    assert [row["init"] for row in raced] == inits
    (best,) = [row for row in raced if row["won"]] or [None]
    assert best is None or best["objective"] == min(row["objective"] for row in raced)
    assert (fit.details["starts"] or {"number": len(inits)})["number"] == len(inits)


def _counts(n=400, d=60, k=5):
    rng = np.random.default_rng(0)
    return rng.poisson(rng.gamma(0.5, size=(n, k)) @ rng.gamma(0.5, size=(k, d)) * 3).astype(float)


@pytest.mark.parametrize("columns", [[7], [7, 8, 30], [59]], ids=str)
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_saturated_columns_hide_no_component(columns, kind):
    """Components next to a column that outshines all others are nearly parallel."""
    V = _counts()
    V[:, columns] = 65535
    fits = [
        dnmf.fit(sp.csr_array(V) if kind == "sparse" else V, 5, seed=seed).objective
        for seed in range(2)
    ]
    best = dnmf.fit(V, 5, seed=0, tol=1e-7, init="nndsvd").objective
    assert max(fits) < 1.01 * best


@pytest.mark.parametrize("options", [{}, {"loss": 1.0}, {"init": "nndsvd"}, {"n_init": 4}], ids=str)
def test_a_sample_of_few_rows_is_not_used(options):
    """k rows are fitted exactly by themselves, whatever the other rows hold."""
    V = planted_poisson(3000, 40, 10).dense.astype("f4")
    few = {"sample_bytes": 30 * 40 * 4, "max_passes": 3}
    seen = []
    fit = dnmf.fit(V, 10, seed=0, on_event=seen.append, **few, **options)
    kinds = [event.kind for event in seen if isinstance(event, Committed)]
    assert "race" not in kinds
    assert "sample" not in kinds
    (note,) = [event.text for event in seen if isinstance(event, Notice)]
    assert "rows, fewer than 4 for each of k = 10 components. Raise sample or sample_bytes" in note
    enough = dnmf.fit(V, 10, seed=0, on_event=seen.append, sample_bytes=10**5, max_passes=3)
    assert "sample" in [event.kind for event in seen if isinstance(event, Committed)]
    assert min(fit.objective, enough.objective) > 0


def test_models_of_a_study_use_the_sample_each_by_its_own_k():
    V = planted_poisson(3000, 40, 10).dense.astype("f4")
    options = {"sample_bytes": 30 * 40 * 4, "max_passes": 3, "n_init": 1}
    study = dnmf.fit_many(V, [3, 10], 1, holdout=None, **options)
    for k in (3, 10):
        alone = dnmf.fit(V, k, seed=0, **options)
        assert study.result(k).objective == pytest.approx(alone.objective, rel=1e-5)


def _microbes():
    """Counts of 26 samples, whose 300 kinds vary much more than Poisson."""
    rng = np.random.default_rng(0)
    kinds = rng.gamma(0.1, 1, size=(6, 300)) * rng.lognormal(0, 2, 300)
    mean = rng.gamma(0.15, 20, size=(26, 6)) @ kinds
    return rng.poisson(mean * rng.gamma(0.3, 3, size=(26, 300))).astype(float)


def test_starts_that_end_far_apart_are_told(tmp_path):
    V = _microbes()
    notes, fit = _notes(V, 8, loss=1.0, out=tmp_path / "fit.zarr")
    (note,) = [note for note in notes if "starts end far apart" in note]
    found = dnmf.open(tmp_path / "fit.zarr").details["starts"]
    assert found == fit.details["starts"]
    assert note == found["remark"]
    assert found["number"] == len(found["objectives"]) == 3
    low = min(found["objectives"])
    assert found["agreed"] == sum(one <= 1.01 * low for one in found["objectives"]) < 3
    assert found["spread"] == pytest.approx(max(found["objectives"]) / low - 1)
    assert f"{found['agreed']} of 3 came within 1%" in note
    dnmf.report(fit, tmp_path / "page.html")
    assert "starts end far apart" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
def test_starts_that_agree_are_counted_and_not_remarked(loss):
    notes, fit = _notes(planted_poisson(1000, 40, 4).dense, 4, loss=loss)
    assert not any("far apart" in note for note in notes)
    assert fit.details["starts"]["remark"] is None
    assert fit.details["starts"]["agreed"] == 3


def test_starts_of_an_exact_product_are_not_far_apart():
    """Their objectives are next to nothing, and differ by factors."""
    rng = np.random.default_rng(5)
    notes, fit = _notes(rng.random((200, 4)) @ rng.random((4, 30)), 4)
    assert fit.details["starts"]["remark"] is None, fit.details["starts"]
    assert notes == []


def test_a_study_tells_it_once_for_all_models():
    seen = []
    dnmf.fit_many(
        _microbes(), [6, 8], 2, loss=1.0, holdout=None, max_passes=2, on_event=seen.append
    )
    notes = [event.text for event in seen if isinstance(event, Notice)]
    (note,) = [note for note in notes if "starts end far apart" in note]
    assert " models, of k = " in note
