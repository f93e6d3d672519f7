"""Go on with a run that was interrupted, with what it was begun with."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import replace
from typing import Any

from dnmf.config import FitConfig
from dnmf.errors import DnmfError, InputError, OptionError, RunLockedError
from dnmf.fitting.data.context import Context
from dnmf.fitting.drive import resumable_storage, run_in_folder
from dnmf.fitting.starts.given import other_starts
from dnmf.labels import check_alike
from dnmf.launch.data import drop_staged, evaluated_here, matrix, offered
from dnmf.launch.request import Request
from dnmf.planning.fingerprint import fingerprint
from dnmf.planning.memory import check_memory
from dnmf.planning.plan import Plan, make_plan
from dnmf.planning.versions import check_same, compare_versions
from dnmf.results.models import open_run
from dnmf.results.opening import open_result
from dnmf.results.result import Result
from dnmf.runs.folder import FolderStore
from dnmf.runs.layout import STAGED, examine, local_path, resume_command
from dnmf.sources import from_spec
from dnmf.sources.base import Source
from dnmf.steps.events import Listener
from dnmf.steps.work import Executor

__all__ = ["go_on", "planned_run", "to_resume"]


def to_resume(out: str | os.PathLike[str] | None, overwrite: bool, resume: bool) -> str | None:
    """Return the run to go on with; None begins a new one, also after one that had not begun.

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


def go_on(
    path: str | os.PathLike[str],
    executor: Executor,
    on_event: Listener,
    max_time: float | None,
    request: Request | None = None,
) -> Any:
    """Go on with the run at ``path`` from its last committed step.

    Parameters
    ----------
    path : path
        The run folder.
    executor : Executor
    on_event : Listener
    max_time : float or None
        Seconds after which no further pass starts; None is what the run began with.
    request : Request, optional
        What is asked for again: the run must have been begun with it.

    Returns
    -------
    Result or Models

    Raises
    ------
    OptionError, InputError
        The run was begun with other options, arrays or data.
    RunLockedError
        Another process works on the run, or replaced it.
    """
    config = None if request is None else request.config
    found = open_result(path)
    store = FolderStore(path)
    if found.done and request is None:  # also one of an earlier version, whose plan is not read
        _clean_up(store)
        return open_run(store.path)
    if not found.done:
        check_same(store.path, store.plan())
    planned = planned_run(path)
    if config is not None and planned.mode != "fit":
        raise OptionError(
            f"{store.path} holds W of new rows (a {planned.mode}), no fit to go on with; give "
            f"another out, or overwrite"
        )
    _check_options(store, planned, config)
    data = None
    if request is not None:
        _check_starts(store, planned, request)
        data = matrix(request.V, request.weights, planned.config.missing, None, executor)
        _check_columns(store, planned, data)
    context = _reopen(store, planned, data, executor, found, on_event)
    if context is None:
        _clean_up(store)
        return open_run(store.path)
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
        run_in_folder(context, executor, on_event, max_time)
        drop_staged(store)
    return open_run(store.path)


def _clean_up(store: FolderStore) -> None:
    """Delete what a run left that was killed after its publication, unless somebody does it."""
    objects = os.walk(os.path.join(store.state_folder, "objects"))
    staged = (os.path.exists(os.path.join(store.state_folder, name)) for name in STAGED)
    latest = store.latest()
    if latest is not None and (any(files for _, _, files in objects) or any(staged)):
        with suppress(DnmfError), store.locked():  # or the storage is read-only
            store.drop([], latest[0])
            drop_staged(store)


def planned_run(path: str | os.PathLike[str]) -> Plan:
    return Plan.from_json(FolderStore(path).plan())


def _check_options(store: FolderStore, planned: Plan, config: FitConfig | None) -> None:
    wrong = planned.config.differences(config) if config is not None else []
    if wrong:
        raise OptionError(
            f"{store.path} was begun with other options ({'; '.join(wrong)}); resume it with "
            f"the same ones, or start again with overwrite"
        )


def _check_starts(store: FolderStore, planned: Plan, request: Request) -> None:
    """Refuse other given arrays than those that the run was begun with."""
    oriented = None
    if planned.empty_rows:  # of a start the run has what belongs to the rows that it reads
        V = from_spec(planned.source) if planned.source else matrix(request.V, None, None)
        oriented = planned.oriented(V)
    other = other_starts(planned, request.given, oriented)
    if other:
        raise OptionError(
            f"{store.path} was begun with another array {' and '.join(other)}; resume it with the "
            f"same one, or start again with overwrite"
        )


def _check_columns(store: FolderStore, planned: Plan, data: Source) -> None:
    """Refuse data whose columns have other names, or the names in another order."""
    if planned.mode == "fit" and planned.columns is not None:
        whose = f"the matrix that {store.path} was begun with"
        check_alike(data.labels(1), planned.columns, "V", "columns", whose)


def _reopen(
    store: FolderStore,
    planned: Plan,
    source: Source | None,
    executor: Executor,
    found: Result,
    listen: Listener,
) -> Context | None:
    """Open the run's context, None if it is done; data that are given must be those of the run."""
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
    lazy = source.lazy
    if lazy and (planned.shape_of_V, planned.stored_dtype) != (source.shape, str(source.dtype)):
        raise _other_data(store, planned, source.describe())  # before anything is computed
    if lazy and kind is None and found.done:  # nothing else says whether it is the same
        return None
    if lazy and not found.done:
        from dnmf.interop.dask_origins import check_origins

        check_origins(source, planned.config.missing_chunks)  # it began with remarks about some
    if kind == "in_cluster":
        from dnmf.interop.in_cluster import keep_in_cluster

        source = keep_in_cluster(source, executor)
    read = source
    if evaluated_here(source, executor) and not found.done:
        from dnmf.launch.evaluation import evaluate

        config, mode, offer = planned.config, planned.mode, executor.resources()
        read, _ = evaluate(source, config, mode, offer, store.state_folder, listen, alone=False)
        source = read if kind is None else source  # the blocks of a cluster are those of chunks
    again, _ = make_plan(source, planned.config, planned.mode)
    if again.source_metadata != planned.source_metadata:
        raise _other_data(store, planned, again.description)
    if found.done:  # else every block that is read is compared
        _check_entries(store, planned, source, found)
    oriented = planned.oriented(source) if read is source else read  # as it was begun
    assert oriented is not None  # V could be read so, or it would be another plan
    return None if found.done else Context(store, planned, oriented)


def _is_same(store: FolderStore, planned: Plan, source: Source) -> bool:
    """Return whether a source is what the run reads, or has the shape of what was staged."""
    assert planned.source is not None
    shape = planned.shape_of_V
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
