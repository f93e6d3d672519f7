"""The step of a pass: W and the statistics from one read of V, H from the reduced statistics."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from dnmf.faultpoints import reach
from dnmf.fitting.checks import check_objective
from dnmf.fitting.data.context import Context
from dnmf.fitting.data.reading import Loaded, Loader
from dnmf.fitting.data.rows import open_rows
from dnmf.fitting.kinds.base import Cost, StepWork
from dnmf.fitting.kinds.pass_results import (
    ModelEnd,
    PassStats,
    SlabEnd,
    SlabOfModel,
    figures,
    held_out_figures,
    on_all_of_V,
    pass_result,
    promised,
)
from dnmf.fitting.model_state import ModelState
from dnmf.fitting.models.batch import Batch, Model, Sums
from dnmf.fitting.models.compressing import keeps_spans
from dnmf.fitting.models.factors import load_rows
from dnmf.fitting.models.h_step import update_H
from dnmf.fitting.phases import phase_config, sample_serves, stop_limits
from dnmf.fitting.record import Record, Scan, State
from dnmf.fitting.stopping import advance
from dnmf.fitting.unsolved import remarks
from dnmf.linalg.blas import numeric_fingerprint
from dnmf.linalg.pick import few_filled_rows, pick_rows, put_rows
from dnmf.losses.values import Block, Candidate, SmallStats
from dnmf.runs.base import ObjectRef, ReadOnce
from dnmf.steps.work import Each, Step

__all__ = ["PassWork"]


def _unit(scan: Scan, weighted: bool) -> float:
    """Return the typical size of V's entries: their mean, or a stand-in of it with weights."""
    if weighted:
        return float(scan.sumsq / scan.total) if scan.total > 0 else 0.0
    return float(scan.total / max(scan.nonzeros, 1))


