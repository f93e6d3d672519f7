"""Several random starts race on a small part of the sample; the best one goes on."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from dnmf.config import FitConfig, ModelSpec
from dnmf.fitting.context import Context, cached_work
from dnmf.fitting.factors import read_H
from dnmf.fitting.memory import RACE_BYTES
from dnmf.fitting.objective import loss_of, tall_and_wide
from dnmf.fitting.plan import make_plan
from dnmf.fitting.rowsets import race_rows
from dnmf.fitting.start import put_start
from dnmf.fitting.state import ModelState
from dnmf.fitting.work import InProcess, Step
from dnmf.init.nndsvd import NNDSVD, nndsvd_H
from dnmf.linalg.weighted import WeightedCSR
from dnmf.runs.memory import MemoryStore
from dnmf.sources import open_source
from dnmf.sources.array import SparseSource
from dnmf.sources.base import Matrix, Source
from dnmf.sources.weighted import WeightedSource

__all__ = ["RaceWork", "race_share"]

SHARE = 0.1
ROWS_PER_COMPONENT = 50
FEWEST_ROWS = 20
TOL = 1e-3
HEAT_PASSES = 8
"""Passes of every start, after which the best one is known well enough."""

PASSES = 40
"""Most passes of the best one."""


def race_share(context: Context, scan: dict[str, Any]) -> float:
    """Which share of the sample the starts race on; 0 where there is nothing to win.

    A tenth of the sample's rows (2% of V's by default), at least 50 per component.
    """
    config = context.plan.config
    rows = sum(scan["sample_rows"])
    most_k = max(model.k for model in config.models)
    share = max(SHARE, ROWS_PER_COMPONENT * most_k / max(rows, 1))
    if share >= 0.5:  # small data: the starts race on all of it
        share = 1.0 if config.n_init > 1 or config.init in NNDSVD else 0.0
    most = RACE_BYTES / max(scan["sample_bytes"], 1)
    if most < share and most * rows < ROWS_PER_COMPONENT * most_k:  # rows are very long
        few = max(2 * most_k, FEWEST_ROWS) / rows
        return min(share, max(most, few)) if config.init in NNDSVD else 0.0
    return min(share, most)


class RaceWork:
    """A leaf per start: a fit in memory by the same loop. Piece 0: their results.

    In the phase ``"race"`` every start takes a few passes; in ``"final"`` the H that won goes on
    until it has converged on these rows.
    """

    pieces = 1

    def __init__(self, context: Context, step: Step) -> None:
        self.context = context
        self.step = step
        config = context.plan.config
        state = context.record(step.index - 1)["state"]
        self.final = state["phase"] == "final"
        starts = 1 if self.final else config.n_init
        self.starts = [(m, start) for m in step.models for start in range(starts)]
        self.segments = len(self.starts)
        self.fan_in = config.fan_in
        self.scan = state["scan"]
        self.given = [ModelState.from_json(model).plain for model in state["models"]]
        self._lock = threading.Lock()
        self._rows: Matrix | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        path = self.context.store.path
        return cached_work, (RaceWork, path, self.context.plan.run_id, self.step)

    def leaf(self, segment: int) -> list[Any]:
        """Fit one start; its H is stored, its objective returned."""
        model, start = self.starts[segment]
        with self._lock:
            if self._rows is None:
                share = race_share(self.context, self.scan)
                self._rows = race_rows(self.context, self.scan, share)
        state, store = self._fit(model, start, self._rows)
        assert state.pair is not None
        H = read_H(store, state.plain)
        ref = self.context.store.put(f"race/{model}-{start}", H)
        result = {"model": model, "start": start, "H": [ref.to_json()], "passes": state.passes}
        result["W_sums"] = state.pair.W_sums
        return [[{**result, "objective": state.pair.objective}]]

    def _fit(self, model: int, start: int, rows: Matrix) -> tuple[ModelState, MemoryStore]:
        from dnmf.fitting.loop import run  # the loop schedules races, and runs inside them

        plan = self.context.plan
        spec = plan.config.models[model]
        alpha_W, alpha_H = tall_and_wide(plan)
        config = plan.config.replace(
            models=(ModelSpec(spec.k, spec.seed + (start << 32) + (model << 48)),),
            tol=TOL,
            max_passes=PASSES if self.final else HEAT_PASSES,
            init="custom" if self.final else "random",
            max_time=None,
            dtype=plan.dtype,
            max_block=FitConfig.max_block,
            segments=None,
            slab_size=FitConfig.slab_size,
            sample=0.0,
            alpha_W=alpha_W,
            alpha_H=alpha_H,
            missing="zeros" if plan.config.masked else None,
        )
        laid_out, source = make_plan(_source(rows), config)
        store = MemoryStore()
        if self.final:
            laid_out = put_start(store, laid_out, self._given_H(model, rows))
        store.create(laid_out.to_json())
        record = run(Context(store, laid_out, source), InProcess(), lambda event: None)
        return ModelState.from_json(record["state"]["models"][0]), store

    def _given_H(self, model: int, rows: Matrix) -> np.ndarray:
        """Of the start that won, or of the one there is: from the singular vectors."""
        config = self.context.plan.config
        if config.init not in NNDSVD:
            return read_H(self.context.store, self.given[model])
        spec = config.models[model]
        exact = loss_of(self.context.plan, 1).extrapolates  # its steps can leave zero
        if isinstance(rows, WeightedCSR):
            rows = rows.entries
        return nndsvd_H(rows, spec.k, spec.seed, config.init, positive=not exact)

    def combine(self, piece: int, parts: Sequence[Any]) -> Any:
        return [result for part in parts for result in part]

    def finish(self, piece: int, reduced: Any, small: Any) -> Any:
        return reduced


def _source(rows: Matrix) -> Source:
    """Rows in memory, with their weights where they have some."""
    if not isinstance(rows, WeightedCSR):
        return open_source(rows)
    parts = rows.data, rows.weights
    arrays = [sp.csr_array((x, rows.indices, rows.indptr), shape=rows.shape) for x in parts]
    return WeightedSource(SparseSource(arrays[0]), SparseSource(arrays[1]), "zeros")
