"""Least squares keeps the contract of a loss, and what only least squares promises."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls

from dnmf.errors import OptionError
from dnmf.losses import get_loss
from dnmf.losses.values import Candidate, SmallStats
from dnmf.testing.alternation import Alternation
from dnmf.testing.loss_contract import LossContract
from dnmf.testing.problems import exact_low_rank


class TestFrobenius(LossContract):
    kind = "frobenius"
    degree = 2.0

    def definition(self, V, WH):
        return 0.5 * float(np.sum((V - WH) ** 2))

    @pytest.mark.parametrize("power", [-30, 30])
    def test_scaling_by_a_power_of_two_scales_the_bits(self, power):
        V, W, H = self.make("float64")
        scale = 2.0**power
        walks = [Alternation(get_loss("frobenius"), V * s, [0, 30, 61]) for s in (1.0, scale)]
        one, other = walks[0].turn(W, H), walks[1].turn(W * scale, H)
        assert other.W.tobytes() == (one.W * scale).tobytes()
        assert other.H.tobytes() == one.H.tobytes()
        assert other.objective == one.objective * scale**2
        assert other.kkt_H == one.kkt_H * scale**2

    def test_the_new_H_solves_every_column(self):
        V, W, H = self.make("float64")
        turn = Alternation(get_loss("frobenius"), V, slabs=[0, 7, 23]).turn(W, H)
        best = np.array([nnls(turn.W, v)[1] for v in V.T])
        found = np.linalg.norm(V - turn.W @ turn.H, axis=0)
        np.testing.assert_allclose(found, best, rtol=1e-5)

    def test_a_zero_W_starts_near_the_solution(self):
        V, W, H = self.make("float64")
        turn = Alternation(get_loss("frobenius"), V).turn(np.zeros_like(W), H, tau=1e-3)
        best = np.array([nnls(H.T, v)[1] for v in V])
        found = np.linalg.norm(V - turn.W @ H, axis=1)
        np.testing.assert_allclose(found, best, rtol=1e-4)


def test_an_unknown_loss_is_refused_with_the_names_of_all():
    with pytest.raises(OptionError, match=r"loss is 'l3'; it must be one of .*frobenius"):
        get_loss("l3")


@pytest.mark.parametrize("sparse", [False, True])
def test_residuals_are_right_where_products_cancel(sparse):
    """exact rank in float32: the products give noise, sometimes below zero"""
    import scipy.sparse as sp

    problem = exact_low_rank()
    V = sp.csr_array(problem.V) if sparse else problem.V
    walk = Alternation(get_loss("frobenius"), V, [0, 25, 50])
    W, H = problem.W, problem.H
    turn = walk.turn(W, H, tau=1e-6, residual=True)
    wide = problem.V.astype(float) - turn.W.astype(float) @ turn.factor.H.astype(float)
    true = 0.5 * float(np.sum(wide**2))
    assert true <= 1e-12 * walk.sumsq
    assert 0 <= turn.objective <= 1e-12 * walk.sumsq
    assert walk.turn(W, H, tau=1e-6).objective >= 0  # not the root of a negative number


def test_candidates_keep_four_ties_by_row():
    total = SmallStats(np.zeros((1, 1)))
    for row, residual in ((7, 1.0), (3, 5.0), (9, 5.0), (1, 2.0), (2, 0.5), (8, 3.0)):
        part = SmallStats(np.zeros((1, 1)), candidates=[Candidate(residual, row, np.zeros(2))])
        total.add(part)
    assert [(c.residual, c.row) for c in total.candidates] == [(5, 3), (5, 9), (3, 8), (2, 1)]
