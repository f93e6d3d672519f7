"""From what a caller gives to a running loop: plan, run folder, start, executor."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np

from dnmf.config import FitConfig, Resources
from dnmf.conversion.staging import STAGED, WEIGHTS, stage
from dnmf.errors import DnmfError, InputError, OptionError, RunLockedError
from dnmf.executors.threads import Threads
from dnmf.fitting.data.context import Context
from dnmf.fitting.drive import (
    discard_if_invalid,
    resumable_storage,
    run_in_folder,
    run_in_memory,
)
from dnmf.fitting.starts.given import other_starts, put_start
from dnmf.interop import as_source
from dnmf.planning.fingerprint import fingerprint
from dnmf.planning.groups import grouped
from dnmf.planning.memory import MemoryNeed, check_memory
from dnmf.planning.plan import Plan, make_plan
from dnmf.planning.report import PlanReport
from dnmf.planning.versions import check_same
from dnmf.results.models import open_models
from dnmf.results.result import Result
from dnmf.runs.folder import FolderStore
from dnmf.runs.layout import examine, local_path, resume_command
from dnmf.runs.memory import MemoryStore
from dnmf.sources import from_spec
from dnmf.sources.array import ArraySource, SparseSource
from dnmf.sources.base import Source
from dnmf.sources.weighted import WeightedSource
from dnmf.steps.events import Listener, Planned
from dnmf.steps.serial import Serial
from dnmf.steps.work import Executor

__all__ = ["begin", "go_on", "matrix", "offered", "planned_run", "to_resume"]


def matrix(V: Any, weights: Any, missing: str | None, client: Any = None) -> Source:
    """V, and its weights if it has some, as one source."""
    if weights is None:
        return as_source(V, client)
    return WeightedSource(as_source(V, client), _weights(weights, client), missing)


def _weights(weights: Any, client: Any) -> Source:
    """Weights as a source; what is wrong with them is said of them."""
    try:
        return as_source(weights, client)
    except InputError as error:
        one_each = getattr(weights, "ndim", 0) == 1
        remedy = (
            ". For one number per row give a matrix: np.broadcast_to(weights[:, None], V.shape)"
            if one_each
            else ""
        )
        text = re.sub(r"\bV\b", "weights", str(error))
        raise type(error)(f"weights: {text}{remedy}") from error


def begin(
    data: tuple[Any, Any],
    config: FitConfig,
    mode: str,
    executor: Executor,
    out: str | os.PathLike[str] | None,
    overwrite: bool,
    on_event: Listener | None,
    H: np.ndarray | None,
    W: np.ndarray | None,
    fixed: np.ndarray | None = None,
    protect: tuple[str, ...] = (),
    resume: bool = False,
) -> Any:
    """Plan, create the run, put its start, and run it: a Result, or Models for a batch.

    ``data`` are V and its weights or None; ``protect`` are paths that the output may not replace;
    with ``resume`` it may replace what a run left that was killed before it began.
    """
    if out is not None:
        local_path(out)  # whether it is one is said before V is read
    listen = on_event or _ignore
    source = matrix(*data, config.missing, getattr(executor, "client", None))
    serial = isinstance(executor, Serial)
    moves = not serial and not source.persistent
    if not (moves and _of_dask(source)):  # whose chunks are not those that the fit reads
        laid_out, oriented, need = _lay_out(source, config, mode, executor)
    if out is None and not serial:
        raise OptionError("a fit on a cluster needs out: a path that all workers reach")
    executor.check()
    if out is None:
        memory = MemoryStore()
        laid_out = put_start(memory, laid_out, H, W, fixed)
        memory.create(laid_out.to_json())
        listen(Planned(PlanReport(laid_out, executor.resources(), need).lines()))
        context = Context(memory, laid_out, oriented)
        return run_in_memory(context, executor, listen, config.max_time)
    kept = [*_paths(source), *protect] if overwrite or resume else []
    store = FolderStore.create_new(out, None, overwrite, kept, unbegun=resume)
    with _working_on(store):
        try:
            if moves:
                source = _place(source, config, mode, store, executor)
                laid_out, oriented, need = _lay_out(source, config, mode, executor)
            laid_out = put_start(store, laid_out, H, W, fixed)
            store.create(laid_out.to_json())
        except BaseException:
            store.discard()
            raise
        listen(Planned(PlanReport(laid_out, executor.resources(), need).lines()))
        with discard_if_invalid(store), resumable_storage(store):
            context = Context(store, laid_out, oriented)
            result = run_in_folder(context, executor, listen, config.max_time)
            return _without_staged(store, result)


@contextmanager
def _working_on(store: FolderStore) -> Iterator[None]:
    """Hold the lock of a run that this process just made; where that fails there is no run."""
    with ExitStack() as held:
        try:
            held.enter_context(store.locked())
        except BaseException:
            store.discard()
            raise
        yield


def to_resume(out: str | os.PathLike[str] | None, overwrite: bool, resume: bool) -> str | None:
    """The run to go on with; None begins a new one, also after one that had not begun.

    Raises
    ------
    OptionError
        What is to be resumed would be overwritten.
    """
    if overwrite and resume:
        raise OptionError("overwrite would delete the run that resume goes on with; give one")
    if not resume or out is None:
        return None
    path = local_path(out)
    return None if examine(path).unbegun else path


def _parts(source: Source) -> tuple[Source, ...]:
    """V, and its weights if it has some."""
    return (source.V, source.weights) if isinstance(source, WeightedSource) else (source,)


def _of_dask(source: Source) -> bool:
    return any(part.kind == "dask" for part in _parts(source))


def _paths(source: Source) -> list[str]:
    """Where the data are, if that is a place: an output may not replace it."""
    specs = [part.spec() for part in _parts(source) if part.persistent]
    found = [str(spec[name]) for spec in specs for name in ("location", "path") if name in spec]
    for part in _parts(source):
        if part.kind == "dask":
            found += part.places()  # type: ignore[attr-defined]
    return found


def _place(
    source: Source, config: FitConfig, mode: str, store: FolderStore, executor: Executor
) -> Source:
    """V where the workers find it: held in their memory, or written into the run once."""
    if isinstance(source, WeightedSource):
        V, weights = source.V, source.weights
        V = V if V.persistent else stage(V, store, executor)
        weights = weights if weights.persistent else stage(weights, store, executor, WEIGHTS)
        return WeightedSource(V, weights, config.missing)
    if source.kind == "dask":
        from dnmf.interop.in_cluster import kept_in_memory

        held = kept_in_memory(source, config, mode, executor)
        if held is not None:
            return held
    return stage(source, store, executor)


def _lay_out(
    source: Source, config: FitConfig, mode: str, executor: Executor
) -> tuple[Plan, Source, MemoryNeed]:
    """The plan, the source as it will be read, and the memory that the plan needs."""
    laid_out, oriented = make_plan(source, config, mode)
    laid_out, need = grouped(laid_out, offered(executor, laid_out, source))
    return laid_out, oriented, need


def offered(executor: Executor, plan: Plan, source: Source) -> Resources:
    """What the executor offers to this plan."""
    if isinstance(executor, Threads):
        in_memory = (isinstance(part, ArraySource | SparseSource) for part in _parts(source))
        executor.settle(plan, all(in_memory))
    return executor.resources()


def go_on(
    path: str | os.PathLike[str],
    executor: Executor,
    on_event: Listener | None,
    max_time: float | None,
    V: Any,
    config: FitConfig | None,
    weights: Any = None,
    start: tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None] | None = None,
) -> Any:
    """Continue a run, with what is given of V, weights, config and start as it began.

    ``start`` is a given H, W and rows of H that are held.
    """
    found = Result.open(path)
    store = FolderStore(path)
    if not found.done:
        check_same(store.path, store.plan())
    planned = planned_run(path)
    if config is not None and planned.mode != "fit":
        raise OptionError(
            f"{store.path} holds W of new rows (a {planned.mode}), no fit to go on with; give "
            f"another out, or overwrite"
        )
    _check_options(store, planned, config)
    if start is not None and (other := other_starts(planned, *start)):
        raise OptionError(
            f"{store.path} was begun with another array {' and '.join(other)}; resume it with the "
            f"same one, or start again with overwrite"
        )
    if found.done and V is None:
        return _opened(planned, store)
    data = None if V is None else matrix(V, weights, planned.config.missing)
    context = _reopen(store, planned, data, executor, found)
    if context is None:
        return _opened(planned, store)
    if config is not None:  # how strict to be is this process's choice, as max_time is
        asked = planned.config.replace(strict_bits=config.strict_bits)
        context = replace(context, plan=replace(context.plan, config=asked))
    check_memory(planned, offered(executor, planned, context.source))
    executor.check()
    mine = context.store
    assert isinstance(mine, FolderStore)
    with resumable_storage(mine), mine.locked():
        if mine.plan()["run_id"] != planned.run_id:
            raise RunLockedError(
                f"{store.path} was overwritten by another process since this one read it; what is "
                f"there now is left as it is. To go on with that: {resume_command(store.path)}"
            )
        result = run_in_folder(context, executor, on_event or _ignore, max_time)
        return _without_staged(store, result)


def _opened(planned: Plan, store: FolderStore) -> Any:
    _clean_up(store)
    return open_models(store.path) if planned.config.batch else Result.open(store.path)


def _clean_up(store: FolderStore) -> None:
    """Delete what a run left that was killed after its publication, unless somebody does it."""
    objects = os.walk(os.path.join(store.state_folder, "objects"))
    staged = (os.path.exists(os.path.join(store.state_folder, name)) for name in (STAGED, WEIGHTS))
    latest = store.latest()
    if latest is not None and (any(files for _, _, files in objects) or any(staged)):
        with suppress(DnmfError), store.locked():  # or the storage is read-only
            store.drop([], latest[0])
            _without_staged(store, None)


def planned_run(path: str | os.PathLike[str]) -> Plan:
    return Plan.from_json(FolderStore(path).plan())


def _check_options(store: FolderStore, planned: Plan, config: FitConfig | None) -> None:
    wrong = planned.config.differences(config) if config is not None else []
    if wrong:
        raise OptionError(
            f"{store.path} was begun with other options ({'; '.join(wrong)}); resume it with "
            f"the same ones, or start again with overwrite"
        )


def _reopen(
    store: FolderStore, planned: Plan, source: Source | None, executor: Executor, found: Result
) -> Context | None:
    """The run's context, None if it is done; data, where given, must be what it was begun with."""
    kind = planned.source["kind"] if planned.source else None
    if kind not in (None, "in_cluster"):
        if source is not None and not _is_same(store, planned, source):
            raise _other_data(store, planned, source.describe())
        if source is not None:
            _check_entries(store, planned, source, found)
        return None if found.done else Context.open(store.path)
    if source is None:
        raise InputError(
            f"{store.path}: its data ({planned.description}) were only in memory; pass the same "
            f"matrix again: dnmf.fit(V, ..., out=..., resume=True)"
        )
    if kind == "in_cluster":
        from dnmf.interop.in_cluster import keep_in_cluster

        source = keep_in_cluster(source, executor)
    again, oriented = make_plan(source, planned.config, planned.mode)
    if again.source_metadata != planned.source_metadata:
        raise _other_data(store, planned, again.description)
    if found.done:  # else every block that is read is compared
        _check_entries(store, planned, source, found)
    return None if found.done else Context(store, planned, oriented)


