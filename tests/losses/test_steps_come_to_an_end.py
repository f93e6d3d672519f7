"""Least squares whose sweeps reach their limit goes on by the active set: no count ends a step.

Rows of H, and columns of W, are peaks on a background, which one sweep is far from solving.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import nnls

from dnmf.losses import LossLimits, get_loss
from dnmf.losses.values import Block, Penalties

ONE = LossLimits(W_sweeps=1, H_sweeps=1)
K = 4


def peaks(d: int) -> np.ndarray:
    x, centers = np.arange(d), np.linspace(2, d - 3, K)
    return np.exp(-0.5 * ((x - centers[:, None]) / 2.5) ** 2) + 1.0


def problem(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """V (60, 30), of columns of W that are peaks, and its H, of peaks."""
    rng = np.random.default_rng(seed)
    W, H = peaks(60).T * rng.gamma(1.0, size=K), peaks(30)
    return rng.poisson(9 * W @ (H * rng.gamma(1.0, size=(K, 1)))).astype(float), H


def block(V: Any) -> Block:
    dense = V if isinstance(V, np.ndarray) else V.toarray()
    sums = np.stack([dense.sum(axis=1), (dense**2).sum(axis=1)])
    return Block(V, 0, sums, np.arange(len(dense)))


def step(loss: Any, V: Any, W: np.ndarray, H: np.ndarray) -> tuple[np.ndarray, Any]:
    """W of a pass from a start far away, and the H-step of the solution."""
    factor = loss.prepare(H, not isinstance(V, np.ndarray))
    stats = loss.empty(K, H.shape[1], H.dtype, not isinstance(V, np.ndarray))
    loss.update_block(block(V), W, factor, stats, tau=1e-2, residual=False)
    (wide,) = loss.slabs(stats[1], [0, H.shape[1]])
    dense = V if isinstance(V, np.ndarray) else V.toarray()
    columns = np.stack([dense.sum(axis=0), (dense**2).sum(axis=0)])
    return W, loss.update_H(wide, stats[0], H, columns)


def solved(A: np.ndarray, V: np.ndarray, l1: float, l2: float) -> np.ndarray:
    """min |v - x A|^2 / 2 + l1 sum(x) + l2 / 2 |x|^2 for each row v, by SciPy"""
    G = A @ A.T + l2 * np.eye(len(A))
    root = np.linalg.cholesky(G).T
    return np.stack([nnls(root, np.linalg.solve(root.T, A @ v - l1))[0] for v in V])


@pytest.mark.parametrize("fixed", [0, 2])
@pytest.mark.parametrize("penalty", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["dense", "csr", "masked"])
def test_one_sweep_is_enough_to_ask_for(kind: str, penalty: float, fixed: int) -> None:
    V, H = problem()
    penalties = Penalties(penalty, penalty, penalty, penalty)
    given: Any = V if kind == "dense" else sp.csr_array(V + (1e-3 if kind == "masked" else 0.0))
    seen = V if kind == "dense" else given.toarray()
    masked = kind == "masked"
    loss = get_loss("frobenius", penalties, masked=masked, fixed=fixed, limits=ONE)
    start = np.full((len(V), K), 0.1)
    found, new = step(loss, given, start, H)
    right = solved(H, seen, penalty, penalty)
    np.testing.assert_allclose(found, right, atol=1e-6 * right.max())
    rest = seen - found[:, :fixed] @ H[:fixed]
    right = solved(found[:, fixed:].T, rest.T, penalty, penalty).T
    np.testing.assert_allclose(new.H[fixed:], right, atol=1e-6 * right.max())
    np.testing.assert_array_equal(new.H[:fixed], H[:fixed])
    assert new.gain > 0


def test_a_fold_is_solved_as_the_rest() -> None:
    V, H = problem()
    out = np.arange(30) % 5 == 0
    fold = SimpleNamespace(columns=np.flatnonzero(out), rows=lambda numbers: numbers % 3 == 0)
    loss = get_loss("frobenius", limits=ONE)
    seen = H.copy()
    seen[:, out] = 0
    held, factor = loss.hold_out(H, fold, False), loss.prepare(seen, False)
    W = np.full((len(V), K), 0.1)
    held.update(block(V), W, factor, loss.empty(K, 30, H.dtype, False), tau=1e-2, residual=False)
    right = solved(seen, V, 0.0, 0.0)
    np.testing.assert_allclose(W, right, atol=1e-6 * right.max())
