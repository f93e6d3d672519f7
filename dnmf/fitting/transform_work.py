"""W of new rows at a given H: one read, every row solved to convergence."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dnmf.fitting.context import Context, cached_work, read_segment
from dnmf.fitting.factors import read_H
from dnmf.fitting.work import Step
from dnmf.linalg.blas import numeric_fingerprint
from dnmf.linalg.hals import cold_start, solve_rows
from dnmf.linalg.measure import measure
from dnmf.linalg.products import gram, product_VHt

__all__ = ["TransformWork"]

SWEEPS = 5000
TAU = {"float32": 1e-5, "float64": 1e-9}


@dataclass
class TransformStats:
    """Sums over rows; ``add`` in index order."""

    bytes_read: int = 0
    sumsq: float = 0.0
    residual: float = 0.0
    bad: int = 0
    first_bad: tuple[int, int, float] | None = None
    W: list[list[str]] = field(default_factory=list)
    numeric: list[str] = field(default_factory=list)

    def add(self, other: TransformStats) -> None:
        for name in ("bytes_read", "sumsq", "residual", "bad"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.first_bad = self.first_bad or other.first_bad
        self.W = self.W + other.W
        self.numeric = sorted({*self.numeric, *other.numeric})


class TransformWork:
    """Piece 0: `TransformStats`; W is stored by segments."""

    pieces = 1

    def __init__(self, context: Context, step: Step) -> None:
        self.context = context
        self.step = step
        self.segments = context.plan.segments
        self.fan_in = context.plan.config.fan_in
        self._lock = threading.Lock()
        self._H: tuple[np.ndarray, np.ndarray | None, np.ndarray] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        path = self.context.store.path
        return cached_work, (TransformWork, path, self.context.plan.run_id, self.step)

    def _load(self) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        with self._lock:
            if self._H is None:
                plan = self.context.plan
                assert plan.start_H is not None
                H = read_H(self.context.store, plan.start_H).astype(plan.dtype)
                Ht = np.ascontiguousarray(H.T) if plan.sparse else None
                self._H = H, Ht, gram(H.T).astype(plan.dtype)
            return self._H

    def leaf(self, segment: int) -> list[Any]:
        """Solve the rows of a segment from a cold start."""
        H, Ht, G = self._load()
        plan = self.context.plan
        stats = TransformStats(numeric=[numeric_fingerprint()["digest"]])
        columns = np.zeros((2, plan.shape[1]))
        pieces = []
        for block, nbytes, _ in read_segment(self.context, segment, None):
            found = measure(block.V, columns[0], columns[1])
            part = TransformStats(nbytes, float(found.row_sumsq.sum()), bad=found.bad)
            if found.first_bad:
                row, column, value = found.first_bad
                part.first_bad = (block.start + row, column, value)
            else:
                C = product_VHt(block.V, H, Ht)
                W = cold_start(C, G.astype(np.float64))
                solved = solve_rows(
                    W, C, G, found.row_sumsq, tau=TAU[plan.dtype], max_sweeps=SWEEPS
                )
                part.residual = float(np.maximum(solved.residual_sumsq, 0).sum())
                pieces.append(W)
            stats.add(part)
        if not stats.bad:
            ref = self.context.store.put(f"W/{self.step.index}/0-{segment}", np.concatenate(pieces))
            stats.W = [ref.to_json()]
        return [stats]

    def combine(self, piece: int, parts: Sequence[Any]) -> Any:
        total = TransformStats()
        for part in parts:
            total.add(part)
        return total

    def finish(self, piece: int, reduced: TransformStats, small: Any) -> Any:
        relative = math.sqrt(reduced.residual / reduced.sumsq) if reduced.sumsq else 0.0
        return {**vars(reduced), "objective": reduced.residual / 2, "relative_error": relative}
