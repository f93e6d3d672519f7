"""Which rows random starts race on, where rows are so long that few fit."""

from __future__ import annotations

import numpy as np
import pytest

import dnmf
from dnmf.fitting import memory
from dnmf.fitting.events import Committed
from dnmf.testing.problems import planted_poisson


def _kinds(V, **options):
    seen = []
    dnmf.fit(V, 3, seed=0, max_passes=2, on_event=seen.append, **options)
    return [event.kind for event in seen if isinstance(event, Committed)]


def test_starts_race_on_small_data():
    assert "race" in _kinds(planted_poisson().dense)
    assert "race" not in _kinds(planted_poisson().dense, n_init=1)


@pytest.mark.parametrize("seed", range(5))
def test_rows_too_long_to_race_on(monkeypatch, seed):
    """24 rows of which one fits the race's bytes: by chance there would be none at all."""
    monkeypatch.setattr(memory, "RACE_BYTES", 300)
    V = np.random.default_rng(0).random((24, 50))
    assert "race" not in _kinds(V)
    fit = dnmf.fit(V, 2, seed=seed, init="nndsvd", max_passes=3)
    assert fit.relative_error < 1
