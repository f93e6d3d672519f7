"""Local clusters, and what their workers say of themselves."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from distributed import Client, Worker

from dnmf.cli.memory_use import resident

__all__ = ["TINY_LIMIT", "baseline", "cluster", "pooled", "spilled_bytes", "troubles"]

TINY_LIMIT = 1_000_000_000
"""Bytes of a worker in tests."""


_pool: dict[tuple[int, int, int | None], Client] | None = None
_pool_stack = ExitStack()


@contextmanager
def cluster(workers: int, threads: int = 1, memory: int | None = None) -> Iterator[Client]:
    """Worker processes as ``dnmf fit`` starts them."""
    shape = (workers, threads, memory)
    if _pool is not None:
        if shape not in _pool:
            _pool[shape] = _pool_stack.enter_context(_start(*shape))
        yield _pool[shape]
        return
    with _start(*shape) as client:
        yield client


@contextmanager
def _start(workers: int, threads: int, memory: int | None) -> Iterator[Client]:
    from dnmf.executors.local import start_local

    with start_local(workers, threads, memory, set_as_default=False) as client:
        client.wait_for_workers(workers, timeout=120)
        yield client


@contextmanager
def pooled() -> Iterator[None]:
    """Inside, clusters of one shape are one cluster: for tests, which measure nothing."""
    global _pool
    _pool = {}
    try:
        with _pool_stack:
            yield
    finally:
        _pool = None


def baseline(client: Client) -> dict[str, int]:
    """Resident bytes of every worker now; its peak counts from here where the kernel allows."""
    found: dict[str, int] = client.run(_settle)
    return found


def _settle() -> int:
    gc.collect()
    with suppress(OSError):  # resets the kernel's high-water mark of this process
        Path("/proc/self/clear_refs").write_text("5")
    return resident()[0]


def spilled_bytes(client: Client) -> int:
    """Bytes that workers have written to their disks since they started."""
    return sum(client.run(_spilled).values())


def _spilled(dask_worker: Worker) -> int:
    written: dict[Any, float] = getattr(dask_worker.data, "cumulative_metrics", {})
    return int(written.get(("disk-write", "bytes"), 0))


def troubles(client: Client) -> dict[str, int]:
    """How often workers paused, and how often a nanny restarted one because of its memory."""
    events: dict[str, Any] = client.get_events()
    paused = restarted = 0
    for topic, entries in events.items():
        for _, event in entries:
            if isinstance(event, dict) and event.get("status") == "paused":
                paused += event.get("action") == "worker-status-change"
            restarted += topic == "worker-restart-memory"
    return {"paused": paused, "restarted": restarted}
