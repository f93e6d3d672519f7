"""Tests of what every loss must do: inherit a class and say what the loss is.

Example::

    class TestMyLoss(LossContract):
        kind = "mine"
        degree = 1.0
        def definition(self, V, WH):
            return float(np.sum(V * np.log(V / WH) - V + WH))
"""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError
from typing import ClassVar

import numpy as np
import pytest
import scipy.sparse as sp

from dnmf.linalg.products import product_VHt
from dnmf.losses import get_loss, loss_names
from dnmf.losses.base import Loss
from dnmf.losses.values import Block, Matrix
from dnmf.testing.alternation import Alternation, Turn
from dnmf.testing.problems import planted_poisson

__all__ = ["LossContract"]


class LossContract:
    """Tests of a loss; a subclass gives ``kind`` and ``definition``, and other hooks if they apply.

    Attributes
    ----------
    kind : str
        Name in the registry.
    degree : float
        The objective of c V and c W is c ** degree times that of V and W.
    sparse : bool
        Whether blocks may be CSR.
    gain : {"exact", "bound", "estimate"}
        What the gain of an H-step is of the decrease of the objective: that, at most that, or
        about that.
    leap : float
        The extrapolated step gains at least so many times what the other one does.
    """

    kind: ClassVar[str]
    degree: ClassVar[float] = 2.0
    sparse: ClassVar[bool] = True
    gain: ClassVar[str] = "exact"
    leap: ClassVar[float] = 1.0

    def definition(self, V: np.ndarray, WH: np.ndarray) -> float:
        """Compute the objective from its definition (float64)."""
        raise NotImplementedError

    def loss(self) -> Loss:
        """Return the loss that is tested."""
        return get_loss(self.kind)

    def wrapped(self, V: np.ndarray) -> Matrix:
        """Return V as the loss's blocks hold it."""
        return V

    def forms(self, V: np.ndarray) -> tuple[Matrix, ...]:
        """Return V in all forms that blocks may have."""
        return (V, sp.csr_array(V)) if self.sparse else (self.wrapped(V),)

    def misfits(self, V: np.ndarray, WH: np.ndarray) -> np.ndarray | None:
        """Return the numbers that rank rows as candidates, (n,), if the test can tell."""
        return np.sum((V - WH) ** 2, axis=1) if self.degree == 2.0 else None

    def make(self, dtype: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Make V (n, d) and starts of W (n, k) and H (k, d); no row of H is zero."""
        problem = planted_poisson(n=61, d=23, k=4, seed=seed, dtype=dtype)
        rng = np.random.default_rng(seed)
        H = rng.gamma(2.0, size=(4, 23)).astype(dtype)
        H /= np.linalg.norm(H, axis=1)[:, None]
        W = rng.gamma(2.0, size=(61, 4)).astype(dtype)
        return problem.dense, W, H

    def curvature_H(self, turn: Turn) -> np.ndarray:
        """Return the divisor of the gradient in the kkt of `update_H`: (k, 1) or (k, d)."""
        return np.diag(turn.stats.WtW)[:, None]

    def curvature_W(self, turn: Turn) -> np.ndarray:
        """Return the divisor of the gradient in the kkt of `update_block`: (1, k) or (n, k)."""
        return np.diag(turn.factor.G)[None, :]

    def _at(self, V: np.ndarray, W: np.ndarray, H: np.ndarray) -> float:
        wide = V.astype(float), W.astype(float), H.astype(float)
        return self.definition(wide[0], wide[1] @ wide[2])

    def _size(self, V: np.ndarray) -> float:
        """Return what the objective's rounding is relative to."""
        return float(np.sum(V.astype(float) ** self.degree)) if self.degree > 0 else float(V.size)

    @staticmethod
    def _unit(dtype: str) -> float:
        return 1e-12 if dtype == "float64" else 1e-6

    @staticmethod
    def _rtol(dtype: str) -> float:
        """Return how well objectives agree (design section 8, rule 3)."""
        return 1e-10 if dtype == "float64" else 1e-5

    def test_is_registered_under_its_name(self) -> None:
        assert self.kind in loss_names()
        assert self.loss().name == self.kind

    def test_is_a_value(self) -> None:
        """It declares its unit, goes to other processes, and nothing of it can be set."""
        loss = self.loss()
        assert loss.unit
        assert pickle.loads(pickle.dumps(loss)) == loss
        for name in ("fixed", "anything"):
            with pytest.raises(FrozenInstanceError):
                setattr(loss, name, 1)

    def test_zeros_of_H_move_where_it_says_so(self) -> None:
        V, W, H = self.make("float64")
        H[0, :4] = 0
        new = Alternation(self.loss(), self.wrapped(V)).turn(W, H).H
        assert new[0, :4].any() == self.loss().leaves_zero(*H.shape)

    @pytest.mark.parametrize("residual", [False, True])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_objective_is_its_definition(self, dtype: str, residual: bool) -> None:
        V, W, H = self.make(dtype)
        for matrix in self.forms(V):
            walk = Alternation(self.loss(), matrix, [0, 20, 40, 61])
            turn = walk.turn(W, H, residual=residual)
            expected = self._at(V, turn.W, turn.factor.H)
            atol = self._unit(dtype) * self._size(V)
            np.testing.assert_allclose(turn.objective, expected, rtol=self._rtol(dtype), atol=atol)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("seed", range(4))
    def test_objective_never_rises(self, seed: int, dtype: str) -> None:
        V, W, H = self.make(dtype, seed)
        walk = Alternation(self.loss(), self.wrapped(V), [0, 30, 61], [0, 11, 23])
        objectives = [self._at(V, W, H)]
        for _ in range(12):
            turn = walk.turn(W, H)
            objectives.append(self._at(V, turn.W, turn.factor.H))
            W, H = turn.W, turn.H
            objectives.append(self._at(V, W, H))
        slack = self._unit(dtype) * self._size(V)
        assert objectives[-1] < 0.8 * objectives[0]
        assert (np.diff(objectives) <= slack).all(), objectives

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_gain_is_what_the_new_H_gains(self, dtype: str) -> None:
        """Extrapolated steps gain that, or nearly; others exactly that or more."""
        V, W, H = self.make(dtype)
        walk = Alternation(self.loss(), self.wrapped(V), slabs=[0, 5, 23])
        for _ in range(3):
            turn = walk.turn(W, H)
            before = self._at(V, turn.W, turn.factor.H)
            gained = before - self._at(V, turn.W, turn.H)
            if self.gain == "exact":
                atol = self._unit(dtype) * self._size(V)
                np.testing.assert_allclose(turn.gain, gained, rtol=1e-4, atol=atol)
            else:
                assert turn.gain > 0
                assert gained > 0
            if self.gain == "bound":
                assert turn.gain <= gained * (1 + 1e-5)
            if turn.extrapolated is not None:
                leap = before - self._at(V, turn.W, turn.extrapolated)
                assert leap > self.leap * gained
            W, H = turn.W, turn.H

    @pytest.mark.parametrize("power", [-30, 30])
    def test_scaling_V_scales_W_and_the_objective(self, power: int) -> None:
        V, W, H = self.make("float64")
        scale = 2.0**power
        turns = []
        for factor in (1.0, scale):
            start, now = W * factor, H
            walk = Alternation(self.loss(), self.wrapped(V * factor), [0, 30, 61])
            for _ in range(3):
                turn = walk.turn(start, now)
                start, now = turn.W, turn.H
            turns.append(turn)
        before, after = turns
        np.testing.assert_allclose(after.W, before.W * scale, rtol=1e-9, atol=0)
        np.testing.assert_allclose(after.H, before.H, rtol=1e-9, atol=1e-300)
        expected = before.objective * scale**self.degree
        np.testing.assert_allclose(after.objective, expected, rtol=1e-9)
        assert after.stats.sweeps == before.stats.sweeps

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_dense_and_csr_agree(self, dtype: str) -> None:
        if not self.sparse:
            pytest.skip("this loss takes dense matrices only")
        V, W, H = self.make(dtype)
        found = []
        for matrix in self.forms(V):
            walk, start, now = Alternation(self.loss(), matrix, [0, 30, 61]), W, H
            for _ in range(3):
                turn = walk.turn(start, now)
                start, now = turn.W, turn.H
            found.append(turn)
        self._agree(found[0], found[1], dtype, V)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize(
        ("cuts", "slabs", "segments"),
        [
            ([0, 1, 60, 61], [0, 23], 1),
            (list(range(62)), [0, 1, 22, 23], 7),
            ([0, 31, 61], list(range(24)), 2),
        ],
    )
    def test_cuts_do_not_matter(
        self, cuts: list[int], slabs: list[int], segments: int, dtype: str
    ) -> None:
        V, W, H = self.make(dtype)
        loss = self.loss()
        for matrix in self.forms(V):
            whole = Alternation(loss, matrix).turn(W, H)
            cut = Alternation(loss, matrix, cuts, slabs).turn(W, H, segments=segments)
            self._agree(whole, cut, dtype, V)
            np.testing.assert_allclose(cut.kkt_H, whole.kkt_H, rtol=1e-3, atol=1e-9)

    def _agree(self, one: Turn, other: Turn, dtype: str, V: np.ndarray) -> None:
        rtol = 1e-9 if dtype == "float64" else 2e-3
        atol = self._unit(dtype) * self._size(V)
        np.testing.assert_allclose(
            other.objective, one.objective, rtol=self._rtol(dtype), atol=atol
        )
        np.testing.assert_allclose(other.W, one.W, rtol=rtol, atol=rtol * one.W.max())
        np.testing.assert_allclose(other.H, one.H, rtol=rtol, atol=rtol * one.H.max())
        np.testing.assert_allclose(other.wide, one.wide, rtol=rtol, atol=rtol * one.wide.max())

    def test_kkt_of_H_is_the_projected_gradient(self) -> None:
        V, W, H = self.make("float64")
        turn = Alternation(self.loss(), self.wrapped(V)).turn(W, H)
        old = turn.factor.H
        gradient = self._gradient(lambda X: self._at(V, turn.W, X), old)
        curvature = self.curvature_H(turn)
        step = old - np.maximum(0, old - gradient / curvature)
        np.testing.assert_allclose(turn.kkt_H, np.sum(curvature * step**2), rtol=1e-4)

    def test_kkt_of_W_is_the_projected_gradient(self) -> None:
        V, W, H = self.make("float64")
        turn = Alternation(self.loss(), self.wrapped(V)).turn(W, H, tau=0.5)
        gradient = self._gradient(lambda X: self._at(V, X, turn.factor.H), turn.W)
        curvature = self.curvature_W(turn)
        step = turn.W - np.maximum(0, turn.W - gradient / curvature)
        expected = np.sum(curvature * step**2)
        assert expected > 0
        np.testing.assert_allclose(turn.stats.kkt, expected, rtol=1e-4)

    @staticmethod
    def _gradient(function, at: np.ndarray, step: float = 1e-5) -> np.ndarray:  # type: ignore[no-untyped-def]
        """Return the gradient by central differences."""
        gradient = np.empty_like(at)
        for index in np.ndindex(at.shape):
            up, down = at.copy(), at.copy()
            up[index] += step
            down[index] -= step
            gradient[index] = (function(up) - function(down)) / (2 * step)
        return gradient

    def test_rows_solved_from_a_product_are_those_of_the_block(self) -> None:
        loss = self.loss()
        if not loss.shares_product:
            pytest.skip("this loss computes its products alone")
        V, W, H = self.make("float32")
        for matrix in self.forms(V):
            walk = Alternation(loss, matrix)
            turn = walk.turn(W, H)
            block, factor, found = Block(matrix, 0, walk.row_sums), turn.factor, W.copy()
            small = loss.empty(H.shape[0], H.shape[1], H.dtype, False)[0]
            VHt = product_VHt(matrix, factor.H, factor.Ht)
            loss.update_rows(block, found, VHt, factor, small, tau=1e-2, residual=False)
            np.testing.assert_array_equal(found, turn.W)
            assert loss.objective(small, walk.sumsq, factor) == turn.objective

    def test_dead_components_are_named(self) -> None:
        V, W, H = self.make("float64")
        loss = self.loss()
        turn = Alternation(loss, self.wrapped(V)).turn(W, H)
        G = np.diag(turn.factor.G)
        assert loss.dead(turn.stats, G, np.dtype("float64")) == []
        H[2] = 0
        turn = Alternation(loss, self.wrapped(V)).turn(W, H)
        assert loss.dead(turn.stats, np.diag(turn.factor.G), np.dtype("float64")) == [2]
        assert not turn.W[:, 2].any()

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_zero_rows_and_columns_stay_zero(self, dtype: str) -> None:
        V, W, H = self.make(dtype)
        V = V.copy()
        V[[0, 33]] = 0
        V[:, [4, 22]] = 0
        for matrix in self.forms(V):
            walk, start, now = Alternation(self.loss(), matrix, [0, 30, 61]), W, H
            for _ in range(3):
                turn = walk.turn(start, now)
                start, now = turn.W, turn.H
                assert np.isfinite(turn.W).all()
                assert np.isfinite(turn.H).all()
                assert np.isfinite([turn.objective, turn.gain, turn.kkt_H, turn.stats.kkt]).all()
            size = turn.W.max() * 1e-6
            assert turn.W[[0, 33]].max() <= size
            assert turn.H[:, [4, 22]].max() <= 1e-6 * turn.H.max()

    def test_candidates_are_the_worst_rows_of_the_segments(self) -> None:
        V, W, H = self.make("float64")
        walk = Alternation(self.loss(), self.wrapped(V), [*range(0, 60, 4), 61])
        turn = walk.turn(W, H, segments=3)
        misfits = self.misfits(V, turn.W @ turn.factor.H)
        assert 1 <= len(turn.stats.candidates) <= 4
        worst = turn.stats.candidates[0]
        assert worst.direction.shape == (V.shape[1],)
        for candidate in turn.stats.candidates:
            expected = np.maximum(V[candidate.row] - turn.W[candidate.row] @ turn.factor.H, 0)
            np.testing.assert_allclose(candidate.direction, expected, atol=1e-9)
        if misfits is not None:
            assert worst.row == int(np.argmax(misfits))

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_dtypes_stay(self, dtype: str) -> None:
        V, W, H = self.make(dtype)
        turn = Alternation(self.loss(), self.wrapped(V), slabs=[0, 9, 23]).turn(W, H)
        assert {step.H.dtype for step in turn.steps} == {np.dtype(dtype)}
        assert turn.W.dtype == dtype
        assert turn.wide.dtype == np.float64
        assert turn.stats.WtW.dtype == np.float64

    def test_nothing_given_is_modified(self) -> None:
        V, W, H = self.make("float64")
        V = V.copy()
        loss = self.loss()
        for matrix in self.forms(V):
            walk = Alternation(loss, matrix, [0, 30, 61], [0, 11, 23])
            parts = [matrix] if isinstance(matrix, np.ndarray) else [matrix.data]
            parts += [matrix.weights] if hasattr(matrix, "weights") else []
            given = [*parts, H, walk.row_sums, walk.column_sums]
            before = [array.copy() for array in given]
            for array in given:
                array.flags.writeable = False
            walk.turn(W, H, residual=True)
            for array, copy in zip(given, before, strict=True):
                np.testing.assert_array_equal(array, copy)
