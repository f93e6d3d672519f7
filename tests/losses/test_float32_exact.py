"""In float32 what sweeps leave is solved exactly, where float32 has the digits that tell it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp

from dnmf.linalg.products import gram
from dnmf.losses.frobenius import Frobenius
from dnmf.losses.limits import LossLimits
from dnmf.losses.masked import MaskedFrobenius
from dnmf.losses.values import Block

K = 5


def background(size: int, rng: np.random.Generator, level: float) -> np.ndarray:
    """Rows that share a background: G has a condition of about 40 level^2."""
    x = np.arange(size)
    H = np.exp(-0.5 * ((x - np.linspace(3, size - 4, K)[:, None]) / 2.5) ** 2) + level
    return H / np.linalg.norm(H, axis=1)[:, None]


def of_loss(kind: Any, **limits: int) -> Any:
    return kind(limits=LossLimits(**limits))


def nearest(V: np.ndarray, H: np.ndarray) -> np.ndarray:
    return np.array([scipy.optimize.nnls(H.T, row)[0] for row in V])


@pytest.mark.parametrize("level", [2.0, 5.0])
@pytest.mark.parametrize("sweeps", [1, 500])
def test_columns_of_H(level: float, sweeps: int) -> None:
    rng = np.random.default_rng(0)
    W = background(60, rng, level).T
    V = rng.poisson(W @ rng.gamma(1.0, size=(K, 30)) * 300).astype(float)
    loss = of_loss(Frobenius, H_sweeps=sweeps)
    small, _ = loss.empty(K, 30, np.dtype("f4"), False)
    small.WtW = gram(W.astype("f4"))
    H = np.ones((K, 30), "f4")
    columns = np.array([V.sum(0), np.square(V).sum(0)])
    step = loss.update_H((W.astype("f4").T @ V.astype("f4")), small, H, columns)
    want = nearest(V.T, W.T).T
    left = [np.square(V - W @ found).sum() for found in (step.H.astype(float), want)]
    assert left[0] <= left[1] * (1 + 1e-4)
    assert step.open_columns == 0


@pytest.mark.parametrize("level", [2.0, 5.0])
@pytest.mark.parametrize("missing", [False, True])
def test_rows_of_W(level: float, missing: bool) -> None:
    rng = np.random.default_rng(0)
    H = background(60, rng, level)
    V = rng.poisson(rng.gamma(1.0, size=(40, K)) @ H * 300 + 1).astype("f4")
    V[V == 0] = 1
    seen = rng.random(V.shape) < 0.8 if missing else np.ones(V.shape, bool)
    loss = of_loss(MaskedFrobenius if missing else Frobenius, W_sweeps=1)
    given: Any = sp.csr_array(np.where(seen, V, 0)) if missing else V
    factor = loss.prepare(H.astype("f4"), missing)
    stats = loss.empty(K, 60, np.dtype("f4"), missing)
    W = np.zeros((40, K), "f4")
    sums = np.array([V.sum(1), np.square(V, dtype=float).sum(1)])
    loss.update_block(Block(given, 0, sums), W, factor, stats, tau=1e-2, residual=False)
    assert stats[0].open_rows == 0
    for row, found, of in zip(V, W, seen, strict=True):
        want = scipy.optimize.nnls(H[:, of].T, row[of])
        left = np.square(row[of] - found.astype(float) @ H[:, of]).sum()
        assert left <= want[1] ** 2 * (1 + 1e-4)


def test_rows_with_missing_entries_where_components_are_parallel() -> None:
    """A sweep that moves little says nothing: coordinate descent hardly moves at all."""
    rng = np.random.default_rng(0)
    H = background(60, rng, 300.0)
    V = rng.gamma(1.0, size=(40, K)) @ H * 300
    V *= 1 + 1e-3 * rng.normal(size=V.shape)
    seen = rng.random(V.shape) < 0.8
    loss = of_loss(MaskedFrobenius)
    factor, stats = loss.prepare(H, True), loss.empty(K, 60, np.dtype("f8"), True)
    W = np.full((40, K), 100.0)
    given = sp.csr_array(np.where(seen, V, 0))
    sums = np.array([V.sum(1), np.square(V).sum(1)])
    loss.update_block(Block(given, 0, sums), W, factor, stats, tau=1e-2, residual=False)
    for row, found, of in zip(V, W, seen, strict=True):
        want = scipy.optimize.nnls(H[:, of].T, row[of])
        assert np.square(row[of] - found @ H[:, of]).sum() <= want[1] ** 2 * (1 + 1e-6)
