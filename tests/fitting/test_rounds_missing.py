"""Rounds between two reads where some entries are missing."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from rounds_data import spectra

import dnmf
from dnmf.steps.events import Notice

FIFTH: dict[str, Any] = {"sample_bytes": 300 * 100 * 8 // 5, "n_init": 1, "seed": 0}
GAPS: dict[str, Any] = {**FIFTH, "missing": "nan"}


def with_gaps(share: float = 0.05, dtype: str = "float64") -> np.ndarray:
    V = spectra(dtype)
    V[np.random.default_rng(5).random(V.shape) < share] = np.nan
    return V


def reads_until(history: list[dict[str, Any]], end: float, share: float) -> int:
    course = np.minimum.accumulate([row["objective"] for row in history])
    return int(np.flatnonzero([*(course <= end * (1 + share)), True])[0]) + 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_third_of_the_reads(dtype: str) -> None:
    V = with_gaps(dtype=dtype)
    plain = dnmf.fit(V, 8, tol=1e-9, max_passes=100, rounds=0, **GAPS)
    found = dnmf.fit(V, 8, tol=1e-9, max_passes=60, **GAPS)
    end = min(plain.objective, found.objective)
    assert found.objective <= end * (1 + 1e-3)
    needed = reads_until(found.history, end, 1e-3)
    assert 3 * needed <= reads_until(plain.history, end, 1e-3)


OTHERS: dict[str, dict[str, Any]] = {
    "penalties": {"alpha_W": 1e-3, "alpha_H": 1e-3, "l1_ratio": 0.5},
    "normalized": {"normalize": "components"},
    "slabs and segments": {"slab_size": 8 * 8 * 30, "segments": 7, "block_size": 100 * 8 * 20},
    "fixed rows": {"fixed_H": np.full((1, spectra("float64").shape[1]), 2.0)},
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_objective_of_accepted_passes_never_rises(name: str) -> None:
    options = {**GAPS, "tol": 1e-7, "max_passes": 20, **OTHERS[name]}
    found = dnmf.fit(with_gaps(), 8, **options)
    course = [row["objective"] for row in found.history if row["accepted"]]
    assert all(after <= before for before, after in pairwise(course))
    assert any(row.get("rounds", 0) > 1 for row in found.history)
    end = dnmf.fit(with_gaps(), 8, **{**options, "rounds": 0, "max_passes": 40}).objective
    assert found.objective <= end * 1.002


def test_the_end_is_true() -> None:
    V = with_gaps()
    found = dnmf.fit(V, 8, **GAPS)
    assert "converged" in found.stop_reason
    end = dnmf.fit(V, 8, tol=1e-9, max_passes=80, **GAPS).objective
    assert found.objective <= end * (1 + 3e-4)


def test_rows_and_columns_of_which_nothing_is_known() -> None:
    V = with_gaps(0.02)
    V[7] = V[:, 11] = np.nan
    found = dnmf.fit(V, 8, tol=1e-6, **GAPS)
    assert any(row.get("rounds", 0) > 1 for row in found.history)
    assert not np.asarray(found.H)[:, 11].any()
    assert not np.asarray(found.W)[7].any()


def test_where_many_are_missing_it_is_said_once() -> None:
    told: list[Any] = []
    found = dnmf.fit(with_gaps(0.2), 8, max_passes=5, on_event=told.append, **GAPS)
    notes = [event.text for event in told if isinstance(event, Notice) and "rounds" in event.text]
    assert len(notes) == 1
    assert "20% of the entries are missing" in notes[0]
    assert not any(row.get("rounds") for row in found.history)
    asked = dnmf.fit(with_gaps(0.2), 8, rounds=5, max_passes=5, tol=0, **GAPS)
    assert any(row.get("rounds") for row in asked.history)
