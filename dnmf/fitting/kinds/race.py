"""The race: several starts search on a small part of the sample, and the best H goes on."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import scipy

from dnmf.config import FitConfig, ModelSpec
from dnmf.fitting.checks import safe_range
from dnmf.fitting.data.context import Context
from dnmf.fitting.data.rows import open_rows, start_profile
from dnmf.fitting.data.sample import RaceRows, race_rows
from dnmf.fitting.kinds.base import Cost, StepWork
from dnmf.fitting.loop import run
from dnmf.fitting.model_state import ModelState
from dnmf.fitting.models.factors import read_H, start_row
from dnmf.fitting.models.holdout import fold_of_model
from dnmf.fitting.models.objective import loss_of, tall_and_wide
from dnmf.fitting.phases import phase_after_race, race_share, starts_of
from dnmf.fitting.record import Record
from dnmf.fitting.starts.agreement import agreement, remark
from dnmf.fitting.starts.given import Given, put_start
from dnmf.fitting.starts.search import Fitted, search
from dnmf.fitting.starts.temper import temper
from dnmf.init.nndsvd import NNDSVD, nndsvd_H
from dnmf.init.random import random_H
from dnmf.linalg.matrix import Matrix, WeightedCSR, bytes_of
from dnmf.losses import ANY_BETA
from dnmf.losses.base import rounding_unit
from dnmf.planning.plan import make_plan
from dnmf.runs.base import ObjectRef
from dnmf.runs.memory import MemoryStore
from dnmf.sources import open_source
from dnmf.sources.array import SparseSource
from dnmf.sources.base import Source
from dnmf.sources.weighted import WeightedSource
from dnmf.steps.events import ignore
from dnmf.steps.serial import Serial
from dnmf.steps.work import Step

__all__ = ["RaceWork"]


class RaceWork(StepWork):
    """A leaf per start: a search in memory by the loop of `dnmf.fitting`. Part 0: their results."""

    def __init__(self, context: Context, step: Step) -> None:
        self.scan = context.state(step.index - 1).scanned
        context = context.after(self.scan)
        super().__init__(context, step)
        config = context.plan.config
        self.inits = {m: starts_of(context.plan, m) for m in step.models}
        self.starts = [(m, start) for m in step.models for start in range(len(self.inits[m]))]
        self.segments = len(self.starts)
        self._lock = threading.Lock()
        self._rows: RaceRows | None = None
        self.shares = {
            m: race_share(context.plan, self.scan, config.models[m].k) for m in step.models
        }

    def leaf(self, segment: int, loaded: Any = None) -> list[Any]:
        """Search from one start; its H is stored, its objective returned."""
        model, start = self.starts[segment]
        with self._lock:
            if self._rows is None:  # those of the largest share: smaller ones are nested in it
                self._rows = race_rows(self.context, self.scan, max(self.shares.values()))
        fold = fold_of_model(self.context.plan, self.context.plan.config.models[model])
        columns = None if fold is None else ~fold.columns
        out = None if fold is None else fold.rows(self._rows.numbers)
        rows = self._rows.part(self.shares[model], columns, out)
        found = self._search(model, start, rows, columns)
        H = found.H
        if fold is not None:
            H = fold.expand(H, open_rows(self.context, self.scan, "all").column_sums()[0])
        ref = self.context.store.put(self.step.name("race", model, start), H)
        facts = found.objective, found.passes, found.W_sums, found.of_means
        return [[Finisher(model, start, ref, *facts)]]

    def _search(self, model: int, start: int, rows: Matrix, columns: np.ndarray | None) -> Fitted:
        config, loss = self.context.plan.config, loss_of(self.context.plan, 1)
        limits, spec = self.context.plan.limits, config.models[model]
        race, within = limits.race, limits.search
        passes = race.dear_passes if loss.dear else race.passes
        fit = partial(self._fit, rows)
        usable = _usable(rows, safe_range(config, self.context.plan.dtype)[0])
        if self.inits[model][start] in NNDSVD and usable:
            most = race.passes if config.init in NNDSVD else passes
            return fit(self._singular(self.inits[model][start], spec, rows), most, race.tol)
        seed = spec.seed + (start << 32)  # whichever models share the reads
        all_sums = self.context.store.get(self.scan.column_sums)
        # of the sample; with weights of what was observed
        sums = start_profile(all_sums) if config.weights else all_sums[2]
        drawn = 1 if config.weights else sum(self.scan.sample_rows)

        def draw(stream: int, count: int) -> np.ndarray:
            row = start_row(self.context.plan, sums, drawn, count)
            H = random_H(seed, stream, count, 0, row, self.context.plan.dtype)
            return H if columns is None else np.ascontiguousarray(H[:, columns])

        if not usable:  # V is, but these few rows tell nothing of it
            return Fitted(0.0, draw(0, spec.k), np.zeros((spec.k, spec.k)), None, 0)
        if config.tempered:  # fixed rows are put back by every fit
            assert config.beta is not None
            until = race.tol, race.dear_passes, limits.temper
            return temper(fit, draw, spec.k, config.beta, *until)
        fixed = self._fixed()
        if fixed is not None:  # merging would touch them
            start_H = np.concatenate([fixed, draw(0, spec.k)[len(fixed) :]])
            return fit(start_H, passes, race.tol)
        most = min(rows.shape)
        if loss.merges:
            return search(fit, draw, spec.k, most, race.tol, passes, within)
        # what merging costs is measured by least squares: it may mislead other losses, whose
        # passes are dearer besides
        if start % 2 == 0:
            return fit(draw(0, spec.k), passes, race.tol)
        return search(
            fit, draw, spec.k, most, race.tol, passes, replace(within, cycles=within.dear_cycles)
        )

    def _fit(
        self, rows: Matrix, H: np.ndarray, passes: int, tol: float, beta: float | None = None
    ) -> Fitted:
        """Fit rows; in float64 where float32 does not tell an exact start from another."""
        plan = self.context.plan
        found, unit = self._fitted(rows, H, passes, tol, beta, plan.dtype)
        small = bytes_of(rows) <= plan.limits.race.fewest_bytes
        if plan.dtype == "float32" and found.objective <= unit and small:
            found, _ = self._fitted(rows.astype("float64"), H, passes, tol, beta, "float64")
            found = replace(found, H=found.H.astype(plan.dtype))
        return found

    def _fitted(
        self, rows: Matrix, H: np.ndarray, passes: int, tol: float, beta: float | None, dtype: str
    ) -> tuple[Fitted, float]:
        """Fit rows; return also the unit of rounding of the objective."""
        plan = self.context.plan
        alpha_W, alpha_H = tall_and_wide(plan)
        config = plan.config
        if beta is not None:  # a start may come from other steps than the fit's
            config = config.replace(loss=ANY_BETA, beta=beta, solver=None)
        config = config.replace(
            models=(ModelSpec(len(H), 0),),
            tol=tol,
            max_passes=passes,
            init="custom",
            max_time=None,
            dtype=dtype,
            max_block=FitConfig.max_block,
            segments=1,  # one after the other here, and each has sums of its own
            slab_size=FitConfig.slab_size,
            sample=0.0,
            rounds=0,
            residuals=False,
            alpha_W=alpha_W,
            alpha_H=alpha_H,
            missing="zeros" if plan.config.masked else None,
            holdout=None,
            batch=False,
        )
        # H is to have all columns of these rows, and a race says nothing of the end
        limits = replace(plan.limits, times_used=0, stop=replace(plan.limits.stop, telling=0.0))
        laid_out, source = make_plan(_source(rows), config, limits=limits)
        store = MemoryStore()
        laid_out = put_start(store, laid_out, Given(H, fixed=self._fixed()))
        store.create(laid_out.to_json())
        record = run(Context(store, laid_out, source), Serial(), ignore)
        state = record.state.models[0]
        pair = state.pair
        assert pair is not None
        found = read_H(store, state.next_H)
        sizes, scan = (pair.W_sums, state.passes, state.of_means), record.state.scan
        assert scan is not None
        loss = loss_of(laid_out, len(H))
        unit = rounding_unit(loss.size(scan.total, scan.sumsq, math.prod(rows.shape)), dtype)
        return Fitted(pair.objective, found, store.get(pair.WtW), *sizes), unit

    def _fixed(self) -> np.ndarray | None:
        """Return the rows of H that are given."""
        fixed = self.context.plan.fixed_H
        return None if fixed is None else read_H(self.context.store, fixed)

    def _singular(self, init: str, spec: ModelSpec, rows: Matrix) -> np.ndarray:
        """Return the start from the singular vectors, with the fixed rows of H above it."""
        if isinstance(rows, WeightedCSR):
            rows = rows.entries
        config, fixed = self.context.plan.config, self._fixed()
        free = spec.k - config.fixed
        zeros = loss_of(self.context.plan, 1).leaves_zero(spec.k, rows.shape[1])
        H = nndsvd_H(rows, free, spec.seed, init, not zeros, self.context.plan.limits.nndsvd)
        return H if fixed is None else np.concatenate([fixed, H])

    def after(self, record: Record, results: list[Any], cost: Cost) -> tuple[Record, list[str]]:
        """Go on with the best start of each model."""
        state, changed, rows = record.state, dict[int, ModelState](), []
        step = self.context.plan.limits.stop.first_step
        for model in self.step.models:
            mine: list[Finisher] = [one for one in results[0] if one.model == model]
            best = min(mine, key=lambda one: (one.objective, one.start))
            weights = None if best.W_sums is None else tuple(best.W_sums)
            changed[model] = ModelState(None, (best.H,), step=step, weights=weights)
            rows += [
                {
                    "kind": "race",
                    "model": model,
                    "start": one.start,
                    "init": self.inits[model][one.start],
                    "objective": one.objective,
                    "of_means": one.of_means,
                    "passes": one.passes,
                    "won": one is best,
                    "step": self.step.index,
                    **vars(cost),
                }
                for one in mine
            ]
        state = replace(state.with_models(changed), phase=phase_after_race(self.context.plan))
        history = [*record.sample_history, *rows]
        return replace(record, state=state, sample_history=history), self._remarks(rows)

    def _remarks(self, rows: list[dict[str, Any]]) -> list[str]:
        """Say which models have starts that end far apart."""
        limits, found = self.context.plan.limits.stop, {}
        for model in self.step.models:
            mine = [row for row in rows if row["model"] == model]
            said = remark(agreement(mine, limits))
            if said is not None:
                found[model] = said
        if len(self.step.models) == 1 or not found:
            return list(found.values())
        ks = sorted({self.context.plan.config.models[m].k for m in found})
        return [
            f"starts end far apart in {len(found)} of {len(self.step.models)} models, of k = "
            f"{', '.join(map(str, ks))}; of the first: {next(iter(found.values()))}"
        ]


@dataclass(frozen=True)
class Finisher:
    """The result of one start.

    Attributes
    ----------
    model, start : int
    H : ObjectRef
    objective : float
    passes : int
        All that its search took.
    W_sums : sequence of float or None
        Sums of the columns of W, where the loss counts them.
    of_means : float or None
        Divergence of the rows from their column means, where it is known.
    """

    model: int
    start: int
    H: ObjectRef
    objective: float
    passes: int
    W_sums: Sequence[float] | None
    of_means: float | None


def _usable(rows: Matrix, low: float) -> bool:
    """Return whether the rows hold more than zeros and entries whose products vanish."""
    data, weights = rows if isinstance(rows, np.ndarray) else rows.data, np.zeros(0)
    if isinstance(rows, WeightedCSR):
        data, weights = data[rows.weights > 0], rows.weights
    return bool(np.max(data, initial=0.0) >= low and np.max(weights, initial=low) >= low)


def _source(rows: Matrix) -> Source:
    """Return the rows as a source in memory, with their weights if they have some."""
    if not isinstance(rows, WeightedCSR):
        return open_source(rows)
    parts = rows.data, rows.weights
    arrays = [
        scipy.sparse.csr_array((x, rows.indices, rows.indptr), shape=rows.shape) for x in parts
    ]
    return WeightedSource(SparseSource(arrays[0]), SparseSource(arrays[1]), "zeros")