class PassWork(StepWork):
    """The work of a pass. Part 0: `PassStats`; part 1 + s: slab s of the models' statistics.

    For least squares these are W'V, r = k.
    """

    def __init__(self, context: Context, step: Step) -> None:
        state = context.state(step.index - 1)
        context = context.after(state.scanned)
        super().__init__(context, step)
        plan = context.plan
        self.parts = 1 + plan.slabs
        self.states = [state.models[m] for m in step.models]
        self.rows = open_rows(context, state.scanned, step.over)
        self.segments = len(self.rows.starts) - 1
        self.column_sums = self.rows.column_sums()
        self.total = float(self.column_sums[0].sum())
        self.unit = _unit(state.scanned, plan.config.weights)
        self._lock = threading.Lock()
        self._batch: Batch | None = None

    def _reach(self, point: str, **details: Any) -> None:
        """Pass a fault point of this step, except in the fits of a race, which have no folder."""
        where = {"rows": self.step.over, "run": self.context.store.path}
        reach(point, **details, step=self.step.index, **where)

    def batch(self) -> Batch:
        """Return H of every model, loaded once per process."""
        with self._lock:
            if self._batch is None:
                store, plan = ReadOnce(self.context.store), self.context.plan
                n = self.rows.starts[-1]
                of_rows = n, self.column_sums[0], self.unit, self.step.over
                self._batch = Batch(plan, store, self.step.models, self.states, *of_rows)
            return self._batch

    @property
    def loader(self) -> Loader | None:
        return Loader(self.context) if self.step.over == "all" else None

    def leaf(self, segment: int, loaded: Loaded | None = None) -> list[Any]:
        """Solve W of a segment and sum its statistics, block by block in order."""
        batch = self.batch()
        first, last = self.rows.starts[segment], self.rows.starts[segment + 1]
        Ws, Ys = self._start_W(segment, last - first), self._empty_Y(last - first)
        row_sums, sums = self.rows.row_sums(segment), batch.empty()
        folded = any(model.fold for model in batch.models)
        numbers = self.rows.numbers(segment) if folded else None
        residual = [m in self.step.residual for m in self.step.models]
        bytes_read, tau = 0, self.context.plan.limits.losses.W_tau
        for start, V, nbytes in self.rows.blocks(segment, loaded):
            rows = slice(start - first, start - first + V.shape[0])
            of_rows = row_sums[:, rows], None if numbers is None else numbers[rows]
            block = Block(V, start, *of_rows)
            parts = [W[rows] for W in Ws]
            of_Y = [None if Y is None else Y[rows] for Y in Ys]
            filled = None if folded else few_filled_rows(V)
            if filled is None:
                batch.update(block, parts, sums, of_Y, tau=tau, residual=residual)
            else:
                few = _filled(block, filled), [W[filled] for W in parts]
                some = [None if Y is None else Y[filled] for Y in of_Y]
                batch.update(*few, sums, some, tau=tau, residual=residual)
                put_rows(parts, filled, few[1])
                put_rows(of_Y, filled, some)
            bytes_read += nbytes
            del V, block  # before the next one but one is read
        self._reach("segment-solved", segment=segment)
        return self._parts_of(segment, Ws, Ys, sums, bytes_read)

    def _empty_Y(self, n_rows: int) -> list[np.ndarray | None]:
        """Return room for the compressed rows of a segment, for every model that leaves some."""
        return [
            None if model.basis is None else np.empty((n_rows, len(model.basis)), model.H.dtype)
            for model in self.batch().models
        ]

    def _start_W(self, segment: int, n_rows: int) -> list[np.ndarray]:
        """Return the start of a segment's W for every model."""
        store, dtype = ReadOnce(self.context.store), self.context.plan.dtype
        return [
            load_rows(
                store,
                state.pair.W if state.pair else state.start_W,
                segment,
                (n_rows, model.k),
                model.scale,
                dtype,
            )
            for state, model in zip(self.states, self.batch().models, strict=True)
        ]

    def _parts_of(
        self,
        segment: int,
        Ws: list[np.ndarray],
        Ys: list[np.ndarray | None],
        sums: Sums,
        bytes_read: int,
    ) -> list[Any]:
        names = [[ref] for ref in self._put("W", [segment], Ws, axis=1)]
        of_Y = [
            [] if Y is None else [self.context.store.put(self.step.name("Y", m, segment), Y)]
            for m, Y in zip(self.step.models, Ys, strict=True)
        ]
        self._reach("segment-written", segment=segment)
        digest = numeric_fingerprint()["digest"]
        small = PassStats(sums.small, names, bytes_read, [digest], sums.held_out, of_Y)
        starts = self.context.plan.slab_starts
        slabs = [
            model.loss.slabs(wide, starts)
            for model, wide in zip(self.batch().models, sums.wide, strict=True)
        ]
        return [small, *(list(parts) for parts in zip(*slabs, strict=True))]

    def _put(
        self, kind: str, where: list[int], arrays: list[np.ndarray], axis: int
    ) -> list[ObjectRef]:
        """Store one array per model, as one object where there are several."""
        store, step = self.context.store, self.step
        if len(arrays) == 1:
            return [store.put(step.name(kind, step.models[0], *where), arrays[0])]
        ref = store.put(step.name(kind, "all", *where), np.concatenate(arrays, axis=axis))
        cuts = np.cumsum([0, *(array.shape[axis] for array in arrays)]).tolist()
        return [replace(ref, part=(axis, a, b)) for a, b in pairwise(cuts)]

    def combine(self, part: int, values: Sequence[Any]) -> Any:
        self._reach("combine", part=part)
        if part == 0:
            total = PassStats.zero_like(values[0])
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
                self._finish_small(i, stats, reduced, WtW[i])
                for i, stats in enumerate(reduced.models)
            ]
            return models, replace(reduced, models=[], held_out=[])
        return self._finish_slab(part - 1, reduced, small, each)

    def _sizes(self, position: int, small: PassStats) -> tuple[float, float]:
        """Return |V|^2, and what scales as the loss does, of the part that a model sees."""
        model, held_out = self.batch().models[position], small.held_out[position]
        n, d = self.rows.starts[-1], self.context.plan.all_columns
        if held_out is None:
            return self.rows.sumsq, model.loss.size(self.total, self.rows.sumsq, n * d)
        assert model.fold is not None
        entries = held_out.n_rows * model.fold.seen[1]
        return held_out.sumsq, model.loss.size(held_out.total, held_out.sumsq, entries)

    def _finish_small(
        self, position: int, stats: SmallStats, small: PassStats, WtW: ObjectRef
    ) -> ModelEnd:
        model, held_out = self.batch().models[position], small.held_out[position]
        sumsq, size = self._sizes(position, small)
        sums = stats.sums
        return ModelEnd(
            objective=model.loss.objective(stats, sumsq, model.factor),
            divergence=model.loss.divergence(stats, sumsq, model.factor),
            size=size,
            of_means=self._of_means(position, size),
            extrapolates=model.loss.extrapolates,
            # only least squares has an objective from products, in which digits cancel
            entrywise=stats.residual is not None or model.loss.entrywise,
            kkt=stats.kkt,
            sweeps=stats.sweeps / self.rows.starts[-1],
            open_rows=stats.open_rows if model.loss.counts_open else None,
            revived=tuple(j for j, _ in self._revivals(position, stats, small)),
            W_norms=tuple(np.sqrt(np.diag(stats.WtW)).tolist()),
            W_sums=tuple(sums.tolist()) if isinstance(sums, np.ndarray) else None,
            WtW=WtW,
            held_out=None
            if held_out is None
            else (held_out.error, held_out.scale, held_out.entries),
        )

    def _of_means(self, position: int, size: float) -> float | None:
        """Return the divergence of the rows from their column means; a fold has its share of it."""
        model, n = self.batch().models[position], self.rows.starts[-1]
        found = model.loss.of_means(self.rows.own, self.column_sums, n)
        if found is None or model.fold is None:
            return found
        whole = model.loss.size(self.total, self.rows.sumsq, n * self.column_sums.shape[1])
        return found * size / whole if whole > 0 else None

    def _finish_slab(
        self, slab: int, reduced: list[np.ndarray], small: PassStats, each: Each
    ) -> list[SlabEnd]:
        """Do the H-step of one slab; store the old H, the next one, and the extrapolated one."""
        a, b = self.context.plan.slab_starts[slab : slab + 2]
        if len(reduced) == 1:
            found = [self._slab_of(0, a, b, reduced[0], small, each)]
        else:
            several = range(len(reduced))
            found = list(each(lambda i: self._slab_of(i, a, b, reduced[i], small, map), several))
        old = self._put("H", [slab], [one.old for one in found], axis=0)
        new = self._put("next_H", [slab], [one.next_H for one in found], axis=0)
        tried: list[ObjectRef | None] = [None] * len(found)
        if any(one.extrapolated is not None for one in found):  # all, so that they are one object
            arrays = [one.next_H if one.extrapolated is None else one.extrapolated for one in found]
            refs = self._put("extrapolated", [slab], arrays, axis=0)
            tried = [
                None if one.extrapolated is None else ref
                for one, ref in zip(found, refs, strict=True)
            ]
        return [
            SlabEnd(
                old[i],
                new[i],
                tried[i],
                one.kkt,
                one.gain,
                one.share,
                one.peak,
                one.open_columns,
                self._put_WtV(i, slab, reduced[i], one.old, small),
            )
            for i, one in enumerate(found)
        ]

    def _put_WtV(
        self, position: int, slab: int, wide: np.ndarray, H: np.ndarray, small: PassStats
    ) -> ObjectRef | None:
        """Store W'V of one model, if a later pass may use it."""
        m, model = self.step.models[position], self.batch().models[position]
        if not keeps_spans(self.context.plan, m):
            return None
        WtV = model.loss.compressed_WtV(wide, small.models[position].WtW, H)
        return self.context.store.put(self.step.name("WtV", m, slab), np.ascontiguousarray(WtV))

    def _slab_of(
        self, position: int, a: int, b: int, wide: np.ndarray, small: PassStats, each: Each
    ) -> SlabOfModel:
        """Do the H-step of one model."""
        model, stats = self.batch().models[position], small.models[position]
        old = np.ascontiguousarray(model.H[:, a:b])
        columns = self.column_sums[:, a:b]
        if model.fold is not None:
            columns = model.loss.seen_columns(wide, columns, model.k)
        part_bytes = self.context.plan.limits.h_part_bytes
        step = update_H(model.loss, wide, stats, old, columns, each, part_bytes)
        revivals = self._revivals(position, stats, small)
        for j, candidate in revivals:
            norm = float(np.linalg.norm(candidate.direction.astype(np.float64)))
            step.H[j] = candidate.direction[a:b] / norm
        extrapolated = step.extrapolated if not revivals else None
        peak = np.argmax(old, axis=1)
        return SlabOfModel(
            old,
            step.H,
            extrapolated,
            step.kkt,
            step.gain if extrapolated is None else step.extrapolated_gain,
            step.share.tolist(),
            [(float(old[j, c]), int(a + c)) for j, c in enumerate(peak)],
            step.open_columns,
        )

    def _revivals(
        self, position: int, stats: SmallStats, small: PassStats
    ) -> list[tuple[int, Candidate]]:
        """Return the dead components to try again, each with a badly fitted row.

        None where H is penalised: a row of unit norm beside a W of zeros raises the objective, the
        pass is rejected, and the fit ends as if rounding hid any further decrease.
        """
        model: Model = self.batch().models[position]
        if model.loss.penalties.l1_H or model.loss.penalties.l2_H:
            return []
        tries, most = self.states[position].tries, self.context.plan.limits.stop.revivals
        dead = model.loss.dead(stats, np.diag(model.factor.G), model.H.dtype)
        fixed = model.loss.fixed
        dead = [j for j in dead if j >= fixed and tries.get(j, 0) < most]
        if not dead:
            return []
        size = self._sizes(position, small)[1]
        floor = float(np.finfo(model.H.dtype).eps) * size / self.rows.starts[-1]
        rows = [c for c in stats.candidates if c.residual > floor and c.direction.any()]
        return list(zip(dead, rows, strict=False))

    def after(self, record: Record, results: list[Any], cost: Cost) -> tuple[Record, list[str]]:
        """Accept or reject the pair of each model."""
        (ends, shared), slabs = results[0], results[1:]
        plan, state = self.context.plan, record.state
        config = phase_config(plan, state.phase)
        changed, rows = dict[int, ModelState](), []
        for position, model in enumerate(self.step.models):
            before, end = state.models[model], ends[position]
            W = tuple(shared.W[position])
            of_slabs = [slab[position] for slab in slabs]
            Y = tuple(shared.Y[position])
            found = pass_result(end, of_slabs, W, Y, self.rows.starts)
            if before.pair is None:
                check_objective(plan, found.pair.objective)
            limits = stop_limits(plan, state.phase, model)
            changed[model], accepted = advance(before, found, config, plan.dtype, limits)
            rows.append(
                {
                    "model": model,
                    "step": self.step.index,
                    "pass": changed[model].passes,
                    "accepted": accepted,
                    **figures(found),
                    "extrapolation": before.beta,
                    "extrapolated": before.extrapolated is not None,
                    "revived": len(found.revived) if accepted else 0,
                    **promised(before),
                    **held_out_figures(end),
                    "bytes_read": shared.bytes_read,
                    **vars(cost),
                }
            )
        numeric = tuple(sorted({*state.numeric, *shared.numeric}))
        state = replace(state.with_models(changed), numeric=numeric)
        if state.phase == "sample" and self._sample_is_done(state):
            step = plan.limits.stop.first_step
            models = tuple(on_all_of_V(model, step) for model in state.models)
            state = replace(state, models=models, phase="full")
        if self.step.over == "all":
            record = replace(record, state=state, history=[*record.history, *rows])
            return record, remarks(changed, record.history, self.rows.starts[-1])
        return replace(record, state=state, sample_history=[*record.sample_history, *rows]), []

    def _sample_is_done(self, state: State) -> bool:
        plan = self.context.plan
        models = zip(state.models, plan.config.models, strict=True)
        return all(
            one.stop or not sample_serves(plan, state.scanned, spec.k) for one, spec in models
        )


def _filled(block: Block, rows: np.ndarray) -> Block:
    """Return some rows of a block; they have no numbers of their own, but are in order."""
    return Block(pick_rows(block.V, rows), block.start, block.row_sums[:, rows])
