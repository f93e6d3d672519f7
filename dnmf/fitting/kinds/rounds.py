"""Rounds between two reads: H goes on by the compressed V that the last pass left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from dnmf.faultpoints import reach
from dnmf.fitting.data.context import Context
from dnmf.fitting.data.rows import open_rows
from dnmf.fitting.kinds.base import Cost, StepWork
from dnmf.fitting.model_state import ModelState
from dnmf.fitting.models.compressing import basis_of
from dnmf.fitting.models.factors import read_H
from dnmf.fitting.models.objective import loss_of
from dnmf.fitting.record import Record
from dnmf.fitting.stopping import after_rounds
from dnmf.linalg.blas import numeric_fingerprint
from dnmf.losses.base import Loss, rounding_unit
from dnmf.losses.compressed import Alternation, RoundsEnd, RoundSums, solve_round
from dnmf.runs.base import Refs
from dnmf.steps.work import Each, Step

__all__ = ["RoundsWork"]


@dataclass(frozen=True)
class _ModelRounds:
    """The rounds of one model: its H, where they found one, and what they predict."""

    H: Refs | None
    rounds: int
    predicted: float
    rest: float


class RoundsWork(StepWork):
    """All rounds between two reads, in one task. The segments of W are improved side by side.

    Sums over segments are added in their order, so that no bit depends on threads.
    """

    def __init__(self, context: Context, step: Step) -> None:
        state = context.state(step.index - 1)
        context = context.after(state.scanned)
        super().__init__(context, step)
        self.states = [state.models[m] for m in step.models]
        self.rows = open_rows(context, state.scanned, "all")
        self.segments = 1

    def leaf(self, segment: int, loaded: Any = None) -> list[Any]:
        return [[]]

    def finish(
        self, part: int, reduced: Any, small: Any, each: Each = map
    ) -> tuple[list[_ModelRounds], str]:
        """Alternate for one model after the other, and store H; return also how this rounds."""
        found = [
            self._of_model(m, state, each)
            for m, state in zip(self.step.models, self.states, strict=True)
        ]
        return found, numeric_fingerprint()["digest"]

    def _of_model(self, m: int, state: ModelState, each: Each) -> _ModelRounds:
        plan, store = self.context.plan, self.context.store
        pair = state.pair
        assert pair is not None
        if pair.objective <= rounding_unit(self.rows.sumsq, plan.dtype):  # nothing can be told
            return _ModelRounds(None, 0, 0.0, 0.0)
        found = self._alternated(m, state, each)
        if not found.rounds:
            return _ModelRounds(None, 0, 0.0, 0.0)
        H = found.H.astype(plan.dtype)
        refs = tuple(
            store.put(self.step.name("rounds", m, slab), np.ascontiguousarray(H[:, a:b]))
            for slab, (a, b) in enumerate(pairwise(plan.slab_starts))
        )
        reach("rounds-written", model=m, step=self.step.index, run=store.path)
        predicted = max(found.started - found.objective, 0.0)
        return _ModelRounds(refs, found.rounds, predicted, found.rest)

    def _alternated(self, m: int, state: ModelState, each: Each) -> RoundsEnd:
        plan, store = self.context.plan, self.context.store
        pair = state.pair
        assert pair is not None
        assert state.Y is not None
        H = read_H(store, pair.H)
        loss = loss_of(plan, self.rows.starts[-1])
        unit = rounding_unit(self.rows.sumsq, plan.dtype)
        wide = unit > plan.limits.rounds.rounded * pair.objective
        rows = _Rows(self, loss, pair.W, state.Y, "float64" if wide else plan.dtype, each)
        alternation = Alternation(
            loss,
            H.astype(np.float64),
            read_H(store, state.next_H).astype(np.float64),
            basis_of(plan, m, store, H, state.spans[1:]),
            read_H(store, state.spans[0]),
            rows.solve(None, np.zeros((len(H), len(H))), np.ones(len(H))),
            None if plan.config.masked else self.rows.sumsq,
            self.rows.column_sums()[1],
            each,
            plan.limits.h_part_bytes,
            pair.objective,
        )

        def solve(*of_round: np.ndarray) -> RoundSums:
            reach("round", step=self.step.index, run=store.path)
            return rows.solve(*of_round)

        rounds = plan.rounds[m]
        most = min(rounds.most, state.prospect.most or rounds.most)
        return alternation.run(solve, most, rounds.price)

    def after(self, record: Record, results: list[Any], cost: Cost) -> tuple[Record, list[str]]:
        """Let the next pass try the H of the rounds, or stop."""
        plan, changed = self.context.plan, dict[int, ModelState]()
        of_models, digest = results[0]
        for m, state, found in zip(self.step.models, self.states, of_models, strict=True):
            of_rounds = found.H, found.rounds, found.predicted, found.rest
            changed[m] = after_rounds(state, *of_rounds, plan.config, plan.limits.stop)
        state_after = record.state.with_models(changed)
        numeric = tuple(sorted({*state_after.numeric, digest}))
        return replace(record, state=replace(state_after, numeric=numeric)), []


class _Rows:
    """W of every segment, from round to round."""

    def __init__(
        self, work: RoundsWork, loss: Loss, W: Refs, Y: Refs, dtype: str, each: Each
    ) -> None:
        store = work.context.store
        self.loss, self.each, self.work = loss, each, work
        self.W = [np.array(store.get(ref), dtype) for ref in W]
        self.Y = [store.get(ref) for ref in Y]
        self.sumsq = [work.rows.row_sums(segment)[1] for segment in range(len(W))]
        if work.context.plan.config.masked:  # what V is completed with has a size, too
            of_Y = [np.sum(np.square(Y, dtype=np.float64), axis=1) for Y in self.Y]
            self.sumsq = [np.maximum(*both) for both in zip(self.sumsq, of_Y, strict=True)]

    def solve(self, BHt: np.ndarray | None, G: np.ndarray, scale: np.ndarray) -> RoundSums:
        """Improve all rows of W at an H, from their last state with its columns scaled."""
        scaled = not bool((scale == 1.0).all())

        def segment(s: int) -> RoundSums:
            if scaled:
                self.W[s] *= scale.astype(self.W[s].dtype)
            return solve_round(self.loss, self.W[s], self.Y[s], BHt, G, self.sumsq[s])

        return _added(list(self.each(segment, range(len(self.W)))))


def _added(parts: Sequence[RoundSums]) -> RoundSums:
    total = parts[0]
    for part in parts[1:]:
        total.add(part)
    return total
