"""Which executor a call runs on."""

from __future__ import annotations

import sys
from typing import Any

from dnmf.errors import OptionError
from dnmf.executors.threads import Threads
from dnmf.fitting.work import Executor

__all__ = ["choose_executor"]


def choose_executor(client: Any, executor: Executor | None) -> Executor:
    """The executor given, the client's, the active client's, or the threads of this process."""
    if executor is not None:
        if client is not None:
            raise OptionError("give either client or executor, not both")
        return executor
    if client is None and "distributed" in sys.modules:
        from distributed import default_client

        try:
            client = default_client()
        except ValueError:
            client = None
    if client is None:
        return Threads()
    from dnmf.executors.cluster import Cluster

    return Cluster(client)
