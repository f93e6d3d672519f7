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
from dnmf.errors import DnmfError, InputError, OptionError, RunLockedError
from dnmf.fitting.data.context import Context
from dnmf.fitting.drive import (
    discard_if_invalid,
    resumable_storage,
    run_in_folder,
)
from dnmf.fitting.loop import run
from dnmf.fitting.starts.given import other_starts, put_start
from dnmf.interop import as_source
from dnmf.interop.staging import STAGED, WEIGHTS, stage
from dnmf.planning.fingerprint import fingerprint
from dnmf.planning.groups import grouped
from dnmf.planning.memory import MemoryNeed, check_memory, needs_of
from dnmf.planning.plan import Plan, make_plan
from dnmf.planning.report import PlanReport
from dnmf.planning.versions import check_same, compare_versions
from dnmf.results.in_memory import result_in_memory
from dnmf.results.models import is_batch, open_models
from dnmf.results.result import Result
from dnmf.runs.folder import FolderStore
from dnmf.runs.layout import examine, local_path, resume_command
from dnmf.runs.memory import MemoryStore
from dnmf.sources import from_spec
from dnmf.sources.base import Source
from dnmf.sources.weighted import WeightedSource
from dnmf.steps.events import Listener, Planned, ignore
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
    listen = on_event or ignore
    source = matrix(*data, config.missing, executor.dask_client)
    moves = not executor.in_process and not source.persistent
    if not (moves and source.lazy):  # whose chunks are not those that the fit reads
        laid_out, oriented, need = _lay_out(source, config, mode, executor)
    if out is None and not executor.in_process:
        raise OptionError("a fit on a cluster needs out: a path that all workers reach")
    compare_versions(executor)
    if out is None:
        memory = MemoryStore()
        laid_out = put_start(memory, laid_out, H, W, fixed)
        memory.create(laid_out.to_json())
        listen(Planned(PlanReport(laid_out, executor.resources(), need).lines()))
        context = Context(memory, laid_out, oriented)
        return result_in_memory(context, run(context, executor, listen, config.max_time))
    protected = [*source.paths(), *protect] if overwrite or resume else []
    store = FolderStore.create_new(out, None, overwrite, protected, unbegun=resume)
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
            run_in_folder(context, executor, listen, config.max_time)
            _drop_staged(store)
            return _opened(store.path)


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


def _place(
    source: Source, config: FitConfig, mode: str, store: FolderStore, executor: Executor
) -> Source:
    """V where the workers find it: held in their memory, or written into the run once."""
    if len(source.parts) == 2:
        V, weights = source.parts
        V = V if V.persistent else stage(V, store, executor)
        weights = weights if weights.persistent else stage(weights, store, executor, WEIGHTS)
        return WeightedSource(V, weights, config.missing)
    if not source.lazy:
        return stage(source, store, executor)
    from dnmf.interop.in_cluster import keep_or_stage

    return keep_or_stage(source, config, mode, store, executor)


def _lay_out(
    source: Source, config: FitConfig, mode: str, executor: Executor
) -> tuple[Plan, Source, MemoryNeed]:
    """The plan, the source as it will be read, and the memory that the plan needs."""
    laid_out, oriented = make_plan(source, config, mode)
    laid_out, need = grouped(laid_out, offered(executor, laid_out, source))
    return laid_out, oriented, need


def offered(executor: Executor, plan: Plan, source: Source) -> Resources:
    """Return what the executor offers to this plan."""
    return executor.resources(needs_of(plan, source.in_memory))


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
    if found.done and V is None:  # also one of an earlier version, whose plan cannot be read
        _clean_up(store)
        return _opened(store.path)
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
    data = None if V is None else matrix(V, weights, planned.config.missing)
    context = _reopen(store, planned, data, executor, found)
    if context is None:
        _clean_up(store)
        return _opened(store.path)
    if config is not None:  # how strict to be is this process's choice, as max_time is
        asked = planned.config.replace(strict_bits=config.strict_bits)
        context = replace(context, plan=replace(context.plan, config=asked))
    check_memory(planned, offered(executor, planned, context.source))
    compare_versions(executor)
    with resumable_storage(store), store.locked():
        if store.plan()["run_id"] != planned.run_id:
            raise RunLockedError(
                f"{store.path} was overwritten by another process since this one read it; what is "
                f"there now is left as it is. To go on with that: {resume_command(store.path)}"
            )
        run_in_folder(context, executor, on_event or ignore, max_time)
        _drop_staged(store)
    return _opened(store.path)


def _opened(path: str) -> Any:
    return open_models(path) if is_batch(path) else Result.open(path)


def _clean_up(store: FolderStore) -> None:
    """Delete what a run left that was killed after its publication, unless somebody does it."""
    objects = os.walk(os.path.join(store.state_folder, "objects"))
    staged = (os.path.exists(os.path.join(store.state_folder, name)) for name in (STAGED, WEIGHTS))
    latest = store.latest()
    if latest is not None and (any(files for _, _, files in objects) or any(staged)):
        with suppress(DnmfError), store.locked():  # or the storage is read-only
            store.drop([], latest[0])
            _drop_staged(store)


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
        return None if found.done else replace(Context.open(store.path), store=store)
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


def _drop_staged(store: FolderStore) -> None:
    """Delete the run's own copy of V, which a finished run no longer needs."""
    for name in (STAGED, WEIGHTS):
        shutil.rmtree(os.path.join(store.state_folder, name), ignore_errors=True)


def _is_same(store: FolderStore, planned: Plan, source: Source) -> bool:
    """Whether a source is in the place that the run reads, or has the shape of what was staged."""
    assert planned.source is not None
    shape = planned.shape if planned.axis == "rows" else planned.shape[::-1]
    specs: list[Any] = [planned.source]
    if len(source.parts) == 2:
        specs = [planned.source.get(name) for name in ("V", "weights")]
    for part, spec in zip(source.parts, specs, strict=True):
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
    if source.persistent or source.lazy:
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
