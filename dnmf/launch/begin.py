"""Begin a run: plan it, create its folder, store its start, run it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from dnmf.errors import OptionError
from dnmf.fitting.data.context import Context
from dnmf.fitting.drive import discard_if_invalid, resumable_storage, run_in_folder
from dnmf.fitting.loop import run
from dnmf.fitting.starts.given import put_start
from dnmf.launch.data import drop_staged, evaluated_here, lay_out, matrix, place
from dnmf.launch.request import Request
from dnmf.planning.evaluation import Evaluation, with_evaluations
from dnmf.planning.memory import MemoryNeed
from dnmf.planning.plan import Plan
from dnmf.planning.report import PlanReport
from dnmf.planning.versions import compare_versions
from dnmf.results.in_memory import result_in_memory
from dnmf.results.models import open_run
from dnmf.runs.files import temporary_folder
from dnmf.runs.folder import FolderStore
from dnmf.runs.layout import local_path
from dnmf.runs.memory import MemoryStore
from dnmf.sources.base import Source
from dnmf.steps.events import Notice, Planned
from dnmf.steps.work import Executor

__all__ = ["begin"]

Evaluations = tuple[Evaluation, ...]


def begin(request: Request, executor: Executor) -> Any:
    """Run what is asked for from its beginning.

    Returns
    -------
    Result or Models
        Models of a batch.
    """
    config, mode, out, listen = request.config, request.mode, request.out, request.on_event
    if out is not None:
        local_path(out)  # whether it is one is said before V is read
    source = matrix(request.V, request.weights, config.missing, executor.dask_client, executor)
    moves = not executor.in_process and not source.persistent
    here = evaluated_here(source, executor)
    if not (moves and source.lazy):  # whose chunks are not those that the fit reads
        seen = source if not here else _foreseen(source, request)
        laid_out, oriented, need = lay_out(seen, request, executor)
    if out is None and not executor.in_process:
        raise OptionError("a fit on a cluster needs out: a path that all workers reach")
    compare_versions(executor)
    if source.lazy:
        from dnmf.interop.dask_origins import check_origins  # few fits have lazy data

        for note in check_origins(source, config.missing_chunks):
            listen(Notice(note))
    columns = source.labels(1) if mode == "fit" else None
    found: Evaluations = ()
    if out is None:
        with ExitStack() as stack:
            if here:
                folder = stack.enter_context(temporary_folder())
                source, found = _evaluate(source, request, executor, folder)
                laid_out, oriented, need = lay_out(source, request, executor)
            memory = MemoryStore()
            laid_out = replace(laid_out, columns=columns)
            laid_out = put_start(memory, laid_out, request.given, oriented)
            memory.create(laid_out.to_json())
            _tell(request, executor, laid_out, need, found)
            context = Context(memory, laid_out, oriented)
            return result_in_memory(context, run(context, executor, listen, config.max_time))
    replaces = request.overwrite or request.resume
    protected = [*source.paths(), *request.protected] if replaces else []
    store = FolderStore.create_new(out, None, request.overwrite, protected, unbegun=request.resume)
    with _working_on(store):
        try:
            if here:
                source, found = _evaluate(source, request, executor, store.state_folder)
            elif moves:
                source = place(source, config, mode, store, executor)
            if here or moves:
                laid_out, oriented, need = lay_out(source, request, executor)
            laid_out = replace(laid_out, columns=columns)
            laid_out = put_start(store, laid_out, request.given, oriented)
            store.create(laid_out.to_json())
        except BaseException:
            store.discard()
            raise
        _tell(request, executor, laid_out, need, found)
        with discard_if_invalid(store), resumable_storage(store):
            context = Context(store, laid_out, oriented)
            run_in_folder(context, executor, listen, config.max_time)
            drop_staged(store)
            return open_run(store.path)


def _foreseen(source: Source, request: Request) -> Source:
    """Return lazy data as their plan sees them, so that what it refuses is not computed first."""
    from dnmf.launch.evaluation import foreseen  # few fits have lazy data

    return foreseen(source, request.config.missing)


def _evaluate(
    source: Source, request: Request, executor: Executor, folder: str
) -> tuple[Source, Evaluations]:
    from dnmf.launch.evaluation import evaluate

    config, mode, listen = request.config, request.mode, request.on_event
    return evaluate(source, config, mode, executor.resources(), folder, listen)


def _tell(
    request: Request, executor: Executor, plan: Plan, need: MemoryNeed, found: Evaluations
) -> None:
    """Tell the plan before it runs."""
    need = with_evaluations(need, found)
    request.on_event(Planned(PlanReport(plan, executor.resources(), need, found).lines()))


@contextmanager
def _working_on(store: FolderStore) -> Iterator[None]:
    """Hold the lock of a run that this process just made; where that fails there is no run."""
    with ExitStack() as stack:
        try:
            stack.enter_context(store.locked())
        except BaseException:
            store.discard()
            raise
        yield
