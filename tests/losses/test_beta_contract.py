"""Beta-divergences keep the contract of a loss."""

from __future__ import annotations

import numpy as np
import pytest

from dnmf.losses import get_loss
from dnmf.testing.loss_contract import Alternation, LossContract


class TestBeta(LossContract):
    kind = "beta"
    degree = 0.5
    beta = 0.5

    def definition(self, V, WH):
        b = self.beta
        return float(np.sum(V**b + (b - 1) * WH**b - b * V * WH ** (b - 1))) / (b * (b - 1))

    def curvature_H(self, turn):
        k = turn.factor.H.shape[0]
        return turn.wide[k : 2 * k] / turn.factor.H

    def curvature_W(self, turn):
        Y = turn.W @ turn.factor.H
        return Y ** (self.beta - 1) @ turn.factor.H.T / turn.W

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_gain_is_what_the_new_H_gains(self, dtype):
        """the gain of the multiplicative step is an estimate; the bold step gains more"""
        V, W, H = self.make(dtype)
        walk = Alternation(get_loss(self.kind), V)
        for _ in range(3):
            turn = walk.turn(W, H)
            before = self._at(V, turn.W, turn.factor.H)
            gained = before - self._at(V, turn.W, turn.H)
            assert turn.gain > 0
            assert gained > 0
            assert before - self._at(V, turn.W, turn.steps[0].bold) > gained
            W, H = turn.W, turn.H


class TestItakuraSaito(TestBeta, LossContract):
    kind = "itakura-saito"
    degree = 0.0
    beta = 0.0
    sparse = False

    def make(self, dtype, seed=0):
        V, W, H = super().make(dtype, seed)
        return V + V.dtype.type(0.5), W, H

    def definition(self, V, WH):
        return float(np.sum(V / WH - np.log(V / WH) - 1))

    test_zero_rows_and_columns_stay_zero = None  # V > 0