def _without_staged(store: FolderStore, result: Any) -> Any:
    """The result of a run that needs its own copy of V no longer."""
    for name in (STAGED, WEIGHTS):
        shutil.rmtree(os.path.join(store.state_folder, name), ignore_errors=True)
    return result


def _is_same(store: FolderStore, planned: Plan, source: Source) -> bool:
    """Whether a source is in the place that the run reads, or has the shape of what was staged."""
    assert planned.source is not None
    shape = planned.shape if planned.axis == "rows" else planned.shape[::-1]
    pairs: list[tuple[Source, Any]] = [(source, planned.source)]
    if isinstance(source, WeightedSource):
        parts = {"V": source.V, "weights": source.weights}
        pairs = [(part, planned.source.get(name)) for name, part in parts.items()]
    for part, spec in pairs:
        if part.persistent:
            if json.loads(json.dumps(dict(part.spec()))) != spec:
                return False
            continue
        staged = str((spec or {}).get("location", "")).startswith(store.state_folder)
        if not (staged and part.shape == shape):
            return False
    return True


def _check_entries(store: FolderStore, planned: Plan, source: Source, found: Result) -> None:
    """Refuse other entries in data that nobody else can open; not in what Dask would compute."""
    if source.persistent or _of_dask(source):
        return
    begun = found.fingerprint
    if begun is None and not found.done:  # before the scan
        begun = fingerprint(planned, from_spec(planned.source or {}))
    if begun is not None and fingerprint(planned, source) != begun:
        raise InputError(
            f"V ({source.describe()}) has the shape of the matrix that {store.path} was begun "
            f"with, but other entries or another dtype; pass that one, or start again with "
            f"overwrite"
        )


def _other_data(store: FolderStore, planned: Plan, given: str) -> InputError:
    return InputError(
        f"V ({given}) is not the matrix that {store.path} was begun with ({planned.description}); "
        f"pass that one, or start again with overwrite"
    )


def _ignore(event: Any) -> None:
    """No listener: events go nowhere."""
