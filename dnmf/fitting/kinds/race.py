"""Several starts search on a small part of the sample; the H of the best one goes on."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import scipy

from dnmf.config import FitConfig, ModelSpec
from dnmf.fitting.checks import safe_range
from dnmf.fitting.data.context import Context, cached_work, refs
from dnmf.fitting.data.rows import RaceRows, open_rows, race_rows, start_profile
from dnmf.fitting.models.factors import read_H, start_row
from dnmf.fitting.models.holdout import fold_of_model
from dnmf.fitting.models.objective import loss_of, tall_and_wide
from dnmf.fitting.starts.given import Given, put_start
from dnmf.fitting.starts.search import Fitted, search
from dnmf.fitting.starts.temper import temper
from dnmf.fitting.state import ModelState
from dnmf.init.nndsvd import NNDSVD, nndsvd_H
from dnmf.init.random import random_H
from dnmf.linalg.weighted import WeightedCSR
from dnmf.planning.memory import share_to_race
from dnmf.planning.plan import make_plan
from dnmf.runs.memory import MemoryStore
from dnmf.sources import open_source
from dnmf.sources.array import SparseSource
from dnmf.sources.base import Matrix, Source
from dnmf.sources.weighted import WeightedSource
from dnmf.steps.work import InProcess, Step

__all__ = ["RaceWork", "race_share"]

TOL = 1e-3
PASSES = 40
"""Most passes until a start has converged."""

DEAR_PASSES = 20
"""The same for losses other than least squares."""


def race_share(context: Context, scan: dict[str, Any], k: int) -> float:
    """Which share of the sample starts of k components race on; 0 where nothing is to be won.

    A tenth of the sample's rows (2% of V's by default), at least 50 per component and 4 MiB.
    """
    plan, rows = context.plan, sum(scan["sample_rows"])
    return share_to_race(plan.config, k, rows, plan.shape[1], scan["sample_bytes"])


class RaceWork:
    """A leaf per start: a search in memory whose fits are the same loop. Part 0: their results."""

    parts = 1

    def __init__(self, context: Context, step: Step) -> None:
        self.context = context
        self.step = step
        config = context.plan.config
        state = context.state(step.index - 1)
        starts = config.n_init if config.init == "random" else 1
        self.starts = [(m, start) for m in step.models for start in range(starts)]
        self.segments = len(self.starts)
        self.fan_in = config.fan_in
        self.scan = state["scan"]
        self._lock = threading.Lock()
        self._rows: RaceRows | None = None
        self.shares = {m: race_share(context, self.scan, config.models[m].k) for m in step.models}

    def __reduce__(self) -> tuple[Any, ...]:
        path = self.context.store.path
        return cached_work, (RaceWork, path, self.context.plan.run_id, self.step)

    def leaf(self, segment: int) -> list[Any]:
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
            H = fold.expand(H, open_rows(self.context, self.scan, "all").columns()[0])
        ref = self.context.store.put(self.step.name("race", model, start), H)
        result = {"model": model, "start": start, "H": [ref.to_json()], "passes": found.passes}
        return [[{**result, "W_sums": found.W_sums, "objective": found.objective}]]

    def _search(self, model: int, start: int, rows: Matrix, columns: np.ndarray | None) -> Fitted:
        config = self.context.plan.config
        spec = config.models[model]
        fit = partial(self._fit, rows)
        usable = _usable(rows, safe_range(config, self.context.plan.dtype)[0])
        if config.init in NNDSVD and usable:
            return fit(self._singular(spec, rows), PASSES, TOL)
        seed = spec.seed + (start << 32)  # whichever models share the reads
        all_sums = self.context.store.get(refs([self.scan["columns"]])[0])
        # of the sample; with weights of what was observed
        sums = start_profile(all_sums) if config.weights else all_sums[2]
        drawn = 1 if config.weights else sum(self.scan["sample_rows"])

        def draw(stream: int, count: int) -> np.ndarray:
            row = start_row(self.context.plan, sums, drawn, count)
            H = random_H(seed, stream, count, 0, row, self.context.plan.dtype)
            return H if columns is None else np.ascontiguousarray(H[:, columns])

        if not usable:  # V is, but these few rows tell nothing of it
            return Fitted(0.0, draw(0, spec.k), np.zeros((spec.k, spec.k)), None, 0)
        if config.tempered:  # rows that are held are put back by every fit
            assert config.beta is not None
            return temper(fit, draw, spec.k, config.beta, TOL, DEAR_PASSES)
        held = self._held()
        if held is not None:  # merging would touch them
            start_H = np.concatenate([held, draw(0, spec.k)[len(held) :]])
            return fit(start_H, PASSES if config.loss == "frobenius" else DEAR_PASSES, TOL)
        most = min(rows.shape)
        if config.loss == "frobenius":
            return search(fit, draw, spec.k, most, TOL, PASSES)
        # what merging costs is measured by least squares: it may mislead other losses, whose
        # passes are dearer besides
        if start % 2 == 0:
            return fit(draw(0, spec.k), DEAR_PASSES, TOL)
        return search(fit, draw, spec.k, most, TOL, DEAR_PASSES, cycles=1)

    def _fit(
        self, rows: Matrix, H: np.ndarray, passes: int, tol: float, beta: float | None = None
    ) -> Fitted:
        from dnmf.fitting.loop import run  # the loop schedules races, and runs inside them

        plan = self.context.plan
        alpha_W, alpha_H = tall_and_wide(plan)
        config = plan.config
        if beta is not None:  # a start may come from other steps than the fit's
            config = config.replace(loss="beta", beta=beta, solver=None)
        config = config.replace(
            models=(ModelSpec(len(H), 0),),
            tol=tol,
            max_passes=passes,
            init="custom",
            max_time=None,
            dtype=plan.dtype,
            max_block=FitConfig.max_block,
            segments=1,  # one after the other here, and each has sums of its own
            slab_size=FitConfig.slab_size,
            sample=0.0,
            residuals=False,
            alpha_W=alpha_W,
            alpha_H=alpha_H,
            missing="zeros" if plan.config.masked else None,
            holdout=None,
            batch=False,
        )
        laid_out, source = make_plan(_source(rows), config)
        store = MemoryStore()
        laid_out = put_start(store, laid_out, Given(H, fixed=self._held()))
        store.create(laid_out.to_json())
        record = run(Context(store, laid_out, source), InProcess(), lambda event: None)
        state = ModelState.from_json(record["state"]["models"][0])
        assert state.pair is not None
        WtW = store.get(refs([state.pair.WtW])[0])
        found = read_H(store, state.next_H)
        return Fitted(state.pair.objective, found, WtW, state.pair.W_sums, state.passes)

    def _held(self) -> np.ndarray | None:
        """The rows of H that are given."""
        fixed = self.context.plan.fixed_H
        return None if fixed is None else read_H(self.context.store, fixed)

    def _singular(self, spec: ModelSpec, rows: Matrix) -> np.ndarray:
        """The start from the singular vectors, beside the rows that are held."""
        if isinstance(rows, WeightedCSR):
            rows = rows.entries
        config, held = self.context.plan.config, self._held()
        free = spec.k - config.fixed
        zeros = loss_of(self.context.plan, 1).leaves_zero(spec.k, rows.shape[1])
        H = nndsvd_H(rows, free, spec.seed, config.init, positive=not zeros)
        return H if held is None else np.concatenate([held, H])

    def combine(self, part: int, values: Sequence[Any]) -> Any:
        return [result for value in values for result in value]

    def finish(self, part: int, reduced: Any, small: Any) -> Any:
        return reduced


def _usable(rows: Matrix, low: float) -> bool:
    """Whether the rows hold more than zeros and entries whose products vanish."""
    data, weights = rows if isinstance(rows, np.ndarray) else rows.data, np.zeros(0)
    if isinstance(rows, WeightedCSR):
        data, weights = data[rows.weights > 0], rows.weights
    return bool(np.max(data, initial=0.0) >= low and np.max(weights, initial=low) >= low)


def _source(rows: Matrix) -> Source:
    """Rows in memory, with their weights where they have some."""
    if not isinstance(rows, WeightedCSR):
        return open_source(rows)
    parts = rows.data, rows.weights
    arrays = [
        scipy.sparse.csr_array((x, rows.indices, rows.indptr), shape=rows.shape) for x in parts
    ]
    return WeightedSource(SparseSource(arrays[0]), SparseSource(arrays[1]), "zeros")
