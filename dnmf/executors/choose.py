"""Which executor a call runs on."""

from __future__ import annotations

import sys
from typing import Any

from dnmf.errors import OptionError
from dnmf.executors.threads import Threads
from dnmf.steps.work import Executor

__all__ = ["choose_executor"]


def choose_executor(client: Any, executor: Executor | None) -> Executor:
    """Return the executor given, the client's, the active client's, or this process's threads.

    Raises
    ------
    OptionError
        Both are given, or the client cannot be waited for here.
    """
    if executor is not None:
        if client is not None:
            raise OptionError("give either client or executor, not both")
        return executor
    if client is None:
        client = _active_client()
    elif client.asynchronous:
        raise OptionError(
            "the client is asynchronous, and a fit here would stop the event loop that it waits "
            "for; call it in a thread: await asyncio.to_thread(dnmf.fit, V, k, client=client, ...)"
        )
    if client is None:
        return Threads()
    from dnmf.executors.cluster import Cluster

    return Cluster(client)


def _active_client() -> Any:
    """Return the client that Dask's own calls would take here, if a fit can wait for it, or None.

    A fit cannot wait on the event loop of an asynchronous client. In a task it should not: a task
    has a thread of its worker and is expected to work there, whatever other tasks of that worker
    did. Whoever wants a cluster there gives the client.
    """
    if "distributed" not in sys.modules:
        return None
    from distributed import default_client

    from dnmf.executors.dask_private import holds_a_thread

    try:
        client = default_client()
    except ValueError:
        return None
    return None if client.asynchronous or holds_a_thread() else client
