"""Before a fit: can every worker read V and write into the run? Tried, not believed."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dnmf.errors import CorruptDataError, DnmfError, InputError, OutOfMemoryError, RunError
from dnmf.fitting.data.context import Context
from dnmf.planning.plan import Plan
from dnmf.runs.base import ObjectRef
from dnmf.runs.folder import FolderStore
from dnmf.steps.retries import with_retries
from dnmf.steps.work import Executor

__all__ = ["probe"]

MOST_NAMED = 5


@dataclass(frozen=True)
class _Seen:
    """The findings of one worker.

    Attributes
    ----------
    host : str
    failed : str
        ``""``, ``"run"``, ``"V"``, ``"chunk"`` or ``"memory"``.
    text : str
        The error.
    ref : list or None
        What the worker wrote into the run.
    """

    host: str
    failed: str = ""
    text: str = ""
    ref: list[str] | None = None


def probe(executor: Executor, path: str) -> None:
    """Let every worker read one block of V and write one small object into the run.

    Parameters
    ----------
    executor : Executor
        One that runs tasks in this process has nothing to try: V was opened, the plan written.
    path : str
        The run folder, with its plan.

    Raises
    ------
    InputError
        A worker cannot read V, or reads another matrix there.
    RunError
        A worker cannot see or write the run folder, or sees another one there.
    ClusterError
        The cluster does not answer.
    """
    store = FolderStore(path)
    seen: dict[str, _Seen] = executor.everywhere(_look, path, str(store.plan()["run_id"]))
    for worker, what in seen.items():
        if isinstance(what, BaseException):
            raise RunError(f"worker {worker} cannot work on {path}: {what!r}") from what
    _refuse(path, {worker: what for worker, what in seen.items() if what.failed})
    for worker, what in seen.items():
        try:
            store.get(ObjectRef.from_json(what.ref or ["", ""]))
        except RunError as error:
            raise RunError(
                f"what worker {worker} on {what.host} wrote into {path} does not arrive here: the "
                f"output must be on storage that all workers and this process share ({error})"
            ) from None


def _refuse(path: str, failed: Mapping[str, _Seen]) -> None:
    if not failed:
        return
    worker, first = next(iter(failed.items()))
    more = len(failed) - 1
    others = f" (so do {more} more: {', '.join([*failed][1:MOST_NAMED])})" if more else ""
    if first.failed == "chunk":
        raise CorruptDataError(first.text)
    if first.failed == "memory":
        raise OutOfMemoryError(first.text)
    if first.failed == "V":
        raise InputError(
            f"worker {worker} on {first.host} cannot read V{others}: {first.text}. V must be at a "
            f"path or URL that every worker reaches"
        )
    raise RunError(
        f"worker {worker} on {first.host} cannot work in {path}{others}: {first.text}. The output "
        f"must be on storage that all workers and this process share"
    )


def _look(path: str, run_id: str) -> _Seen:
    """Try on a worker to read one block and to write one object."""
    host = socket.gethostname()
    number = uuid.uuid4().int % (1 << 32)
    doing = "run"
    try:
        store = FolderStore(path)
        plan = Plan.from_json(store.plan())
        if plan.run_id != run_id:
            return _Seen(host, "run", f"another run is at that path there ({plan.run_id})")
        doing = "V"
        with_retries(lambda: _read_one(path, number))
        doing = "run"
        ref, _ = with_retries(lambda: store.put(f"probe/{number}", np.array([number])))
    except CorruptDataError as error:
        return _Seen(host, "chunk", str(error))
    except OutOfMemoryError as error:
        return _Seen(host, "memory", str(error))
    except DnmfError as error:
        return _Seen(host, doing, str(error))
    return _Seen(host, ref=ref.to_json())


def _read_one(path: str, number: int) -> None:
    """Read one block, each worker another one: their chunks are then not all the same."""
    context = Context.open(path)
    starts = context.plan.block_starts
    block = number % context.plan.blocks
    if context.source.in_cluster:  # workers are handed its blocks
        return
    for _ in context.source.read_blocks(starts[block : block + 2]):
        return
