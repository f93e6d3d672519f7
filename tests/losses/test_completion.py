"""V completed with W H where it is missing: its products, and what it is for."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from dnmf.linalg.tiles import packed_size
from dnmf.losses.compressed import Alternation, RoundSums, basis
from dnmf.losses.limits import LossLimits
from dnmf.losses.masked import MaskedFrobenius
from dnmf.losses.values import Block, Penalties

N, D, K = 40, 30, 4


def problem(dtype: str = "float64", seed: int = 0) -> tuple[np.ndarray, ...]:
    """V with zeros that were observed, which of it was, W and H."""
    rng = np.random.default_rng(seed)
    V = rng.poisson(1.0, (N, D)).astype(dtype)
    seen = rng.random((N, D)) < 0.8
    seen[3] = False
    seen[:, 5] = False
    return V, seen, rng.random((N, K)).astype(dtype), rng.random((K, D)).astype(dtype)


def observed(V: np.ndarray, seen: np.ndarray) -> sp.csr_array:
    """Return CSR that stores what was observed, zeros too."""
    rows, columns = np.nonzero(seen)
    return sp.csr_array((V[rows, columns], (rows, columns)), V.shape)


def a_pass(loss: MaskedFrobenius, dtype: str = "float64"):
    """Solve W at H and return everything that a pass leaves, with V completed."""
    V, seen, W, H = problem(dtype)
    factor, stats = loss.prepare(H, True), loss.empty(K, D, np.dtype(dtype), True)
    S = observed(V, seen)
    known = np.where(seen, V, 0)
    sums = np.array([known.sum(1), np.square(known).sum(1)], float)
    loss.update_block(Block(S, 0, sums), W, factor, stats, tau=1e-4, residual=False)
    wide = np.concatenate(loss.slabs(stats[1], [0, D]), axis=1)
    return S, seen, np.where(seen, V, W @ H), W, H, factor, stats[0], wide


@pytest.mark.parametrize("curvature_bytes", [1 << 28, 0])
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-12), ("float32", 1e-4)])
def test_products_are_those_of_the_completed_matrix(
    dtype: str, rtol: float, curvature_bytes: int
) -> None:
    loss = MaskedFrobenius(limits=LossLimits(curvature_bytes=curvature_bytes, nonzero_tile=50))
    S, _, completed, W, H, factor, small, wide = a_pass(loss, dtype)
    assert (wide.shape[0] == K + packed_size(K)) == bool(curvature_bytes) or packed_size(K) <= 2 * K
    B = np.linalg.qr(np.random.default_rng(1).random((D, 7)))[0].T.astype(dtype)
    Y = np.empty((N, 7), dtype)
    loss.compress(S, W, factor, B, Y)
    np.testing.assert_allclose(Y, completed.astype(float) @ B.T, rtol=rtol, atol=10 * rtol)
    WtV = loss.compressed_WtV(wide, small.WtW, H)
    np.testing.assert_allclose(WtV, W.T.astype(float) @ completed, rtol=rtol, atol=100 * rtol)


def masked_objective(V, seen, W, H, penalties) -> float:
    residual = np.where(seen, V - W @ H, 0.0)
    return 0.5 * np.sum(residual**2) + penalties.of_W(W.sum(), np.sum(W**2)) + penalties.of_H(H)


@pytest.mark.parametrize("penalties", [Penalties(), Penalties(0.3, 0.2, 0.1, 0.4)])
def test_the_model_has_value_and_slope_of_the_objective_and_is_above_it(
    penalties: Penalties,
) -> None:
    loss = MaskedFrobenius(penalties=penalties)
    S, seen, _, W, H, factor, small, wide = a_pass(loss)
    V = S.toarray()
    B = basis(H, [])
    Y = np.empty((N, len(B)))
    loss.compress(S, W, factor, B, Y)
    sums = RoundSums(W.T @ W, W.T @ Y, W.sum(0))
    exact = masked_objective(V, seen, W, H, penalties)
    WtV = loss.compressed_WtV(wide, small.WtW, H)
    columns = np.square(np.where(seen, V, 0)).sum(0)
    model = Alternation(loss, H, H, B, WtV, sums, None, columns, exact=exact)
    assert model.objective == pytest.approx(exact, rel=1e-12)

    def predicted(X: np.ndarray) -> float:
        return model._objective(sums, sums.WtY @ model.B + model._C, X)

    rng = np.random.default_rng(2)
    for _ in range(20):
        step = rng.normal(size=H.shape) * H * (columns > 0)
        slope = (
            masked_objective(V, seen, W, H + 1e-6 * step, penalties)
            - masked_objective(V, seen, W, H - 1e-6 * step, penalties)
        ) / 2e-6
        found = (predicted(H + 1e-6 * step) - predicted(H - 1e-6 * step)) / 2e-6
        assert found == pytest.approx(slope, rel=1e-6, abs=1e-6)
        other = np.abs(H + step)
        above = masked_objective(V, seen, W, other, penalties)
        assert predicted(other) >= above - 1e-9 * abs(above)
