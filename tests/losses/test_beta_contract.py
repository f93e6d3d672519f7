"""Beta-divergences keep the contract of a loss."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from marks import slow

from dnmf.losses import LossLimits, get_loss
from dnmf.losses.values import Block
from dnmf.testing.alternation import Alternation
from dnmf.testing.loss_contract import LossContract


class TestBeta(LossContract):
    kind = "beta"
    degree = 0.5
    gain = "estimate"
    beta = 0.5

    def loss(self):
        return get_loss(self.kind, beta=self.beta)

    def definition(self, V, WH):
        b = self.beta
        return float(np.sum(V**b + (b - 1) * WH**b - b * V * WH ** (b - 1))) / (b * (b - 1))

    def curvature_H(self, turn):
        k = turn.factor.H.shape[0]
        return turn.wide[k : 2 * k] / turn.factor.H

    def curvature_W(self, turn):
        Y = turn.W @ turn.factor.H
        return Y ** (self.beta - 1) @ turn.factor.H.T / turn.W


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


class TestBetaBetweenOneAndTwo(TestBeta, LossContract):
    degree = beta = 1.5


class TestBetaAboveTwo(TestBeta, LossContract):
    degree = beta = 3.0


class TestBetaBelowZero(TestItakuraSaito, LossContract):
    kind = "beta"
    degree = beta = -1.0
    definition = TestBeta.definition


@pytest.mark.parametrize("beta", [0.5, *slow(1.5, 3.0)])
def test_wide_rows_are_cut_into_columns(beta):
    """the same numbers to rounding, from tiles of few columns as from whole rows"""
    rng = np.random.default_rng(0)
    V = rng.poisson(1.0, (40, 300)).astype(float)
    V[3], V[:, 7] = 0, 0
    W, H = rng.gamma(2.0, size=(40, 4)), rng.gamma(2.0, size=(4, 300))
    rows = np.stack([V.sum(axis=1), (V**2).sum(axis=1)])
    for matrix in (V, sp.csr_array(V)):
        turns, solved = [], []
        for entries in (1 << 16, 16 * 37):
            loss = get_loss("beta", beta=beta, limits=LossLimits(dense_tile=entries))
            turns.append(Alternation(loss, matrix).turn(W, H))
            solved.append(loss.solve(Block(matrix, 0, rows), turns[-1].factor))
        np.testing.assert_allclose(turns[1].W, turns[0].W, rtol=1e-10)
        np.testing.assert_allclose(turns[1].wide, turns[0].wide, rtol=1e-10)
        numbers = [(x.objective, x.stats.kkt, x.kkt_H, x.gain) for x in turns]
        np.testing.assert_allclose(numbers[1], numbers[0], rtol=1e-9)
        np.testing.assert_allclose(solved[1][0], solved[0][0], rtol=1e-9)
        assert solved[1][1] == pytest.approx(solved[0][1], rel=1e-10)


@pytest.mark.parametrize("sparse", [True, *slow(False)])
def test_a_row_of_any_length_takes_little_besides_the_statistics(sparse):
    """a block of 300,000 columns, of which 16 dense rows alone would be 38 MB"""
    m, d, k = 32, 300_000, 2
    places = np.random.default_rng(0).choice(m * d, 20_000, replace=False)
    V = sp.csr_array((np.ones(20_000), np.divmod(np.sort(places), d)), shape=(m, d))
    rows = np.stack([V.sum(axis=1), V.sum(axis=1)])
    matrix = V if sparse else V.toarray().astype(np.float32)
    H = np.random.default_rng(1).gamma(2.0, size=(k, d))
    loss = get_loss("beta", beta=0.5)
    factor, stats = loss.prepare(H, sparse), loss.empty(k, d, H.dtype, sparse)
    W = np.zeros((m, k))
    tracemalloc.start()
    loss.update_block(Block(matrix, 0, rows), W, factor, stats, tau=1e-2, residual=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert W.any()
    scratch = loss.scratch_bytes(k, d, 20_000, H.dtype, sparse)
    assert peak <= scratch
    assert scratch < 8 * 16 * d * 2  # tiles of whole rows: 9 of 8 * 16 * d
