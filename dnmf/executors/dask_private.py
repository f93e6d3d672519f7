"""Everything of Dask and distributed that executors use and that Dask does not document.

It is there in the versions that ``pyproject.toml`` allows. ``tests/executors/test_dask_private.py``
looks for each part by name and says which one a later version lacks; raise the upper bound only
when that test passes.
"""

from __future__ import annotations

from typing import Any

import dask
from dask._task_spec import Alias, DataNode, Task, TaskRef
from distributed import Client, get_worker
from distributed.client import ClosedClientError, FutureCancelledError, FuturesCancelledError
from distributed.deploy.utils import nprocesses_nthreads
from distributed.system import MEMORY_LIMIT
from distributed.threadpoolexecutor import thread_state as thread_of_pool
from distributed.utils import thread_state as thread_of_task

__all__ = [
    "MEMORY_LIMIT",
    "Alias",
    "ClosedClientError",
    "DataNode",
    "FutureCancelledError",
    "FuturesCancelledError",
    "Task",
    "TaskRef",
    "address_of",
    "holds_a_thread",
    "identity",
    "in_a_span",
    "memory_limit_of_worker",
    "nprocesses_nthreads",
    "span",
    "threads_of_worker",
]


def address_of(client: Client) -> str | None:
    """Return the scheduler's address; None for a client that is not connected."""
    return None if client.scheduler is None else str(client.scheduler.address)


def identity(client: Client, most: int) -> Any:
    """Ask the scheduler what it is, with at most so many of its workers (-1: with all).

    ``client.scheduler_info`` returns what was heard last. That may be the answer to what every
    client asks every two seconds, without workers.
    """
    scheduler = client.scheduler
    if scheduler is None:
        raise OSError("the client is not connected")
    return client.sync(scheduler.identity, n_workers=most)


def holds_a_thread() -> bool:
    """Return whether this is a task on a worker that did not leave its thread (`secede`)."""
    return bool(getattr(thread_of_pool, "proceed", False) and getattr(thread_of_task, "key", None))


def threads_of_worker() -> int:
    """Return how many threads the worker has that runs this task."""
    return int(get_worker().state.nthreads)


def memory_limit_of_worker() -> int | None:
    """Return the memory limit of the worker that runs this task, in bytes; None without one."""
    return getattr(get_worker().memory_manager, "memory_limit", None)


def in_a_span() -> bool:
    """Return whether the caller opened a span of its own (`distributed.span`)."""
    return "span" in dask.get_annotations()


def span(name: str, identifier: str) -> Any:
    """Annotate graphs that are submitted meanwhile with one span.

    `distributed.span` would open another one at each entry.
    """
    return dask.annotate(span={"name": (name,), "ids": (identifier,)})
