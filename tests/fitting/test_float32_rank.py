"""In float32, k above the rank: a fit ends exactly, or says that rounding hides the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import dnmf

RNG = np.random.default_rng(0)
P = RNG.poisson(RNG.gamma(0.5, size=(400, 5)) @ RNG.gamma(0.5, size=(5, 60)) * 3)
ROWS = P[RNG.integers(0, 3, 500)].astype("f4")

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "few distinct rows": (ROWS, {}),
    "few distinct rows, CSR": (sp.csr_array(ROWS), {}),
    "few distinct columns": (np.ascontiguousarray(ROWS.T), {}),
    "rank 1": (np.outer(np.arange(1, 301), np.arange(1, 41)).astype("f4"), {}),
    "few distinct rows, Kullback-Leibler": (ROWS + 1, {"loss": "kullback-leibler"}),
    "few distinct rows, one start": (ROWS, {"n_init": 1}),
}


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", CASES)
def test_it_ends_and_says_why(name: str, seed: int) -> None:
    V, options = CASES[name]
    fit = dnmf.fit(V, 5, seed=seed, **options)
    hidden = "rounding in float32 hides any further decrease" in fit.stop_reason
    assert hidden or fit.stop_reason.startswith(("exact after", "converged after"))
    assert fit.passes < 50, fit.stop_reason
    assert fit.history[-1]["relative_error"] < 5e-4


def test_it_is_as_exact_as_float32_allows() -> None:
    """The seed that ended after all passes, 1e-4 from V."""
    fit = dnmf.fit(ROWS, 5, seed=1)
    assert fit.stop_reason.startswith("exact after")
    assert fit.history[-1]["relative_error"] < 2e-6


def test_starts_are_told_apart_below_the_rounding_of_products() -> None:
    starts = dnmf.fit(ROWS, 5, seed=1).details["starts"]
    assert len(set(starts["objectives"])) > 1
