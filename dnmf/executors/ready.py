"""What a worker process of a local cluster does first and last: a preload of Dask's."""

from __future__ import annotations

import signal
import threading
from importlib import import_module
from typing import Any

from dnmf.quick_exit import QuickExit

__all__ = ["dask_setup", "dask_teardown", "import_ahead"]

AHEAD = (
    *("dnmf.fitting.kinds.scan", "dnmf.fitting.kinds.race", "dnmf.fitting.kinds.passes"),
    *(
        "dnmf.fitting.kinds.rounds",
        "dnmf.fitting.kinds.publish",
        "dnmf.fitting.kinds.transform",
        "dnmf.losses.frobenius",
    ),
)
"""The modules with which the sources, losses and kernels of every task are imported."""


def import_ahead() -> None:
    """Import what a fit needs in a thread, while this process waits for others."""
    threading.Thread(target=_import_all, name="dnmf-imports", daemon=True).start()


def _import_all() -> None:
    for name in AHEAD:
        import_module(name)


def dask_setup(worker: Any) -> None:
    """Prepare a worker that starts; Dask calls this in its main thread."""
    # A terminal's Ctrl-C reaches workers too, but ending them is the client's affair.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker.dnmf_ending = QuickExit()
    import_ahead()


def dask_teardown(worker: Any) -> None:
    """Let the process end at once; Dask calls this when a worker closes in order."""
    worker.dnmf_ending.code = 0
