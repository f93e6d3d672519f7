"""Penalties mean the same on a sample as on all rows: those of H are multiplied by the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dnmf
from dnmf.fitting import batch, race_work
from dnmf.losses import Loss
from dnmf.testing.problems import planted_poisson

OPTIONS: list[dict[str, Any]] = [
    {"alpha_W": 0.02, "alpha_H": 0.5, "l1_ratio": 1.0},
    {"alpha_W": 0.02, "alpha_H": 0.5},
    {"alpha_W": 0.02, "alpha_H": 0.2, "loss": "kullback-leibler"},
    {"alpha_W": 0.01, "alpha_H": 0.1, "l1_ratio": 1.0, "loss": "kullback-leibler"},
    {"alpha_W": 0.01, "alpha_H": 0.1, "l1_ratio": 1.0, "loss": "itakura-saito"},
]


def after_the_sample(V: np.ndarray, options: dict[str, Any]) -> tuple[float, float]:
    """The objective of the first pass over all rows, and at the end."""
    fit = dnmf.fit(V, 4, seed=0, sample_bytes=V.nbytes // 5, n_init=1, max_passes=20, **options)
    values = [row["objective"] for row in fit.history if row["accepted"]]
    return values[0], values[-1]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_sample_solves_the_same_problem(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fifth of the rows brings the fit near its end; with the penalty of all rows it does not."""
    V = planted_poisson(2000, 40, 4, dtype="float64").V + 0.2
    first, last = after_the_sample(V, options)
    assert first <= 1.03 * last
    right: Callable[..., Loss] = batch.loss_of

    def wrong(plan: Any, rows: int, *more: Any, **named: Any) -> Loss:
        return right(plan, plan.shape[0], *more, **named)

    for module in (batch, race_work):
        monkeypatch.setattr(module, "loss_of", wrong)
    first, last = after_the_sample(V, options)
    assert first > 1.1 * last
