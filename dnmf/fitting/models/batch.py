"""The models of one pass: each with its H, all with one read and, where it wins, one product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from dnmf.errors import OptionError
from dnmf.fitting.model_state import ModelState
from dnmf.fitting.models.factors import load_H
from dnmf.fitting.models.holdout import Fold, fold_of_model
from dnmf.fitting.models.objective import loss_of
from dnmf.linalg.products import add_WtV, product_VHt, zero_WtV
from dnmf.linalg.tiles import padded
from dnmf.losses.base import Factor, Loss, Matrix, SmallStats
from dnmf.losses.frobenius import Frobenius
from dnmf.losses.held_out import (
    HELD,
    HeldOutFactor,
    HeldOutStats,
    update_held_out_kl,
    update_held_out_rows,
)
from dnmf.losses.masked import MaskedFrobenius
from dnmf.losses.speckled import SpeckledFactor, update_speckled
from dnmf.planning.plan import Plan
from dnmf.runs.base import Reader

__all__ = ["Batch", "Model", "Sums"]


@dataclass(frozen=True)
class Model:
    """One model in one pass.

    Attributes
    ----------
    loss : Loss
        With the penalties of the rows and columns that it sees.
    H : (k, d) array
        As the H-step takes it.
    factor : Factor
        As W is solved at it: H, with zeros in columns that are left out.
    scale : (k,) float64 array
        See `load_H`.
    fold : Fold or None
    held : HeldOutFactor or None
    score : SpeckledFactor or None
    """

    loss: Loss
    H: np.ndarray
    factor: Factor
    scale: np.ndarray
    fold: Fold | None = None
    held: HeldOutFactor | None = None
    score: SpeckledFactor | None = None

    @property
    def entrywise(self) -> bool:
        """Whether the objective is always summed entry by entry, so that nothing cancels."""
        return self.loss.name != "frobenius" or type(self.loss) is MaskedFrobenius

    @property
    def k(self) -> int:
        return int(self.H.shape[0])


@dataclass
class Sums:
    """Statistics of a segment while they grow: small ones, accumulators, left-out parts."""

    small: list[SmallStats]
    wide: list[Any]
    held: list[HeldOutStats | None]
    together: list[np.ndarray] = field(default_factory=list)


class Batch:
    """The models of a step, prepared once per process.

    Parameters
    ----------
    plan : Plan
    store : Reader
    models : sequence of int
        Positions in the plan's models.
    states : sequence of ModelState
    rows : int
        Rows that the step goes over.
    column_sums : (d,) float64 array
    unit : float
        The size of V's nonzero entries.
    """

    def __init__(
        self,
        plan: Plan,
        store: Reader,
        models: Sequence[int],
        states: Sequence[ModelState],
        rows: int,
        column_sums: np.ndarray,
        unit: float,
    ) -> None:
        self.plan = plan
        self.models = [
            _prepared(plan, store, m, state, rows, column_sums, unit)
            for m, state in zip(models, states, strict=True)
        ]
        same = [i for i, model in enumerate(self.models) if type(model.loss) is Frobenius]
        self._cuts: dict[int, tuple[int, int, int]] = {}  # number of the stack, first, end
        self._stacks: list[tuple[np.ndarray, np.ndarray | None]] = []
        for stack in self._stacked(same) if len(same) > 1 else ():
            ends = np.cumsum([0, *(self.models[i].k for i in stack)]).tolist()
            for i, (a, b) in zip(stack, pairwise(ends), strict=True):
                self._cuts[i] = len(self._stacks), a, b
            H = np.concatenate([self.models[i].factor.H for i in stack])
            self._stacks.append((H, padded(H.T) if plan.sparse else None))

    def _stacked(self, same: list[int]) -> list[list[int]]:
        """Which models share a product: for a dense V all, for a sparse one as many as win."""
        stacks: list[list[int]] = [[]]
        size = 0
        for i in same:
            size += self.models[i].k
            if self.plan.sparse and stacks[-1] and size > self.plan.limits.stacked_components:
                stacks.append([])
                size = self.models[i].k
            stacks[-1].append(i)
        return stacks

    def empty(self) -> Sums:
        """Zero statistics of a segment."""
        plan, dtype = self.plan, np.dtype(self.plan.dtype)
        d, sparse = plan.shape[1], plan.sparse
        held = [HeldOutStats() if model.fold else None for model in self.models]
        sizes = [stack.shape[0] for stack, _ in self._stacks]
        together = [zero_WtV(K, d, dtype, sparse) for K in sizes]
        small, wide = [], []
        for i, model in enumerate(self.models):
            if i in self._cuts:
                stack, a, b = self._cuts[i]
                small.append(SmallStats(np.zeros((model.k, model.k))))
                wide.append(together[stack][a:b])
                continue
            sums = model.loss.empty(model.k, d, dtype, sparse)
            small.append(sums[0])
            wide.append(sums[1])
        return Sums(small, wide, held, together)

    def update(
        self,
        V: Matrix,
        start: int,
        Ws: list[np.ndarray],
        rows: np.ndarray,
        numbers: np.ndarray | None,
        sums: Sums,
        *,
        tau: float,
        residual: Sequence[bool],
    ) -> None:
        """Solve W of one block for all models in place, and add their statistics.

        Parameters
        ----------
        rows : (2, m) float64 array
            Sums and sums of squares of the block's rows.
        numbers : (m,) int array or None
            Their global numbers; None where no model leaves out.
        residual : sequence of bool
            For which models residuals are summed entry by entry.
        """
        VHt = [product_VHt(V, *stack) for stack in self._stacks]
        counted: list[list[np.ndarray]] = [[] for _ in self._stacks]
        for i, (model, W) in enumerate(zip(self.models, Ws, strict=True)):
            how: Any = {"tau": tau, "residual": residual[i]}
            if model.score is not None:
                self._speckled(i, V, start, W, _given(numbers), rows, sums, tau)
                continue
            out = None if model.fold is None else model.fold.rows(_given(numbers))
            if i not in self._cuts:
                self._alone(i, V, start, W, out, rows, sums, **how)
                continue
            stack, first, end = self._cuts[i]
            C = np.ascontiguousarray(VHt[stack][:, first:end])
            loss: Any = model.loss
            if out is None:
                loss.update_rows(V, start, W, C, model.factor, rows, sums.small[i], **how)
                counted[stack].append(W)
            else:
                seen = self._held_rows(i, V, start, W, C, out, rows, sums, **how)
                counted[stack].append(seen)
        del VHt
        for parts, total in zip(counted, sums.together, strict=True):
            W = np.concatenate(parts, axis=1)
            add_WtV(V, W, total)

    def _speckled(
        self,
        i: int,
        V: Matrix,
        start: int,
        W: np.ndarray,
        numbers: np.ndarray,
        rows: np.ndarray,
        sums: Sums,
        tau: float,
    ) -> None:
        """A model that leaves out single entries."""
        model = self.models[i]
        fold, score = model.fold, model.score
        assert fold is not None
        assert score is not None

        def out(a: int, b: int) -> np.ndarray:
            return fold.entries(numbers[a:b])

        stats = sums.small[i], sums.wide[i]
        found = update_speckled(
            model.loss, V, start, W, model.factor, score, out, rows, stats, tau=tau
        )
        _held(sums, i).add(found)

    def _alone(
        self,
        i: int,
        V: Matrix,
        start: int,
        W: np.ndarray,
        out: np.ndarray | None,
        rows: np.ndarray,
        sums: Sums,
        *,
        tau: float,
        residual: bool,
    ) -> None:
        """A model whose products are its own."""
        model, stats = self.models[i], (sums.small[i], sums.wide[i])
        loss: Any = model.loss
        if out is None:
            loss.update_block(V, start, W, model.factor, rows, stats, tau=tau, residual=residual)
        elif isinstance(loss, Frobenius):
            C = product_VHt(V, model.factor.H, model.factor.Ht)
            counted = self._held_rows(
                i, V, start, W, C, out, rows, sums, tau=tau, residual=residual
            )
            add_WtV(V, counted, stats[1])
        else:
            assert model.held is not None
            found = update_held_out_kl(
                loss, V, start, W, model.factor, model.held, out, rows, stats, tau=tau
            )
            _held(sums, i).add(found)

    def _held_rows(
        self,
        i: int,
        V: Matrix,
        start: int,
        W: np.ndarray,
        C: np.ndarray,
        out: np.ndarray,
        rows: np.ndarray,
        sums: Sums,
        *,
        tau: float,
        residual: bool,
    ) -> np.ndarray:
        model = self.models[i]
        loss: Any = model.loss
        assert model.held is not None
        small = sums.small[i]
        counted, found = update_held_out_rows(
            loss,
            V,
            start,
            W,
            C,
            model.factor,
            model.held,
            out,
            rows,
            small,
            tau=tau,
            residual=residual,
        )
        _held(sums, i).add(found)
        return counted


def _given(numbers: np.ndarray | None) -> np.ndarray:
    assert numbers is not None
    return numbers


def _held(sums: Sums, i: int) -> HeldOutStats:
    found = sums.held[i]
    assert found is not None
    return found


def _prepared(
    plan: Plan,
    store: Reader,
    m: int,
    state: ModelState,
    rows: int,
    column_sums: np.ndarray,
    unit: float,
) -> Model:
    fold = fold_of_model(plan, plan.config.models[m])
    if fold is None:
        loss = loss_of(plan, rows)
        H, scale = load_H(store, state, loss, column_sums, unit)
        return Model(loss, H, loss.prepare(H, plan.sparse), scale)
    if fold.single:
        loss = loss_of(plan, rows, masked=True)
        H, scale = load_H(store, state, loss, column_sums, unit)
        score = SpeckledFactor(loss, H)
        return Model(loss, H, loss.prepare(H, True), scale, fold, score=score)
    n, d = fold.seen
    loss = loss_of(plan, max(rows * n // plan.shape[0], 1), d)
    if type(loss) not in HELD:
        raise OptionError(
            f"models that leave out need the loss frobenius or kullback-leibler with its own "
            f"solver and without missing entries, not {plan.config.loss!r} as it was asked for; "
            f"give holdout=None"
        )
    H, scale = load_H(store, state, loss, column_sums, unit)
    seen = H.copy()
    seen[:, fold.columns] = 0
    held = HeldOutFactor.make(loss, H, fold.columns, plan.sparse)
    return Model(loss, H, loss.prepare(seen, plan.sparse), scale, fold, held)
