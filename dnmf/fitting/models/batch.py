"""The models of one pass: each with its H, all with one read and, where it wins, one product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from dnmf.errors import OptionError
from dnmf.fitting.model_state import ModelState
from dnmf.fitting.models.compressing import basis_of, leaves_compressed
from dnmf.fitting.models.factors import load_H
from dnmf.fitting.models.holdout import Fold, fold_of_model
from dnmf.fitting.models.objective import loss_of
from dnmf.linalg.products import add_WtV, product_VHt, zero_WtV
from dnmf.linalg.tiles import padded
from dnmf.losses.base import HeldOut, Loss
from dnmf.losses.values import Block, Factor, HeldOutStats, Matrix, SmallStats
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
        The H that the H-step updates.
    factor : Factor
        The H at which W is solved: with zeros in columns that are left out.
    scale : (k,) float64 array
        From `load_H`: what a start of W is multiplied by.
    fold : Fold or None
    held_out : HeldOut or None
        What fits the model without its fold.
    basis : (r, d) array or None
        Rows that span H, where the pass leaves a compressed V, in the dtype of H.
    """

    loss: Loss
    H: np.ndarray
    factor: Factor
    scale: np.ndarray
    fold: Fold | None = None
    held_out: HeldOut | None = None
    basis: np.ndarray | None = None

    @property
    def k(self) -> int:
        return int(self.H.shape[0])

    @property
    def directions(self) -> np.ndarray:
        """Rows that V is multiplied with: the basis, or H."""
        return self.factor.H if self.basis is None else self.basis

    @cached_property
    def BHt(self) -> np.ndarray:
        """B H', (r, k): V H' is Y times it, as H lies in the span of B."""
        assert self.basis is not None
        product = self.basis.astype(np.float64) @ self.H.T.astype(np.float64)
        return product.astype(self.H.dtype)

    def update(self, block: Block, W: np.ndarray, sums: Sums, i: int, **how: Any) -> None:
        """Solve W of a block in place by products of its own; it is model i of ``sums``."""
        stats = sums.small[i], sums.wide[i]
        if self.held_out is None:
            self.loss.update_block(block, W, self.factor, stats, **how)
        else:
            found = self.held_out.update(block, W, self.factor, stats, **how)
            sums.of_fold(i).add(found)

    def compress(self, V: Matrix, W: np.ndarray, Y: np.ndarray | None) -> None:
        """Compute the compressed V of a block at its W."""
        assert self.basis is not None
        assert Y is not None
        self.loss.compress(V, W, self.factor, self.basis, Y)

    def update_rows(
        self, block: Block, W: np.ndarray, VHt: np.ndarray, sums: Sums, i: int, **how: Any
    ) -> np.ndarray:
        """Do `update` with V H' given; return the W (m, k) from which W' V is summed."""
        small = sums.small[i]
        if self.held_out is None:
            self.loss.update_rows(block, W, VHt, self.factor, small, **how)
            return W
        counted, found = self.held_out.update_rows(block, W, VHt, self.factor, small, **how)
        sums.of_fold(i).add(found)
        return counted


