"""Rows that a transform solves, at an H that has zeros, and what is told of their objective."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from row_reference import Row, divergence

import dnmf
from dnmf.steps.events import Notice

TOLERANCE = {"float32": 1e-3, "float64": 1e-6}


def sparse_rows(seed: int, k: int = 6, d: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Counts, and rows of H that share few columns; some columns belong to one row alone."""
    rng = np.random.default_rng(seed)
    H = rng.gamma(1.0, size=(k, d)) * (rng.random((k, d)) < 0.3)
    H[:, ~H.any(axis=0)] = 1.0
    W = rng.gamma(1.0, size=(20, k)) * (rng.random((20, k)) < 0.6) * 100 + 0.1
    return rng.poisson(W @ H).astype(float), H


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("beta", [1.0, 1.2, 1.5, 1.8, 2.0])
def test_no_entry_is_left_without_W_H(beta: float, dtype: str) -> None:
    """A count above 0 that one component alone reaches does not lose it for good."""
    for seed in range(10):
        V, H = sparse_rows(seed)
        V, H = V.astype(dtype), H.astype(dtype)
        W = dnmf.transform(V, H, beta=beta)
        for i in range(len(V)):
            row, w = Row(V[i], H, np.ones(V.shape[1]), beta, 0.0, 0.0), np.asarray(W[i], float)
            even = V[i].sum() / H.sum(axis=1, dtype=float) / len(H)
            best = row.best(0.9 * w + 0.1 * even)
            assert row(w)[0] <= best * (1 + TOLERANCE[dtype]), (seed, i)


@pytest.mark.parametrize(("beta", "seed"), [(3.0, 83), (3.0, 255), (3.0, 306), (4.0, 380)])
def test_a_step_that_leads_upwards_is_not_the_end(beta: float, seed: int) -> None:
    """Where the divergence is not convex: another step leads downwards."""
    rng, told = np.random.default_rng(seed), []
    k, d = 10, 30
    H = rng.gamma(1.0, size=(k, d))
    Y = rng.gamma(0.5, size=(8, k)) @ H
    V = rng.gamma(0.3, size=Y.shape) * (Y + Y.mean())
    V /= V.max()
    W = dnmf.transform(V, H, beta=beta, alpha_W=1e-3, l1_ratio=1.0, on_event=told.append)
    assert not [event for event in told if isinstance(event, Notice)]
    for v, w in zip(V, W, strict=True):
        row = Row(v, H, np.ones(d), beta, d * 1e-3, 0.0)
        assert row(w)[0] <= row.best(w) * (1 + 1e-6)


LOSSES: list[tuple[str, dict[str, Any]]] = [
    ("dense", {"beta": 2.0}),
    ("csr", {"beta": 2.0}),
    ("nan", {"beta": 2.0, "missing": "nan"}),
    ("csr", {"beta": 2.0, "missing": "zeros"}),
    ("weights", {"beta": 2.0}),
    ("dense", {"beta": 1.5}),
    ("csr", {"beta": 3.0}),
    ("dense", {"beta": 1.0}),
    ("csr", {"beta": 1.0}),
    ("csr", {"beta": 1.0, "missing": "zeros"}),
    ("weights", {"beta": 1.0}),
]


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize(("kind", "options"), LOSSES)
def test_the_objective_is_that_of_all_entries(
    kind: str, options: dict[str, Any], parallel: bool, tmp_path: Path
) -> None:
    """also of those in columns where H is 0, and in a row that has no others"""
    beta, rng = options["beta"], np.random.default_rng(4)
    H = rng.random((3, 12)) + (1e4 if parallel else 0.1)
    V = rng.poisson(rng.random((8, 3)) * 9 @ rng.random((3, 12))).astype(float)
    m = np.ones(V.shape)
    if beta > 1:  # else it is infinite
        H[:, 4] = 0
        V[:, 4], V[2], V[2, 4] = 3, 0, 5
    given: Any = sp.csr_array(V) if kind == "csr" else V
    if kind == "nan":
        m = (rng.random(V.shape) < 0.8).astype(float)
        given = np.where(m > 0, V, np.nan)
    if kind == "weights":
        m = rng.gamma(2.0, size=V.shape)
        options = {**options, "weights": m}
    if options.get("missing") == "zeros":
        m = (V > 0).astype(float)
    W = dnmf.transform(given, H, out=tmp_path / "W", **options)[:]
    right = float(np.sum(m * divergence(V, W @ H, beta)))
    assert dnmf.open(tmp_path / "W").objective == pytest.approx(right, rel=1e-9)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 1.2, 1.5, 1.8, 2.0, 2.5, 3.0])
def test_what_fits_exactly_has_an_objective_of_0_or_more(beta: float, tmp_path: Path) -> None:
    """though sums that cancel round below it"""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        H = rng.gamma(1.0, size=(4, 30)) + 1e-3
        V = rng.gamma(0.5, size=(8, 4)) @ H
        W = dnmf.transform(V, H, beta=beta, out=tmp_path / f"W{seed}")[:]
        np.testing.assert_allclose(W @ H, V, rtol=1e-6)
        found = dnmf.open(tmp_path / f"W{seed}")
        assert 0 <= found.objective <= 1e-10 * V.size
        assert found.relative_error >= 0
