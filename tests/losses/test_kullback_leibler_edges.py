"""Kullback-Leibler where V has little: columns and components that nothing holds, any scale."""

from __future__ import annotations

import numpy as np
import pytest

import dnmf
from dnmf.linalg.kl_columns import kl_H


def counts(seed: int, c: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.poisson(rng.gamma(0.3, size=(200, 3)) @ rng.gamma(0.2, size=(3, 50)) * c) * 1.0


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("whole", [True, False], ids=["K", "diagonal"])
def test_what_nothing_holds_goes_to_zero_in_both_steps(l2, whole):
    k, c = 2, 3
    S = np.array([[0.0, 2.0, 0.0], [1.0, 3.0, 0.0]])
    rows = k + (k * (k + 1) // 2 if whole else k)
    wide = np.zeros((rows, c))
    wide[:k] = S
    wide[k] = S[0]
    wide[rows - 1] = S[1]
    H, w_sums = np.full((k, c), 0.5), np.ones((k, c))
    em, extrapolated = np.zeros((k, c)), np.zeros((k, c))
    columns = np.array([1.0, 5.0, 0.0])
    _, _, gain = kl_H(wide, H, 0, w_sums, l2, columns, False, em, extrapolated)
    for found in (em, extrapolated):
        assert found[0, 0] == 0
        assert (found[:, 2] == 0).all()
        assert (found[S > 0] > 0).all()
    lost = 3 * (0.5 + 0.5 * l2 * 0.25)  # of the three entries that went to zero
    assert gain >= lost * (1 - 1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_a_fit_leaves_nothing_where_nothing_is(seed):
    V = counts(seed, 0.5)
    fitted = dnmf.fit(V, k=5, seed=0, loss="kullback-leibler")
    W, H = np.asarray(fitted.W), np.asarray(fitted.H)
    Y = W @ H
    S = H * (W.T @ np.where(Y > 0, V / np.where(Y > 0, Y, 1), 0))
    assert ((S <= 0) & (1e-9 * H.max() < H)).sum() == 0


def test_folds_of_sparse_counts_converge():
    study = dnmf.fit_many(counts(3, 0.3), [1, 2, 3], 1, loss="kullback-leibler")
    passes = [line["passes"] for line in study.models if line["fold"] is not None]
    assert len(passes) == 15
    assert max(passes) < 60


def test_the_scale_of_V_does_not_matter():
    rng = np.random.default_rng(0)
    V = rng.poisson(2 * rng.gamma(0.3, size=(200, 6)) @ rng.gamma(0.3, size=(6, 50))) * 1.0
    whole = dnmf.fit(V, k=6, seed=0, loss="kullback-leibler")
    for scale in (1e-2, 2.0**-14, 1e-8):
        fitted = dnmf.fit(V * scale, k=6, seed=0, loss="kullback-leibler")
        assert fitted.passes == whole.passes
        assert fitted.history[0]["objective"] / scale == pytest.approx(
            whole.history[0]["objective"], rel=1e-6
        )
        assert fitted.objective / scale == pytest.approx(whole.objective, rel=1e-6)
