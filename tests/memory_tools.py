"""How much memory something takes: measured in one way by all tests that ask."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from dnmf.cli.memory_use import resident
from dnmf.fitting.data.context import Context
from dnmf.fitting.loop import run
from dnmf.runs.folder import FolderStore
from dnmf.steps.serial import Serial

__all__ = ["begin_again", "in_a_process", "linux_only", "peak_of_a_run", "traced_peak"]

ATTEMPTS = 3

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc of Linux")
"""What only the system sees is read from /proc."""


def traced_peak(act: Callable[[], object]) -> int:
    """Call a function; the peak of what NumPy and Python allocated meanwhile, in bytes."""
    gc.collect()
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def peak_of_a_run(context: Context, most: int, first: Callable[[], object] = lambda: None) -> int:
    """Run a plan to its end twice; the peak of the second run, in bytes.

    The first run compiles kernels and fills caches. Other threads of the process (a cluster's
    client) add to a peak now and then: one above ``most`` is measured again, and the lowest counts.

    Parameters
    ----------
    context : Context
        Of a run that has not begun.
    most : int
        Bytes that the test allows.
    first : callable
        Called after the first run, for what is to be counted in one run.
    """
    execute(context)
    first()
    peaks: list[int] = []
    for attempt in count():
        store = FolderStore.create_new(f"{context.store.path}-{attempt}", context.plan.to_json())
        again = Context(store, context.plan, context.source)
        peaks.append(traced_peak(lambda again=again: execute(again)))  # type: ignore[misc]
        if peaks[-1] <= most or len(peaks) == ATTEMPTS:
            return min(peaks)
    raise AssertionError


def execute(context: Context) -> None:
    """Run a plan to its end in this process."""
    run(context, Serial(), lambda event: None)


def begin_again() -> int:
    """Let the kernel's high-water mark of this process begin again; what is resident now."""
    gc.collect()
    with suppress(AttributeError, OSError):  # what the allocator keeps would be used unseen
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return resident()[0]


def in_a_process(program: str, *arguments: object, timeout: float = 280) -> Any:
    """Run Python code in a process of its own, which may import from ``tests/``.

    Parameters
    ----------
    program : str
        Its last line of output is JSON.
    *arguments : object
        For ``sys.argv``, as text.
    timeout : float
        Seconds.

    Returns
    -------
    object
        What it printed.
    """
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
