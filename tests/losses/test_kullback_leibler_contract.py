"""Kullback-Leibler keeps the contract of a loss, and what only it promises."""

from __future__ import annotations

import numpy as np
from scipy.special import xlogy

from dnmf.testing.loss_contract import LossContract


class TestKullbackLeibler(LossContract):
    kind = "kullback-leibler"
    degree = 1.0
    gain = "bound"

    def definition(self, V, WH):
        return float(np.sum(xlogy(V, V / np.where(V > 0, WH, 1)) - V + WH))

    def curvature_H(self, turn):
        return turn.stats.sums[:, None] / turn.factor.H

    def curvature_W(self, turn):
        return turn.factor.sums[None, :] / np.maximum(turn.W, 1e-300)
