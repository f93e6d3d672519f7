"""Fits with rounds between two reads: fewer reads, an objective that never rises, an honest end."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from rounds_data import spectra

import dnmf
from dnmf.cli.report import history_table
from dnmf.config import FitConfig, ModelSpec
from dnmf.planning import limits
from dnmf.planning.plan import make_plan
from dnmf.sources import open_source

FIFTH = {"sample_bytes": 300 * 100 * 8 // 5, "n_init": 1, "seed": 0}


def reads_until(history: list[dict[str, Any]], end: float, share: float) -> int:
    """Passes until the objective is within this share of an end; more than all where it is not."""
    course = np.minimum.accumulate([row["objective"] for row in history])
    return int(np.flatnonzero([*(course <= end * (1 + share)), True])[0]) + 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_hard_data_take_a_third_of_the_reads(dtype: str) -> None:
    V = spectra(dtype)
    plain = dnmf.fit(V, 8, tol=1e-9, max_passes=100, rounds=0, **FIFTH)
    found = dnmf.fit(V, 8, tol=1e-9, max_passes=60, **FIFTH)
    end = min(plain.objective, found.objective)
    assert found.objective <= end * (1 + 1e-3)
    needed = reads_until(found.history, end, 1e-3)
    assert 3 * needed <= reads_until(plain.history, end, 1e-3)
    assert any(row.get("rounds", 0) > 1 for row in found.history)


OTHERS: dict[str, dict[str, Any]] = {
    "penalties": {"alpha_W": 1e-3, "alpha_H": 1e-3, "l1_ratio": 0.5},
    "normalized": {"normalize": "components"},
    "several starts": {"n_init": 3},
    "slabs and segments": {"slab_size": 8 * 8 * 30, "segments": 7, "block_size": 100 * 8 * 20},
    "a smaller basis": {},
}


@pytest.mark.parametrize("kind", ["dense", "csr", "csc"])
@pytest.mark.parametrize("name", OTHERS)
def test_the_objective_of_accepted_passes_never_rises(name: str, kind: str) -> None:
    V: Any = spectra("float64")
    V = V if kind == "dense" else sp.csr_array(V) if kind == "csr" else sp.csc_array(V)
    options = {**FIFTH, "tol": 1e-7, "max_passes": 20, **OTHERS[name]}
    spans = {"spans": 1} if name == "a smaller basis" else {}
    with limits.using(rounds=spans):
        found = dnmf.fit(V, 8, **options)
    course = [row["objective"] for row in found.history if row["accepted"]]
    assert all(after <= before for before, after in pairwise(course))
    assert any(row.get("rounds", 0) > 1 for row in found.history)
    end = dnmf.fit(V, 8, **{**options, "rounds": 0, "max_passes": 40}).objective
    assert found.objective <= end * 1.002


def test_predictions_stand_in_the_history_and_are_near_what_came() -> None:
    found = dnmf.fit(spectra("float64"), 8, tol=1e-6, **FIFTH)
    rows = found.history
    kept = []
    for before, row in pairwise(rows):
        if row.get("rounds") and row["accepted"]:
            kept.append((before["objective"] - row["objective"]) / row["predicted"])
    assert len(kept) >= 3
    assert 0.5 < np.median(kept) < 2
    assert "after" in history_table(rows)
    assert "rounds" in history_table(rows)


def test_the_end_says_what_is_left_and_it_is() -> None:
    V = spectra("float64")
    found = dnmf.fit(V, 8, **FIFTH)
    assert "converged" in found.stop_reason
    assert "the decrease still to be expected is" in found.stop_reason
    end = dnmf.fit(V, 8, tol=1e-9, max_passes=60, **FIFTH).objective
    assert found.objective <= end * (1 + 3e-4)


def test_what_a_pass_refuses_falls_back_to_next_h(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds that lie: their H is refused by the exact objective, and the fit goes on."""
    from dnmf.losses.compressed import Alternation, RoundsEnd

    def lies(self: Alternation, *_: Any) -> RoundsEnd:
        return RoundsEnd(
            np.ascontiguousarray(self.H[::-1]) * 2, 8, self.objective, self.objective / 2, 0.0
        )

    V = spectra("float64")
    plain = dnmf.fit(V, 8, tol=0, max_passes=12, rounds=0, **FIFTH)
    monkeypatch.setattr(Alternation, "run", lies)
    found = dnmf.fit(V, 8, tol=0, max_passes=24, **FIFTH)
    refused = [row for row in found.history if not row["accepted"]]
    assert len(refused) >= 8
    assert all(row["rounds"] == 8 for row in refused)
    course = [row["objective"] for row in found.history if row["accepted"]]
    assert all(after <= before for before, after in pairwise(course))
    assert found.objective <= plain.history[len(course) // 2]["objective"]


def test_given_rows_of_h_stay() -> None:
    V = spectra("float64")
    fixed = np.abs(np.random.default_rng(0).normal(size=(2, V.shape[1]))) + 1
    found = dnmf.fit(V, 8, fixed_H=fixed, tol=1e-6, **FIFTH)
    np.testing.assert_array_equal(np.asarray(found.H)[:2], fixed)
    assert any(row.get("rounds", 0) > 1 for row in found.history)


def test_exactly_what_is_zero_stays_zero() -> None:
    V = spectra("float64")
    V[:, [3, 70]] = 0
    V[[5, 44, 250]] = 0
    found = dnmf.fit(V, 8, tol=1e-6, **FIFTH)
    assert any(row.get("rounds", 0) > 1 for row in found.history)
    assert not np.asarray(found.H)[:, [3, 70]].any()
    assert not np.asarray(found.W)[[5, 44, 250]].any()


@pytest.mark.parametrize(
    ("options", "shape", "k", "why"),
    [
        ({"loss": "kullback-leibler"}, (3000, 400), 5, "loss 'kullback-leibler'"),
        ({"solver": "mu"}, (3000, 400), 5, "solver 'mu'"),
        ({"weights": True}, (3000, 400), 5, "entries that have weights"),
        ({}, (3000, 14), 5, "14 columns are too few"),
        ({}, (10_000_000, 500), 40, "more than 1.1 GB"),
        ({"rounds": 0}, (3000, 400), 5, ""),
    ],
)
def test_where_there_are_none_the_plan_says_why(
    options: dict[str, Any], shape: tuple[int, int], k: int, why: str
) -> None:
    V = np.broadcast_to(np.float32(1), shape)
    config = FitConfig((ModelSpec(k, 0),), **options)
    rounds = make_plan(open_source(V), config)[0].rounds[0]
    assert rounds.most == 0
    assert why in rounds.why_none
    assert bool(why) == bool(rounds.why_none)


def test_there_are_none_where_what_is_not_stored_is_unobserved() -> None:
    config = FitConfig((ModelSpec(5, 0),), missing="zeros")
    rounds = make_plan(open_source(sp.csr_array(np.eye(3000, 400))), config)[0].rounds[0]
    assert rounds.most == 0
    assert "what is not stored is unobserved" in rounds.why_none


def test_a_number_of_rounds_is_the_most() -> None:
    found = dnmf.fit(spectra("float64"), 8, rounds=4, tol=1e-7, **FIFTH)
    assert max(row.get("rounds", 0) for row in found.history) == 4


def test_models_of_a_study_have_their_own_rounds() -> None:
    V = spectra("float64")
    sample = {"sample_bytes": FIFTH["sample_bytes"], "n_init": 1}
    study = dnmf.fit_many(V, [3, 8], [0], holdout=None, tol=1e-5, **sample)
    for k in (3, 8):
        alone = dnmf.fit(V, k, tol=1e-5, **FIFTH)
        mine = study.result(k)
        assert mine.objective == pytest.approx(alone.objective, rel=1e-5)
        assert any(row.get("rounds", 0) > 1 for row in mine.history)
