"""Before a fit: can every worker read V and write the run? Tried, not believed."""

from __future__ import annotations

import asyncio
import socket
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from distributed import Client

from dnmf.errors import CorruptDataError, DnmfError, InputError, OutOfMemoryError, RunError
from dnmf.executors.watch import answer
from dnmf.fitting.data.context import Context
from dnmf.planning.plan import Plan
from dnmf.runs.base import ObjectRef
from dnmf.runs.folder import FolderStore
from dnmf.steps.work import with_retries

__all__ = ["probe_workers"]

MOST_NAMED = 5


@dataclass(frozen=True)
class _Seen:
    """What one worker found.

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


def probe_workers(client: Client, path: str) -> None:
    """Let every worker read one block of V and write one small object into the run.

    Parameters
    ----------
    client : distributed.Client
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
    run_id = str(store.plan()["run_id"])
    found = answer(client, lambda: client.run(_probe, path, run_id, on_error="return"))
    seen = {worker: what for worker, what in found.items() if not isinstance(what, OSError)}
    for worker, what in seen.items():  # the OSErrors were workers that have left
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


async def _probe(path: str, run_id: str, dask_worker: Any) -> _Seen:
    """Runs on a worker, in a thread: its event loop stays free."""
    return await asyncio.to_thread(_look, path, run_id, str(dask_worker.address))


def _look(path: str, run_id: str, address: str) -> _Seen:
    host = socket.gethostname()
    number = zlib.crc32(address.encode())
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
    """One block, each worker another one: their chunks are then not all the same."""
    context = Context.open(path)
    starts = context.plan.block_starts
    block = number % context.plan.blocks
    if context.source.in_cluster:  # workers are handed its blocks
        return
    for _ in context.source.read_blocks(starts[block : block + 2]):
        return
