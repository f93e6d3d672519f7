"""The context of a step in any process: the run, the plan, the source."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from dnmf.errors import InputError, RunError
from dnmf.fitting.record import Scan, State
from dnmf.linalg.matrix import Matrix
from dnmf.linalg.pick import pick_columns
from dnmf.planning.narrow import narrowed
from dnmf.planning.plan import Plan
from dnmf.planning.rounds import rounds_after
from dnmf.runs.base import RunStore
from dnmf.runs.folder import FolderStore
from dnmf.sources import from_spec
from dnmf.sources.base import Source
from dnmf.steps.work import Step, Work

__all__ = ["Context", "RunWork", "opened"]


@dataclass
class Context:
    """A run as one process sees it.

    Attributes
    ----------
    store : RunStore
    plan : Plan
    source : Source
        Oriented as the plan says: its rows are the blocks' rows.
    verified : set of int
        Segments whose data, in this process's memory, were seen to be those of the scan.
    places : (columns,) int32 array or None
        Where steps go over the columns with entries alone: the place of each column of the source
        among them, -1 for others. Then ``plan`` is of those columns, while the source has all.
    """

    store: RunStore
    plan: Plan
    source: Source
    verified: set[int] = field(default_factory=set)
    places: np.ndarray | None = None
    _narrow: tuple[str, Context] | None = None
    _whole: Context | None = None

    @classmethod
    def open(cls, path: str) -> Context:
        """Open a run from its folder alone, as a worker does."""
        store = FolderStore(path)
        plan = Plan.from_json(store.plan())
        if plan.source is None:
            raise RunError(f"{path}: its data were only in the memory of the process that began it")
        source = from_spec(plan.source)
        if json.loads(json.dumps(source.metadata())) != plan.source_metadata:
            raise InputError(
                f"{source.describe()} changed since the run began (then {plan.description}); "
                f"restore it, or start again with overwrite"
            )
        oriented = plan.oriented(source)
        if oriented is None:
            raise InputError(f"{source.describe()} can no longer be read by columns")
        return cls(store, plan, oriented)

    def after(self, scan: Scan) -> Context:
        """Return the run as steps after its scan see it: of the columns with entries, or itself."""
        found = self._of_columns(scan)
        rounds = rounds_after(found.plan, scan.unobserved)
        same = rounds == found.plan.rounds
        return found if same else replace(found, plan=replace(found.plan, rounds=rounds))

    def _of_columns(self, scan: Scan) -> Context:
        if scan.used is None or self.places is not None:
            return self
        known = self._narrow  # of this scan, unless the run's folder was taken by another run
        if known is None or known[0] != scan.used.name:
            used = self.store.get(scan.used)
            places = np.full(self.plan.shape[1], -1, np.int32)
            places[used] = np.arange(used.size, dtype=np.int32)
            plan = narrowed(self.plan, used.size, scan.fixed_H)
            known = self._narrow = scan.used.name, self._with(plan, places)
        return known[1]

    def _with(self, plan: Plan, places: np.ndarray) -> Context:
        return replace(self, plan=plan, places=places, _narrow=None, _whole=self)

    @property
    def whole(self) -> Context:
        """The run as its scan sees it: of all columns."""
        return self._whole or self

    def pick(self, V: Matrix) -> Matrix:
        """Return rows of the source, in the dtype to compute in, as steps of this context go on."""
        return V if self.places is None else pick_columns(V, self.places, self.plan.shape[1])

    def state(self, index: int) -> State:
        """Return the state of the fit after step ``index``."""
        return State.from_json(self.store.state(index))


class RunWork(Work):
    """A step of a run. Other processes open it from the run's folder, once per step.

    Parameters
    ----------
    context : Context
    step : Step
        A leaf goes over a segment of V, unless a subclass sets ``segments``.
    """

    def __init__(self, context: Context, step: Step) -> None:
        self.context = context
        self.step = step
        self.segments = context.plan.segments
        self.fan_in = context.plan.config.fan_in

    def __reduce__(self) -> tuple[Any, ...]:
        path, run_id = self.context.store.path, self.context.plan.run_id
        return _cached_work, (type(self), path, run_id, self.step)


_works: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
_works_lock = threading.Lock()


def _cached_work(make: Any, path: str, run_id: str, step: Step) -> Any:
    """Return the work of a step in this process, made once; two runs' last ones stay."""
    key = (make, path, run_id, step)
    with _works_lock:
        if key not in _works:
            _works[key] = make(opened(path, run_id), step)
            for other in [other for other in _works if other[1] == path and other != key]:
                del _works[other]  # the H of an earlier step
            while len(_works) > 2:
                _works.popitem(last=False)
        _works.move_to_end(key)
        return _works[key]


@lru_cache(maxsize=2)  # steps follow each other in milliseconds where data are small
def opened(path: str, run_id: str) -> Context:
    """Open a run in this process once, unless another run has taken its folder."""
    context = Context.open(path)
    if context.plan.run_id != run_id:
        raise RunError(f"{path} was replaced by another run; this one cannot go on")
    return context
