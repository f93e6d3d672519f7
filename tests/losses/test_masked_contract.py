"""Losses over observed entries, and weighted ones, keep the contract of a loss."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.special import xlogy

from dnmf.linalg.weighted import weigh
from dnmf.losses import get_loss
from dnmf.testing.alternation import Alternation
from dnmf.testing.loss_contract import LossContract


def weights_of(shape):
    """30% are unobserved, the others weigh what they like."""
    rng = np.random.default_rng(5)
    M = rng.gamma(1.0, size=shape) + 0.1
    M[rng.random(shape) < 0.3] = 0
    return M


class Masked:
    """Entries of V that are zero are unobserved; observed ones are positive."""

    sparse = False

    def weights(self, V):
        return (V != 0).astype(float)

    def loss(self):
        return get_loss(self.kind, masked=True)

    def wrapped(self, V):
        return sp.csr_array(V)

    def make(self, dtype, seed=0):
        V, W, H = super().make(dtype, seed)
        return np.where(weights_of(V.shape) > 0, V + V.dtype.type(0.5), 0), W, H


class Weighted(Masked):
    def weights(self, V):
        return np.where(V != 0, weights_of(V.shape), 0.0)

    def wrapped(self, V):
        return weigh(V, self.weights(V).astype(V.dtype), None)

    def _size(self, V):
        return float(np.sum(self.weights(V) * V.astype(float) ** self.degree))


class TestMaskedFrobenius(Masked, LossContract):
    kind = "frobenius"

    def definition(self, V, WH):
        return 0.5 * float(np.sum(self.weights(V) * (V - WH) ** 2))

    def misfits(self, V, WH):
        return np.sum(self.weights(V) * (V - WH) ** 2, axis=1)

    def curvature_H(self, turn):
        k = turn.factor.H.shape[0]
        diagonal = [k + t * (t + 1) // 2 + t for t in range(k)]
        return turn.wide[diagonal]

    def curvature_W(self, turn):
        return self.weights(self.make("float64")[0]) @ (turn.factor.H**2).T


class TestWeightedFrobenius(Weighted, TestMaskedFrobenius, LossContract):
    kind = "frobenius"


class TestMaskedKullbackLeibler(Masked, LossContract):
    kind = "kullback-leibler"
    degree = 1.0
    gain = "bound"
    leap = 0.8

    def definition(self, V, WH):
        Y = np.where(V > 0, WH, 1)
        return float(np.sum(self.weights(V) * (xlogy(V, V / Y) - V + WH)))

    def curvature_H(self, turn):
        return turn.wide[-turn.factor.H.shape[0] :] / turn.factor.H

    def curvature_W(self, turn):
        return self.weights(self.make("float64")[0]) @ turn.factor.H.T / turn.W


class TestWeightedKullbackLeibler(Weighted, TestMaskedKullbackLeibler, LossContract):
    kind = "kullback-leibler"


@pytest.mark.parametrize("held", [1, 3])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("frobenius", {}),
        ("frobenius", {"solver": "mu"}),
        ("frobenius", {"masked": True}),
        ("kullback-leibler", {}),
        ("kullback-leibler", {"masked": True}),
        ("itakura-saito", {}),
        ("beta", {"beta": 1.5}),
    ],
)
def test_rows_of_H_are_held(kind, options, held):
    """by both steps of H, and the objective still falls"""
    V, W, H = TestMaskedFrobenius().make("float64")
    V = V + 0.1
    loss = get_loss(kind, fixed=held, **options)
    masked = "masked" in options
    walk = Alternation(loss, sp.csr_array(V) if masked else V, [0, 30, 61], [0, 11, 23])
    objectives = []
    for _ in range(6):
        turn = walk.turn(W, H)
        objectives.append(turn.objective)
        for step, (a, b) in zip(turn.steps, [(0, 11), (11, 23)], strict=True):
            for new in (step.H, step.extrapolated):
                if new is not None:
                    np.testing.assert_array_equal(new[:held], H[:held, a:b])
                    assert not np.array_equal(new[held:], H[held:, a:b])
        W, H = turn.W, turn.H
    assert (np.diff(objectives) < 0).all()