@dataclass
class Sums:
    """Statistics of a segment while they grow: small ones, accumulators, left-out parts."""

    small: list[SmallStats]
    wide: list[Any]
    held_out: list[HeldOutStats | None]
    together: list[np.ndarray] = field(default_factory=list)

    def of_fold(self, i: int) -> HeldOutStats:
        """Return the sums over what is left out by model i, which has a fold."""
        found = self.held_out[i]
        assert found is not None
        return found


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
    over : str
        Which rows the step goes over.
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
        over: str = "all",
    ) -> None:
        self.plan = plan
        self.models = [
            _prepared(plan, store, m, state, rows, column_sums, unit, over)
            for m, state in zip(models, states, strict=True)
        ]
        same = [i for i, model in enumerate(self.models) if model.loss.shares_product]
        self._cuts: dict[int, tuple[int, int, int]] = {}  # number of the stack, first, end
        self._of_WtV: dict[int, tuple[int, int]] = {}  # first and end in its sum of W'V
        self._stacks: list[tuple[np.ndarray, np.ndarray | None]] = []
        several = len(same) > 1 or any(self.models[i].basis is not None for i in same)
        for stack in self._stacked(same) if several else ():
            ends = np.cumsum([0, *(self.models[i].directions.shape[0] for i in stack)]).tolist()
            for i, (a, b) in zip(stack, pairwise(ends), strict=True):
                self._cuts[i] = len(self._stacks), a, b
            parts = [self.models[i].directions for i in stack]
            H = parts[0] if len(parts) == 1 else np.concatenate(parts)
            self._stacks.append((H, padded(H.T) if plan.sparse else None))
            of_WtV = np.cumsum([0, *(self.models[i].k for i in stack)]).tolist()
            for i, (a, b) in zip(stack, pairwise(of_WtV), strict=True):
                self._of_WtV[i] = a, b

    def _stacked(self, same: list[int]) -> list[list[int]]:
        """Choose models that share a product: all for a dense V, as many as win for a sparse V."""
        stacks: list[list[int]] = [[]]
        size = 0
        for i in same:
            size += self.models[i].directions.shape[0]
            if self.plan.sparse and stacks[-1] and size > self.plan.limits.stacked_components:
                stacks.append([])
                size = self.models[i].directions.shape[0]
            stacks[-1].append(i)
        return stacks

    def empty(self) -> Sums:
        """Zero statistics of a segment."""
        plan, dtype = self.plan, np.dtype(self.plan.dtype)
        d, sparse = plan.shape[1], plan.sparse
        held_out = [HeldOutStats() if model.fold else None for model in self.models]
        sizes = [0] * len(self._stacks)
        for i, (stack, *_) in self._cuts.items():
            sizes[stack] += self.models[i].k
        together = [zero_WtV(K, d, dtype, sparse) for K in sizes]
        small, wide = [], []
        for i, model in enumerate(self.models):
            if i in self._cuts:
                stack, (a, b) = self._cuts[i][0], self._of_WtV[i]
                small.append(SmallStats(np.zeros((model.k, model.k))))
                wide.append(together[stack][a:b])
                continue
            sums = model.loss.empty(model.k, d, dtype, sparse)
            small.append(sums[0])
            wide.append(sums[1])
        return Sums(small, wide, held_out, together)

    def update(
        self,
        block: Block,
        Ws: list[np.ndarray],
        sums: Sums,
        Ys: list[np.ndarray | None],
        *,
        tau: float,
        residual: Sequence[bool],
    ) -> None:
        """Solve W of one block for all models in place, and add their statistics.

        Parameters
        ----------
        Ys : list of (m, r) array or None
            Where the compressed block of each model goes.
        residual : sequence of bool
            For which models residuals are summed entry by entry.
        """
        VHt = [product_VHt(block.V, *stack) for stack in self._stacks]
        counted: list[list[np.ndarray]] = [[] for _ in self._stacks]
        for i, (model, W) in enumerate(zip(self.models, Ws, strict=True)):
            exact = self.plan.limits.losses.round_tau if model.basis is not None else tau
            how: Any = {"tau": min(tau, exact), "residual": residual[i]}
            if i not in self._cuts:
                model.update(block, W, sums, i, **how)
                if model.basis is not None:
                    model.compress(block.V, W, Ys[i])
                continue
            stack, first, end = self._cuts[i]
            C, Y = np.ascontiguousarray(VHt[stack][:, first:end]), Ys[i]
            if Y is not None:
                Y[:] = C
                C = Y @ model.BHt
            counted[stack].append(model.update_rows(block, W, C, sums, i, **how))
        del VHt
        for parts, total in zip(counted, sums.together, strict=True):
            W = np.concatenate(parts, axis=1)
            add_WtV(block.V, W, total)


def _prepared(
    plan: Plan,
    store: Reader,
    m: int,
    state: ModelState,
    rows: int,
    column_sums: np.ndarray,
    unit: float,
    over: str,
) -> Model:
    fold = fold_of_model(plan, plan.config.models[m])
    if fold is None:
        loss = loss_of(plan, rows)
        H, scale = load_H(store, state, loss, column_sums, unit)
        B = None
        if over == "all" and leaves_compressed(plan, m, state):
            B = basis_of(plan, m, store, H, state.spans).astype(H.dtype)
        return Model(loss, H, loss.prepare(H, plan.sparse), scale, basis=B)
    if fold.single:
        loss = loss_of(plan, rows, masked=True)
    else:
        n, d = fold.seen
        loss = loss_of(plan, max(rows * n // plan.shape[0], 1), d)
    if loss.leaves_out != ("speckled" if fold.single else "bicv"):
        raise OptionError(
            f"models that leave out need the loss frobenius or kullback-leibler with its own "
            f"solver and without missing entries, not {plan.config.loss!r} as it was asked for; "
            f"give holdout=None"
        )
    H, scale = load_H(store, state, loss, column_sums, unit)
    seen = H
    if fold.columns.any():
        seen = H.copy()
        seen[:, fold.columns] = 0
    sparse = plan.sparse or fold.single
    held_out = loss.hold_out(H, fold, sparse)
    return Model(loss, H, loss.prepare(seen, sparse), scale, fold, held_out)
