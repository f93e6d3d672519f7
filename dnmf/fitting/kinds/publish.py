"""Write the committed pair as the result: components ordered, factors where they belong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from dnmf.faultpoints import reach
from dnmf.fitting.data.context import Context
from dnmf.fitting.kinds.base import Cost, StepWork
from dnmf.fitting.model_state import Pair
from dnmf.fitting.models.factors import read_rows
from dnmf.fitting.models.final import FinalFactors
from dnmf.fitting.record import Record, Solved
from dnmf.planning.plan import Plan, chunk_rows
from dnmf.runs.base import ReadOnce
from dnmf.runs.published import H_chunk_columns, create_arrays, write_H, write_W
from dnmf.steps.work import Step

__all__ = ["PublishWork", "published"]


def published(plan: Plan) -> list[tuple[int, str]]:
    """List the models that have factors in the result, each with its Zarr group.

    Models that leave out a fold have none.
    """
    if not plan.config.batch:
        return [(0, "")]
    models = enumerate(plan.config.models)
    return [(m, f"models/{m}") for m, spec in models if spec.fold is None]


class PublishWork(StepWork):
    """The work of publishing: a leaf per chunk of the tall factor; one writes the wide one."""

    def __init__(self, context: Context, step: Step) -> None:
        super().__init__(context, step)
        plan, state = context.plan, context.state(step.index - 1)
        self.chunk_rows = chunk_rows(plan)
        self.segments = -(-plan.all_rows // self.chunk_rows)
        self.solved = state.solved
        self.scan = state.scan
        self.pairs: list[tuple[str, Pair]] = []
        for m, group in published(plan) if state.solved is None else ():
            pair = state.models[m].pair
            assert pair is not None
            self.pairs.append((group, pair))

    @property
    def path(self) -> str:
        """The run folder: a run in memory publishes nothing."""
        assert self.context.store.path is not None
        return self.context.store.path

    def prepare(self) -> None:
        """Create W and H of the result."""
        plan = self.context.plan
        n, d, tall = plan.all_rows, plan.all_columns, self.chunk_rows
        for m, group in published(plan):
            k = plan.config.models[m].k
            if plan.mode == "transform":
                create_arrays(self.path, n, None, k, plan.dtype, tall, group=group)
            elif plan.axis == "rows":
                create_arrays(self.path, n, d, k, plan.dtype, tall, group=group)
            else:
                create_arrays(self.path, d, n, k, plan.dtype, d, chunk_columns=tall, group=group)

    def leaf(self, segment: int, loaded: Any = None) -> list[Any]:
        """Write rows of the tall factor (and, once, the other factor)."""
        start = segment * self.chunk_rows
        stop = min(start + self.chunk_rows, self.context.plan.all_rows)
        store = ReadOnce(self.context.store)  # objects that models share
        for group, pair in self.pairs:
            assert self.scan is not None
            factors = FinalFactors(store, self.context.plan, pair, self.scan)
            self._write(group, start, factors.tall_rows(start, stop), tall=True)
            for first, columns in factors.wide_parts(self._chunk(pair)) if segment == 0 else ():
                self._write(group, first, columns, tall=False)
        if self.solved is not None:
            write_W(self.path, start, self._solved_rows(self.solved, start, stop))
        reach("published", segment=segment)
        return [[]]

    def _chunk(self, pair: Pair) -> int:
        """Return the columns of a chunk of the wide factor, which is one chunk where it is W."""
        (_, d), plan = self.context.plan.shape, self.context.plan
        return d if plan.axis == "columns" else H_chunk_columns(len(pair.W_norms), d, plan.dtype)

    def _write(self, group: str, start: int, factor: np.ndarray, *, tall: bool) -> None:
        """Write rows of the tall factor, or all of the wide one, as W or H."""
        by_rows = self.context.plan.axis == "rows"
        write = write_W if tall == by_rows else write_H
        write(self.path, start, factor if by_rows else np.ascontiguousarray(factor.T), group=group)

    def _solved_rows(self, solved: Solved, start: int, stop: int) -> np.ndarray:
        parts = read_rows(self.context.store, solved.W, solved.W_starts, start, stop)
        return np.concatenate([rows for _, rows in parts])

    def after(self, record: Record, results: list[Any], cost: Cost) -> tuple[Record, list[str]]:
        return replace(record, done=True), []
