"""One pass: W and the statistics from one read of V; H from the reduced statistics."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from dnmf.faultpoints import reach
from dnmf.fitting.data.context import Context, Loaded, Loader, cached_work
from dnmf.fitting.data.rows import open_rows
from dnmf.fitting.models.batch import Batch, Model, Sums
from dnmf.fitting.models.factors import load_rows
from dnmf.fitting.models.h_step import Each, update_H
from dnmf.fitting.state import MOST_TRIES, ModelState
from dnmf.linalg.blas import numeric_fingerprint
from dnmf.losses.values import Block, Candidate, HeldOutStats, SmallStats
from dnmf.runs.base import ReadOnce
from dnmf.steps.work import Step

__all__ = ["PassWork"]

W_TAU = 1e-2


@dataclass
class PassStats:
    """Part 0 of a pass: per model the small statistics and the names of W's blocks."""

    models: list[SmallStats]
    W: list[list[list[Any]]]
    bytes_read: int
    numeric: list[str]
    held: list[HeldOutStats | None]

    def add(self, other: PassStats) -> None:
        for mine, theirs in zip(self.models, other.models, strict=True):
            mine.add(theirs)
        for left, out in zip(self.held, other.held, strict=True):
            if left is not None and out is not None:
                left.add(out)
        self.W = [a + b for a, b in zip(self.W, other.W, strict=True)]
        self.bytes_read += other.bytes_read
        self.numeric = sorted({*self.numeric, *other.numeric})


def _unit(scan: dict[str, Any], weighted: bool) -> float:
    """The size of V's entries: their mean; with weights another one, that only ratios enter."""
    if weighted:
        return float(scan["sumsq"] / scan["total"]) if scan["total"] > 0 else 0.0
    return float(scan["total"] / max(scan["nonzeros"], 1))


