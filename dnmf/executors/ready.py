"""What a worker process of a local cluster does first and last: Dask imports this as a preload."""

from __future__ import annotations

import signal
import threading
from importlib import import_module
from typing import Any

from dnmf.quick_exit import QuickExit

__all__ = ["dask_setup", "dask_teardown", "import_ahead"]

_AHEAD = "dnmf.fitting.drive"  # with it come the sources, losses and kernels of every task


def import_ahead() -> None:
    """Import what a fit needs in a thread, while this process waits for others."""
    threading.Thread(target=import_module, args=(_AHEAD,), name="dnmf-imports", daemon=True).start()


def dask_setup(worker: Any) -> None:
    """Called by Dask in the main thread of a worker that starts."""
    # A terminal's Ctrl-C reaches workers too, but ending them is the client's affair.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker.dnmf_ending = QuickExit()
    import_ahead()


def dask_teardown(worker: Any) -> None:
    """Called by Dask when a worker closes in order: the client waits for its end."""
    worker.dnmf_ending.code = 0
