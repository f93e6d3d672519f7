"""W of new rows at a given H: one read, every row solved to convergence."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dnmf.fitting.checks import (
    check_entries,
    check_largest,
    check_positive,
    check_weights,
    clip_notes,
    safe_range,
)
from dnmf.fitting.data.context import Context
from dnmf.fitting.data.reading import missing_of, read_segment
from dnmf.fitting.data.rows import moved
from dnmf.fitting.kinds.base import Cost, StepWork
from dnmf.fitting.models.factors import normalize, read_H
from dnmf.fitting.models.few_columns import FewColumns
from dnmf.fitting.models.objective import loss_of
from dnmf.fitting.record import Record, Solved, State
from dnmf.linalg.blas import numeric_fingerprint
from dnmf.linalg.matrix import Matrix
from dnmf.linalg.measure import measure
from dnmf.losses.values import Block, Factor
from dnmf.runs.base import ObjectRef
from dnmf.sources.missing import NONE, Missing, check_missing
from dnmf.steps.work import Each, Step

__all__ = ["TransformWork"]

SUMMED = (
    "bytes_read",
    "total",
    "sumsq",
    "nonzeros",
    "rows",
    "divergence",
    "penalty",
    "bad",
    "bad_weights",
    "missing",
    "clipped",
    "open_rows",
)


@dataclass
class TransformStats:
    """Sums over rows; ``add`` in index order."""

    bytes_read: int = 0
    total: float = 0.0
    sumsq: float = 0.0
    nonzeros: int = 0
    rows: int = 0
    divergence: float = 0.0
    penalty: float = 0.0
    bad: int = 0
    first_bad: tuple[int, int, float] | None = None
    W: list[ObjectRef] = field(default_factory=list)
    numeric: list[str] = field(default_factory=list)
    bad_weights: int = 0
    first_bad_weight: tuple[int, int, float] | None = None
    largest: float = 0.0
    missing: Missing = NONE
    clipped: int = 0
    open_rows: int = 0
    first_open: int | None = None

    def add(self, other: TransformStats) -> None:
        for name in SUMMED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.largest = max(self.largest, other.largest)
        self.first_bad = self.first_bad or other.first_bad
        self.first_bad_weight = self.first_bad_weight or other.first_bad_weight
        if self.first_open is None:
            self.first_open = other.first_open
        self.W = self.W + other.W
        self.numeric = sorted({*self.numeric, *other.numeric})


class TransformWork(StepWork):
    """The work of a transform. Part 0: `TransformStats`; W is stored by segments."""

    def __init__(self, context: Context, step: Step) -> None:
        super().__init__(context, step)
        self._lock = threading.Lock()
        self._loaded: tuple[Factor, np.ndarray] | None = None
        self._few: list[FewColumns | None] = []
        self.loss = loss_of(context.plan, context.plan.shape[0])

    def _load(self) -> tuple[Factor, np.ndarray]:
        """Return H with rows of unit norm, and their norms: products then stay in range."""
        with self._lock:
            if self._loaded is None:
                plan = self.context.plan
                assert plan.start_H is not None
                H = read_H(self.context.store, plan.start_H).astype(plan.dtype, copy=False)
                scale = normalize(H) if self.loss.gauge_free else np.ones(H.shape[0])
                self._loaded = self.loss.prepare(H, plan.sparse), scale
            return self._loaded

    def _few_columns(self) -> FewColumns | None:
        """Return H in its columns that have something, where those are few and V is sparse."""
        plan = self.context.plan
        if not plan.sparse or not plan.limits.times_used:
            return None
        with self._lock:
            if not self._few:
                assert plan.start_H is not None
                (ref,) = plan.start_H
                self._few = [FewColumns.make(self.loss, self.context.store.get(ref))]
            return self._few[0]

    def _over(self, V: Matrix) -> tuple[Matrix, Callable[[int], int], Factor, np.ndarray]:
        """Return a block as it is solved, its columns' numbers in V, and H with its norms."""
        few = self._few_columns()
        over = None if few is None else few.of(V)
        if few is None or over is None:
            return V, int, *self._load()
        picked, columns, factor = over
        return picked, lambda column: int(columns[column]), factor, few.scale

    def leaf(self, segment: int, loaded: Any = None) -> list[Any]:
        """Solve the rows of a segment from a cold start."""
        plan = self.context.plan
        high = safe_range(plan.config, plan.dtype)[1]
        stats = TransformStats(numeric=[numeric_fingerprint()["digest"]])
        solved = []
        for start, whole, nbytes, _, clipped in read_segment(self.context, segment, None):
            V, number, factor, scale = self._over(whole)
            found = measure(V, *np.zeros((2, V.shape[1])))
            sums = float(found.row_sums.sum()), float(found.row_sumsq.sum())
            part = TransformStats(nbytes, *sums, found.nonzeros, V.shape[0], bad=found.bad)
            part.bad_weights, part.largest = found.bad_weights, found.largest
            part.missing = missing_of(self.context, start, whole)
            part.clipped = clipped
            if found.first_bad or found.first_bad_weight:
                part.first_bad = moved(found.first_bad, start, number)
                part.first_bad_weight = moved(found.first_bad_weight, start, number)
            elif found.largest <= high:  # else products of V leave the dtype's range: it is refused
                rows = np.stack([found.row_sums, found.row_sumsq])
                block = Block(V, start, rows)
                W, part.divergence, is_open = self.loss.solve(block, factor)
                part.open_rows = int(np.count_nonzero(is_open))
                if part.open_rows:
                    part.first_open = start + int(np.argmax(is_open))
                del block
                wide = W.astype(np.float64)
                part.penalty = self.loss.penalties.of_W(float(wide.sum()), float(np.sum(wide**2)))
                solved.append((W / scale).astype(W.dtype))
            stats.add(part)
            del V, whole, factor  # before the next one but one is read
        if not (stats.bad or stats.bad_weights or stats.largest > high):
            name = self.step.name("W", 0, segment)
            stats.W = [self.context.store.put(name, np.concatenate(solved))]
        return [stats]

    def combine(self, part: int, values: Sequence[Any]) -> Any:
        total = TransformStats()
        for value in values:
            total.add(value)
        return total

    def finish(self, part: int, reduced: TransformStats, small: Any, each: Each = map) -> Any:
        entries = reduced.rows * self.context.plan.shape[1]
        size = self.loss.size(reduced.total, reduced.sumsq, entries) if reduced.total else 0.0
        divergence = max(reduced.divergence, 0.0)  # sums that cancel may round below it
        relative = math.sqrt(2 * divergence / size) if size else 0.0
        objective = divergence + reduced.penalty
        return reduced, objective, relative

    def after(self, record: Record, results: list[Any], cost: Cost) -> tuple[Record, list[str]]:
        found: TransformStats
        (found, objective, relative_error), plan = results[0], self.context.plan
        notes = check_missing(self.context.source, found.missing, plan.config.missing_chunks)
        check_weights(plan, found.bad_weights, found.first_bad_weight)
        check_entries(plan, found.bad, found.first_bad)
        check_largest(plan, found.largest)
        check_positive(plan, found.nonzeros)
        solved = Solved(
            tuple(found.W), tuple(plan.row_starts), plan.start_H or (), objective,
            found.rows, found.open_rows, found.first_open, found.clipped,
        )  # fmt: skip
        row = {
            "model": 0,
            "pass": 1,
            "accepted": True,
            "objective": objective,
            "relative_error": relative_error,
            "bytes_read": found.bytes_read,
            **vars(cost),
        }
        state = State(solved=solved, numeric=tuple(found.numeric))
        notes += clip_notes(plan, found.clipped)
        notes += [solved.stop.sentence] if solved.open_rows else []
        return replace(record, state=state, history=[row]), notes
