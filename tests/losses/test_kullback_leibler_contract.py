"""Kullback-Leibler keeps the contract of a loss, and what only it promises."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import xlogy

from dnmf.losses import get_loss
from dnmf.testing.loss_contract import Alternation, LossContract


class TestKullbackLeibler(LossContract):
    kind = "kullback-leibler"
    degree = 1.0

    def definition(self, V, WH):
        return float(np.sum(xlogy(V, V / np.where(V > 0, WH, 1)) - V + WH))

    def curvature_H(self, turn):
        return turn.stats.sums[:, None] / turn.factor.H

    def curvature_W(self, turn):
        return turn.factor.sums[None, :] / np.maximum(turn.W, 1e-300)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_gain_is_what_the_new_H_gains(self, dtype):
        """the multiplicative step promises at most its gain; the extrapolated one gains more"""
        V, W, H = self.make(dtype)
        walk = Alternation(get_loss(self.kind), V)
        for _ in range(3):
            turn = walk.turn(W, H)
            before = self._at(V, turn.W, turn.factor.H)
            gained = before - self._at(V, turn.W, turn.H)
            assert 0 < turn.gain <= gained * (1 + 1e-5)
            leap = before - self._at(V, turn.W, turn.steps[0].extrapolated)
            assert leap > gained
            W, H = turn.W, turn.H