class PassWork:
    """Part 0: `PassStats`; part 1 + s: slab s of each model's statistics, (r, slab) float64.

    For least squares these are W'V, r = k.
    """

    in_parts = True

    def __init__(self, context: Context, step: Step) -> None:
        self.context = context
        self.step = step
        plan = context.plan
        self.fan_in = plan.config.fan_in
        self.parts = 1 + plan.slabs
        state = context.state(step.index - 1)
        self.states = [ModelState.from_json(state["models"][m]) for m in step.models]
        self.rows = open_rows(context, state["scan"], step.over)
        self.segments = len(self.rows.starts) - 1
        self.column_sums = self.rows.columns()[0]
        self.total = float(self.column_sums.sum())
        self.unit = _unit(state["scan"], plan.config.weights)
        self._lock = threading.Lock()
        self._batch: Batch | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        path = self.context.store.path
        return cached_work, (PassWork, path, self.context.plan.run_id, self.step)

    def _reach(self, point: str, **details: Any) -> None:
        """A point of this step; a race's own fits have such steps too, in no folder."""
        where = {"rows": self.step.over, "run": self.context.store.path}
        reach(point, **details, step=self.step.index, **where)

    def batch(self) -> Batch:
        """H of every model, loaded once per process."""
        with self._lock:
            if self._batch is None:
                store, plan = ReadOnce(self.context.store), self.context.plan
                n = self.rows.starts[-1]
                self._batch = Batch(
                    plan, store, self.step.models, self.states, n, self.column_sums, self.unit
                )
            return self._batch

    @property
    def loader(self) -> Loader | None:
        return Loader(self.context) if self.step.over == "all" else None

    def leaf(self, segment: int, loaded: Loaded | None = None) -> list[Any]:
        """Solve W of a segment and sum its statistics, block by block in order."""
        batch = self.batch()
        first, last = self.rows.starts[segment], self.rows.starts[segment + 1]
        Ws = self._warm(segment, last - first)
        sums_of_rows, sums = self.rows.sums(segment), batch.empty()
        folded = any(model.fold for model in batch.models)
        numbers = self.rows.numbers(segment) if folded else None
        residual = [m in self.step.residual for m in self.step.models]
        bytes_read = 0
        for block, nbytes in self.rows.blocks(segment, loaded):
            rows = slice(block.start - first, block.start - first + block.V.shape[0])
            of_rows = sums_of_rows[:, rows], None if numbers is None else numbers[rows]
            given = Block(block.V, block.start, *of_rows)
            batch.update(given, [W[rows] for W in Ws], sums, tau=W_TAU, residual=residual)
            bytes_read += nbytes
            del block, given  # before the next one but one is read
        self._reach("segment-solved", segment=segment)
        return self._parts_of(segment, Ws, sums, bytes_read)

    def _warm(self, segment: int, rows: int) -> list[np.ndarray]:
        """W of a segment to start from, of every model."""
        store, dtype = ReadOnce(self.context.store), self.context.plan.dtype
        return [
            load_rows(
                store,
                state.pair.W if state.pair else state.start_W,
                segment,
                (rows, model.k),
                model.scale,
                dtype,
            )
            for state, model in zip(self.states, self.batch().models, strict=True)
        ]

    def _parts_of(
        self, segment: int, Ws: list[np.ndarray], sums: Sums, bytes_read: int
    ) -> list[Any]:
        names = [[ref] for ref in self._put("W", [segment], Ws, axis=1)]
        self._reach("segment-written", segment=segment)
        digest = numeric_fingerprint()["digest"]
        small = PassStats(sums.small, names, bytes_read, [digest], sums.held_out)
        starts = self.context.plan.slab_starts
        slabs = [
            model.loss.slabs(wide, starts)
            for model, wide in zip(self.batch().models, sums.wide, strict=True)
        ]
        return [small, *(list(parts) for parts in zip(*slabs, strict=True))]

    def _put(self, kind: str, where: list[int], arrays: list[np.ndarray], axis: int) -> list[Any]:
        """Store an array of every model, as one object where there are several; references."""
        store, step = self.context.store, self.step
        if len(arrays) == 1:
            return [store.put(step.name(kind, step.models[0], *where), arrays[0]).to_json()]
        ref = store.put(step.name(kind, "all", *where), np.concatenate(arrays, axis=axis))
        cuts = np.cumsum([0, *(array.shape[axis] for array in arrays)]).tolist()
        return [[*ref.to_json(), axis, a, b] for a, b in pairwise(cuts)]

    def combine(self, part: int, values: Sequence[Any]) -> Any:
        self._reach("combine", part=part)
        if part == 0:
            total = PassStats(
                [SmallStats(np.zeros_like(s.WtW), residual=_zero(s)) for s in values[0].models],
                [[] for _ in values[0].W],
                0,
                [],
                [None if held is None else HeldOutStats() for held in values[0].held],
            )
            for value in values:
                total.add(value)
            return total
        sums = [slab.copy() for slab in values[0]]
        for value in values[1:]:
            for total_slab, slab in zip(sums, value, strict=True):
                total_slab += slab
        return sums

    def finish(self, part: int, reduced: Any, small: PassStats, each: Each = map) -> Any:
        self._reach("finish", part=part)
        if part == 0:
            grams = [stats.WtW for stats in reduced.models]
            several = len(grams) > 1  # of different sizes: one after the other
            WtW = self._put("WtW", [], [G.ravel() for G in grams] if several else grams, axis=0)
            models = [
                self._finish_small(i, stats, reduced) for i, stats in enumerate(reduced.models)
            ]
            models = [{**found, "WtW": ref} for found, ref in zip(models, WtW, strict=True)]
            values = {"bytes_read": reduced.bytes_read, "numeric": reduced.numeric}
            return {"models": models, "W": reduced.W, "starts": self.rows.starts, **values}
        return self._finish_slab(part - 1, reduced, small, each)

    def _sizes(self, position: int, small: PassStats) -> tuple[float, float]:
        """|V|^2, and what scales as the loss does, of the part that a model sees."""
        model, held = self.batch().models[position], small.held[position]
        n, d = self.rows.starts[-1], self.context.plan.shape[1]
        if held is None:
            return self.rows.sumsq, model.loss.size(self.total, self.rows.sumsq, n * d)
        assert model.fold is not None
        entries = held.rows * model.fold.seen[1]
        return held.sumsq, model.loss.size(held.total, held.sumsq, entries)

    def _finish_small(self, position: int, stats: SmallStats, small: PassStats) -> dict[str, Any]:
        model, held = self.batch().models[position], small.held[position]
        sumsq, size = self._sizes(position, small)
        return {
            "objective": model.loss.objective(stats, sumsq, model.factor),
            "divergence": model.loss.divergence(stats, sumsq, model.factor),
            "size": size,
            "extrapolates": model.loss.extrapolates,
            # only least squares has an objective from products, in which digits cancel
            "entrywise": stats.residual is not None or model.loss.entrywise,
            "kkt": stats.kkt,
            "sweeps": stats.sweeps / self.rows.starts[-1],
            "revived": [j for j, _ in self._revivals(position, stats, small)],
            "W_norms": np.sqrt(np.diag(stats.WtW)).tolist(),
            "W_sums": stats.sums.tolist() if isinstance(stats.sums, np.ndarray) else None,
            "held": None if held is None else [held.error, held.scale, held.entries],
        }

    def _finish_slab(
        self, slab: int, reduced: list[np.ndarray], small: PassStats, each: Each
    ) -> list[Any]:
        """The H-step of one slab; stores the old H, the new one, and W'V."""
        a, b = self.context.plan.slab_starts[slab : slab + 2]
        if len(reduced) == 1:
            found = [self._slab_of(0, a, b, reduced[0], small, each)]
        else:
            found = list(
                each(lambda i: self._slab_of(i, a, b, reduced[i], small, map), range(len(reduced)))
            )
        arrays = {
            name: [one[name] for one in found] for name in ("H", "next_H", "extrapolated", "WtV")
        }
        extrapolated = [i for i, array in enumerate(arrays["extrapolated"]) if array is not None]
        if len(extrapolated) not in (0, len(found)):  # so that they lie in one object
            arrays["extrapolated"] = [
                one["next_H"] if one["extrapolated"] is None else one["extrapolated"]
                for one in found
            ]
        stored: dict[str, list[Any]] = {
            name: self._put(name, [slab], parts, axis=0)
            for name, parts in arrays.items()
            if name != "extrapolated" or extrapolated
        }
        return [
            {
                **{name: refs[i] for name, refs in stored.items()},
                "extrapolated": stored["extrapolated"][i] if i in extrapolated else None,
                **one["facts"],
            }
            for i, one in enumerate(found)
        ]

    def _slab_of(
        self, position: int, a: int, b: int, WtV: np.ndarray, small: PassStats, each: Each
    ) -> dict[str, Any]:
        """The H-step of one model."""
        model, stats = self.batch().models[position], small.models[position]
        old = np.ascontiguousarray(model.H[:, a:b])
        columns = self.rows.columns()[:, a:b]
        if model.fold is not None:
            columns = model.loss.seen_columns(WtV, columns, model.k)
        step = update_H(model.loss, WtV, stats, old, columns, each)
        revivals = self._revivals(position, stats, small)
        for j, candidate in revivals:
            norm = float(np.linalg.norm(candidate.direction.astype(np.float64)))
            step.H[j] = candidate.direction[a:b] / norm
        extrapolated = step.extrapolated if not revivals else None
        peak = np.argmax(old, axis=1)
        facts = {
            "kkt": step.kkt,
            "gain": step.gain if extrapolated is None else step.extrapolated_gain,
            "share": step.share.tolist(),
            "peak": [[float(old[j, c]), int(a + c)] for j, c in enumerate(peak)],
        }
        kept = WtV[:0]  # nobody reads it
        return {
            "H": old,
            "next_H": step.H,
            "extrapolated": extrapolated,
            "WtV": kept,
            "facts": facts,
        }

    def _revivals(
        self, position: int, stats: SmallStats, small: PassStats
    ) -> list[tuple[int, Candidate]]:
        """Dead components that are tried again, each with the badly fitted row it is given.

        None where H is penalised: a row of unit norm beside a W of zeros raises the objective, the
        pass is rejected, and the fit ends as if rounding hid any further decrease.
        """
        model: Model = self.batch().models[position]
        if model.loss.penalties.l1_H or model.loss.penalties.l2_H:
            return []
        tries = self.states[position].tries
        dead = model.loss.dead(stats, np.diag(model.factor.G), model.H.dtype)
        held = model.loss.fixed
        dead = [j for j in dead if j >= held and tries.get(str(j), 0) < MOST_TRIES]
        if not dead:
            return []
        size = self._sizes(position, small)[1]
        floor = float(np.finfo(model.H.dtype).eps) * size / self.rows.starts[-1]
        rows = [c for c in stats.candidates if c.residual > floor and c.direction.any()]
        return list(zip(dead, rows, strict=False))


def _zero(stats: SmallStats) -> float | None:
    return None if stats.residual is None else 0.0
