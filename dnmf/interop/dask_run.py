"""The evaluation of graphs of Dask arrays: on a cluster, or by Dask's choice of scheduler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from threading import Lock
from typing import Any

import dask.array as da
import numpy as np
from dask import config, threaded
from dask.base import get_scheduler
from dask.callbacks import Callback
from dask.local import get_sync
from dask.system import CPU_COUNT

from dnmf.errors import (
    ClusterError,
    DnmfError,
    InputError,
    MemoryPlanError,
    ResumableError,
    TransientError,
)
from dnmf.planning.memory import BASELINE, USABLE
from dnmf.sources.checks import may_pass
from dnmf.values import format_bytes

__all__ = ["check_memory", "evaluate", "run_here", "run_tasks", "runs_here", "task_bytes"]

RETRIES = 2
"""How often Dask runs a task again that failed: storage may be busy."""

Done = Callable[[int], None]

Call = Callable[[Any], Any]


def evaluate(graph: dict[Any, Any], keys: Any, x: da.Array, client: Any, where: str) -> Any:
    """Compute the values of some keys; failures of the array's own tasks are said for people.

    Parameters
    ----------
    graph : dict
    keys : nested lists of keys
    x : dask.array.Array
        Decides on the scheduler where there is no client.
    client : distributed.Client or None
    where : str
        What is computed, for errors.
    """
    try:
        return _get(x, client, _pool())(graph, keys)
    except (DnmfError, MemoryError):
        raise
    except Exception as error:
        text = f"{where} of the dask array cannot be computed ({type(error).__name__}: {error})"
        if may_pass(error):
            raise TransientError(text) from error
        raise InputError(text) from error


def run_tasks(
    graph: dict[Any, Any], keys: list[str], x: da.Array, client: Any, on_done: Done
) -> list[Any]:
    """Run tasks that write what they compute, and return their values; the first failure ends all.

    Parameters
    ----------
    graph, keys, x, client
        Arguments of `evaluate`, with a flat list of keys.
    on_done : callable
        Called with the position in ``keys`` of each that is done.

    Raises
    ------
    InputError
        A task of the array's own failed.
    ClusterError
        The cluster vanished, or workers died.
    """
    # Dask's choice may be a client that is active
    client = client or getattr(get_scheduler(collections=[x]), "__self__", None)
    if client is not None:
        return _on_cluster(graph, keys, client, on_done)
    position = {key: number for number, key in enumerate(keys)}
    told = Callback(posttask=lambda key, *_: on_done(position[key]) if key in position else None)
    # of its own: when a task fails, those that still write are waited for
    pool = ThreadPoolExecutor(CPU_COUNT, thread_name_prefix="dnmf-dask")
    try:
        with told:
            return list(_get(x, None, pool)(graph, keys))
    except (DnmfError, MemoryError):
        raise
    except Exception as error:
        raise _not_computed(error) from error
    finally:
        pool.shutdown(cancel_futures=True)


def run_here(
    graph: dict[Any, Any],
    calls: Mapping[Any, Call],
    x: da.Array,
    client: Any,
    done: Callable[[Any, Any], None],
    threads: int,
) -> None:
    """Compute keys, and call a function in this process with the value of each.

    Parameters
    ----------
    graph : dict
        Has the keys of ``calls``.
    calls : mapping of str to callable
        What is called with the value of a key.
    x, client
        Arguments of `evaluate`.
    done : callable
        Called with a key, and with what its function returned.
    threads : int
        Of this process, where Dask was not told how many.

    Raises
    ------
    InputError, TransientError
        As `evaluate` does.
    """
    lock = Lock()

    def told(key: Any, value: Any) -> None:
        with lock:
            done(key, value)

    pool = ThreadPoolExecutor(threads, thread_name_prefix="dnmf-dask")
    get = _get(x, client, pool)
    owner = client or getattr(get, "__self__", None)
    try:
        if _is_here(get):  # a value is gone as soon as its function returns
            names = {f"{key}-here": key for key in calls}
            of_calls = {
                name: (_call, calls[key], told, _Name(key), key) for name, key in names.items()
            }
            get({**graph, **of_calls}, list(names))
        elif owner is not None:
            _gathered(graph, calls, owner, told)
        else:
            for key, value in zip(calls, get(graph, list(calls)), strict=True):
                told(key, calls[key](value))
    except (DnmfError, MemoryError):
        raise
    except Exception as error:
        failure = _not_computed(error)
        raise (TransientError(str(failure)) if may_pass(error) else failure) from error
    finally:
        pool.shutdown(cancel_futures=True)


def runs_here(x: da.Array, client: Any) -> bool:
    """Return whether the graph of an array is evaluated by threads of this process."""
    return client is None and _is_here(get_scheduler(collections=[x]))


def _is_here(get: Callable[..., Any]) -> bool:
    """Return whether a scheduler runs tasks in threads of this process."""
    return getattr(get, "func", get) in (threaded.get, get_sync)


class _Name:
    """A key that no graph replaces by its value."""

    def __init__(self, key: Any) -> None:
        self.key = key


def _call(call: Call, told: Callable[[Any, Any], None], name: _Name, value: Any) -> None:
    told(name.key, call(value))


def _gathered(
    graph: dict[Any, Any], calls: Mapping[Any, Call], client: Any, told: Callable[[Any, Any], None]
) -> None:
    """Bring values from a cluster one after the other, each released when it was used."""
    from dnmf.executors.watch import Watch

    watch = Watch(client)
    futures: list[Any] = []
    try:
        watch.ready()
        futures = client.get(graph, list(calls), sync=False, retries=RETRIES)
        for key, future in zip(calls, futures, strict=True):
            watch.wait([future])
            told(key, calls[key](client.gather(future)))
            future.release()
    except Exception as error:
        raise _explained(error) from error
    finally:
        for future in futures:
            future.release()


def _get(x: da.Array, client: Any, pool: ThreadPoolExecutor) -> Callable[[Any, Any], Any]:
    """Return the function that evaluates graphs: the client's or Dask's, by default in ``pool``."""
    get: Callable[..., Any] = client.get if client else get_scheduler(collections=[x])
    if get is threaded.get and not (config.get("pool", None) or config.get("num_workers", 0)):
        return partial(get, pool=pool)
    return get


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    """Return one pool for all threads that read: Dask would make, and keep, one for each."""
    return ThreadPoolExecutor(CPU_COUNT, thread_name_prefix="dnmf-dask")


def _on_cluster(graph: dict[Any, Any], keys: list[str], client: Any, on_done: Done) -> list[Any]:
    from dnmf.executors.watch import Watch

    watch = Watch(client)
    futures: list[Any] = []
    try:
        watch.ready()
        futures = client.get(graph, keys, sync=False, retries=RETRIES)
        for number, future in enumerate(futures):
            watch.wait([future])
            if future.status != "finished":
                break
            on_done(number)
        return list(client.gather(futures))
    except Exception as error:
        raise _explained(error) from error
    finally:
        for future in futures:
            future.release()


def _explained(error: Exception) -> Exception:
    """Return an error for people. Nothing is left of an attempt, so it cannot be resumed."""
    from distributed.scheduler import KilledWorker

    from dnmf.executors.watch import PASSING

    again = "Nothing is left of it; run this again"
    if isinstance(error, KilledWorker):
        limit = error.last_worker.memory_limit
        memory = f" of {format_bytes(limit)}" if limit else ""
        return ClusterError(
            f"workers died one after the other while they computed the same chunks of the dask "
            f"array: probably these need more than the workers' memory{memory}. Make the array "
            f"with smaller chunks, or give workers more memory. {again}"
        )
    if isinstance(error, (*PASSING, ResumableError)):
        return ClusterError(f"the dask array could not be computed and written: {error}. {again}")
    return error if isinstance(error, DnmfError) else _not_computed(error)


def _not_computed(error: Exception) -> InputError:
    return InputError(f"the dask array cannot be computed ({type(error).__name__}: {error})")


def check_memory(
    chunks: tuple[tuple[int, ...], ...],
    edges: tuple[Sequence[int], Sequence[int]],
    item: int,
    limit: int | None,
    threads: int,
) -> None:
    """Refuse chunks that a worker cannot hold as often as it has threads.

    Parameters
    ----------
    chunks : (rows, columns)
        Sizes of the array's chunks.
    edges : (rows, columns)
        Of the rectangles that are made of them.
    item : int
        Bytes of an entry.
    limit : int or None
        Of a worker; None does not check.
    threads : int
        Of a worker.

    Raises
    ------
    MemoryPlanError
        With the numbers and the remedy.
    """
    tall, wide = map(max, chunks)
    task = task_bytes(chunks, edges, item)
    need = BASELINE + threads * task
    if limit is None or need <= USABLE * limit:
        return
    raise MemoryPlanError(
        f"to write the dask array, a worker would need {format_bytes(need)}: its chunks have up "
        f"to {tall} x {wide} entries ({format_bytes(tall * wide * item)}), and each of {threads} "
        f"threads needs {format_bytes(task)}; but only {USABLE:.0%} of its limit of "
        f"{format_bytes(limit)} can be planned. Make the array with smaller chunks, or give "
        f"workers more memory or fewer threads"
    )


def task_bytes(
    chunks: tuple[tuple[int, ...], ...], edges: tuple[Sequence[int], Sequence[int]], item: int
) -> int:
    """Return the bytes of the largest task that makes a rectangle of chunks, and writes it."""
    rows, columns = (int(np.diff(e).max()) for e in edges)
    touched = [_touched(sizes, e) for sizes, e in zip(chunks, edges, strict=True)]
    task = 2 * rows * columns * item  # itself, and what is being written of it
    return task + (0 if touched == [rows, columns] else touched[0] * touched[1] * item)


def _touched(sizes: tuple[int, ...], edges: Sequence[int]) -> int:
    """Return the longest stretch of chunks that one stretch between ``edges`` lies in."""
    chunks = np.cumsum([0, *sizes])
    above = chunks[np.searchsorted(chunks, edges[:-1], side="right") - 1]
    return int((chunks[np.searchsorted(chunks, edges[1:], side="left")] - above).max())
