"""One pass: W and the statistics from one read of V; H from the reduced statistics."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnmf.faultpoints import reach
from dnmf.fitting.context import Context, Loaded, Loader, cached_work
from dnmf.fitting.factors import load_factor, load_rows
from dnmf.fitting.objective import loss_of
from dnmf.fitting.rowsets import open_rows
from dnmf.fitting.state import MOST_TRIES, ModelState
from dnmf.fitting.work import Step
from dnmf.linalg.blas import numeric_fingerprint
from dnmf.losses.base import Candidate, Factor, SmallStats

__all__ = ["PassWork"]

W_TAU = 1e-2


@dataclass
class PassStats:
    """Piece 0 of a pass: per model the small statistics and the names of W's pieces."""

    models: list[SmallStats]
    W: list[list[list[str]]]
    bytes_read: int
    numeric: list[str]

    def add(self, other: PassStats) -> None:
        for mine, theirs in zip(self.models, other.models, strict=True):
            mine.add(theirs)
        self.W = [a + b for a, b in zip(self.W, other.W, strict=True)]
        self.bytes_read += other.bytes_read
        self.numeric = sorted({*self.numeric, *other.numeric})


class PassWork:
    """Piece 0: `PassStats`; piece 1 + s: slab s of each model's statistics, (r, slab) float64.

    For least squares these are W'V, r = k.
    """

    def __init__(self, context: Context, step: Step) -> None:
        self.context = context
        self.step = step
        plan = context.plan
        self.fan_in = plan.config.fan_in
        self.pieces = 1 + plan.slabs
        record = context.record(step.index - 1)
        self.states = [ModelState.from_json(record["state"]["models"][m]) for m in step.models]
        self.rows = open_rows(context, record["state"]["scan"], step.rows)
        self.segments = len(self.rows.starts) - 1
        n = self.rows.starts[-1]
        self.loss = loss_of(plan, n)
        self.column_sums = self.rows.columns()[0]
        total, entries = float(self.column_sums.sum()), n * plan.shape[1]
        self.size = self.loss.size(total, self.rows.sumsq, entries)
        self._lock = threading.Lock()
        self._factors: list[tuple[Factor, np.ndarray]] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        path = self.context.store.path
        return cached_work, (PassWork, path, self.context.plan.run_id, self.step)

    def factors(self) -> list[tuple[Factor, np.ndarray]]:
        """H of every model and the scale of its W, loaded once per process."""
        with self._lock:
            if self._factors is None:
                store, sparse = self.context.store, self.context.plan.sparse
                self._factors = [
                    load_factor(store, state, self.loss, sparse, self.column_sums)
                    for state in self.states
                ]
            return self._factors

    @property
    def loader(self) -> Loader | None:
        return Loader(self.context) if self.step.rows == "all" else None

    def leaf(self, segment: int, loaded: Loaded | None = None) -> list[Any]:
        """Solve W of a segment and sum its statistics, block by block in order."""
        context, plan = self.context, self.context.plan
        factors = self.factors()
        first, last = self.rows.starts[segment], self.rows.starts[segment + 1]
        Ws = [
            load_rows(
                context.store,
                state.pair.W if state.pair else state.warm,
                segment,
                (last - first, factor.H.shape[0]),
                scale,
                plan.dtype,
            )
            for state, (factor, scale) in zip(self.states, factors, strict=True)
        ]
        sums_of_rows = self.rows.sums(segment)
        dtype = np.dtype(plan.dtype)
        sums = [
            self.loss.empty(factor.H.shape[0], plan.shape[1], dtype, plan.sparse)
            for factor, _ in factors
        ]
        bytes_read = 0
        for block, nbytes in self.rows.blocks(segment, loaded):
            rows = slice(block.start - first, block.start - first + block.V.shape[0])
            for (factor, _), W, stats in zip(factors, Ws, sums, strict=True):
                self.loss.update_block(
                    block.V,
                    block.start,
                    W[rows],
                    factor,
                    sums_of_rows[:, rows],
                    stats,
                    tau=W_TAU,
                    residual=self.step.residual,
                )
            bytes_read += nbytes
            del block  # before the next one but one is read
        reach("segment-solved", segment=segment, step=self.step.index)
        return self._pieces(segment, Ws, sums, bytes_read)

    def _pieces(
        self, segment: int, Ws: list[np.ndarray], sums: list[Any], bytes_read: int
    ) -> list[Any]:
        names = []
        for model, W in zip(self.step.models, Ws, strict=True):
            ref = self.context.store.put(f"W/{self.step.index}/{model}-{segment}", W)
            names.append([ref.to_json()])
        reach("segment-written", segment=segment, step=self.step.index)
        small = PassStats(
            [stats[0] for stats in sums], names, bytes_read, [numeric_fingerprint()["digest"]]
        )
        slabs = [self.loss.slabs(stats[1], self.context.plan.slab_starts) for stats in sums]
        return [small, *(list(parts) for parts in zip(*slabs, strict=True))]

    def combine(self, piece: int, parts: Sequence[Any]) -> Any:
        reach("combine", piece=piece, step=self.step.index)
        if piece == 0:
            total = PassStats(
                [SmallStats(np.zeros_like(s.WtW), residual=_zero(s)) for s in parts[0].models],
                [[] for _ in parts[0].W],
                0,
                [],
            )
            for part in parts:
                total.add(part)
            return total
        sums = [slab.copy() for slab in parts[0]]
        for part in parts[1:]:
            for total_slab, slab in zip(sums, part, strict=True):
                total_slab += slab
        return sums

    def finish(self, piece: int, reduced: Any, small: PassStats) -> Any:
        reach("finish", piece=piece, step=self.step.index)
        if piece == 0:
            models = [self._finish_small(i, stats) for i, stats in enumerate(reduced.models)]
            values = {"bytes_read": reduced.bytes_read, "numeric": reduced.numeric}
            return {"models": models, "W": reduced.W, "starts": self.rows.starts, **values}
        return [self._finish_slab(i, piece - 1, WtV, small) for i, WtV in enumerate(reduced)]

    def _finish_small(self, position: int, stats: SmallStats) -> dict[str, Any]:
        factor, _ = self.factors()[position]
        name = f"WtW/{self.step.index}/{self.step.models[position]}"
        return {
            "objective": self.loss.objective(stats, self.rows.sumsq, factor),
            "divergence": self.loss.divergence(stats, self.rows.sumsq, factor),
            "size": self.size,
            "extrapolates": self.loss.extrapolates,
            # only least squares has an objective from products, in which digits cancel
            "entrywise": stats.residual is not None
            or self.loss.name != "frobenius"
            or self.context.plan.config.masked,
            "kkt": stats.kkt,
            "sweeps": stats.sweeps / self.rows.starts[-1],
            "revived": [j for j, _ in self._revivals(position, stats)],
            "W_norms": np.sqrt(np.diag(stats.WtW)).tolist(),
            "W_sums": stats.sums.tolist() if isinstance(stats.sums, np.ndarray) else None,
            "WtW": self.context.store.put(name, stats.WtW).to_json(),
        }

    def _finish_slab(
        self, position: int, slab: int, WtV: np.ndarray, small: PassStats
    ) -> dict[str, Any]:
        """The H-step of one slab; stores the old H, the new one, and W'V."""
        plan, store = self.context.plan, self.context.store
        factor, _ = self.factors()[position]
        stats = small.models[position]
        a, b = plan.slab_starts[slab], plan.slab_starts[slab + 1]
        old = np.ascontiguousarray(factor.H[:, a:b])
        step = self.loss.update_H(WtV, stats, old, self.rows.columns()[:, a:b])
        revivals = self._revivals(position, stats)
        for j, candidate in revivals:
            norm = float(np.linalg.norm(candidate.direction.astype(np.float64)))
            step.H[j] = candidate.direction[a:b] / norm
        bold = step.bold if not revivals else None
        where = f"{self.step.index}/{self.step.models[position]}-{slab}"
        peak = np.argmax(old, axis=1)
        return {
            "H": store.put(f"H/{where}", old).to_json(),
            "plain": store.put(f"plain/{where}", step.H).to_json(),
            "bold": None if bold is None else store.put(f"bold/{where}", bold).to_json(),
            "WtV": store.put(f"WtV/{where}", WtV[: self.loss.kept]).to_json(),
            "kkt": step.kkt,
            "gain": step.gain if bold is None else step.bold_gain,
            "share": step.share.tolist(),
            "peak": [[float(old[j, c]), int(a + c)] for j, c in enumerate(peak)],
        }

    def _revivals(self, position: int, stats: SmallStats) -> list[tuple[int, Candidate]]:
        """Dead components that are tried again, each with the badly fitted row it is given."""
        factor, _ = self.factors()[position]
        tries = self.states[position].tries
        dead = self.loss.dead(stats, np.diag(factor.G), factor.H.dtype)
        dead = [j for j in dead if tries.get(str(j), 0) < MOST_TRIES]
        floor = float(np.finfo(factor.H.dtype).eps) * self.size / self.rows.starts[-1]
        rows = [c for c in stats.candidates if c.residual > floor and c.direction.any()]
        return list(zip(dead, rows, strict=False))


def _zero(stats: SmallStats) -> float | None:
    return None if stats.residual is None else 0.0
