"""Steps on a Dask cluster: one graph per step, whose small results alone come back."""

from __future__ import annotations

import ctypes
import pickle
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import lru_cache
from typing import Any

import psutil
from distributed import Client, KilledWorker, get_worker, rejoin, secede

from dnmf.config import Resources
from dnmf.errors import TransientError
from dnmf.executors.dask_private import (
    holds_a_thread,
    in_a_span,
    memory_limit_of_worker,
    span,
    threads_of_worker,
)
from dnmf.executors.news import TOPIC, LeafNews, listening
from dnmf.executors.residency import Residency
from dnmf.executors.threads import Threads
from dnmf.executors.watch import PASSING, Watch, answer, called, workers_of
from dnmf.linalg.blas import limit_threads
from dnmf.linalg.own_state import own_state
from dnmf.steps.by_value import by_value
from dnmf.steps.retries import finish_with_retries, leaf_with_retries, memory_told
from dnmf.steps.tree import tree_levels
from dnmf.steps.work import Executor, Needs, StepOutcome, Work

__all__ = ["Cluster"]

Key = tuple[str | int, ...]

WHOLE = 2
"""Most parts that travel together through one tree (small sums and one slab)."""

STEP_TRIES = 4
"""How often a step is begun before a fit gives up."""

NEARLY_FULL = 0.6
"""Share of a worker's memory limit; Dask spills from 0.7 and pauses from 0.8 on."""

STUBBORN = 2
"""How often it is begun where a task killed one worker after the other, as one without memory does,
or where reading failed again and again on one of them."""


class Cluster(Executor):
    """Runs steps on the workers of a Dask client.

    Parameters
    ----------
    client : distributed.Client
        Connected; it is not closed here.
    """

    def __init__(self, client: Client) -> None:
        self.dask_client = client
        self._residency = Residency(client)
        self._span = str(uuid.uuid4())

    def resources(self, needs: Needs | None = None) -> Resources:
        """Return what there is to run on; a cluster without workers is waited for."""
        client = self.dask_client
        workers = list((workers_of(client) or called(client)).values())
        threads = max(int(w["nthreads"]) for w in workers)
        limits = [int(w["memory_limit"]) for w in workers if w["memory_limit"]]
        limit = min(limits) if limits else None
        memory = f", {limit / 1e9:.1f} GB each" if limit else ""
        return Resources(
            len(workers), threads, limit, f"{len(workers)} worker(s) x {threads} thread(s){memory}"
        )

    def everywhere(
        self, function: Callable[..., Any], *arguments: Any, scheduler: bool = False
    ) -> dict[str, Any]:
        client, aside = self.dask_client, by_value(_aside)
        found: dict[str, Any] = {}
        if scheduler:
            asked = answer(client, lambda: client.run_on_scheduler(aside, function, arguments))
            found["scheduler"] = asked
        told = answer(client, lambda: client.run(aside, function, arguments, on_error="return"))
        # an OSError is a worker that has left
        return found | {at: one for at, one in told.items() if not isinstance(one, OSError)}

    def resident(self) -> frozenset[int]:
        return self._residency.resident()

    def room(self, needs: Needs) -> int:
        return self._residency.room(needs)

    def run_step(self, work: Work, on_leaf: Callable[[int], None]) -> StepOutcome:
        """Execute one step; one that failed for reasons that can pass is run again."""
        payload = pickle.dumps(work)
        news = LeafNews(on_leaf, work.segments)
        watch = Watch(self.dask_client)
        for tries in range(1, STEP_TRIES + 1):
            watch.ready()
            try:
                with _making_room():
                    results, retries = self._attempt(work, payload, tries, news, watch)
            except PASSING as error:
                stubborn = isinstance(error, (KilledWorker, TransientError))
                if tries >= (STUBBORN if stubborn else STEP_TRIES):
                    raise watch.failed(error, tries) from error
                time.sleep(0.2 * 2**tries)
            else:
                news.complete()
                return StepOutcome(results, retries + tries - 1)
        raise AssertionError("unreachable")

    def _attempt(
        self, work: Work, payload: bytes, attempt: int, news: LeafNews, watch: Watch
    ) -> tuple[list[Any], int]:
        name = f"0{uuid.uuid4().hex[:12]}-{attempt}"
        client, residency = self.dask_client, self._residency
        resident, loads = residency.segments(work)
        graph, outputs = _graph(name, work, payload, resident)
        with listening(client, name, news.tell):
            tasks: dict[Any, Any] = {**loads, **graph}
            loaded = residency.outputs(loads)
            with self._one_span():
                futures = client.get(tasks, [*outputs, *loaded], sync=False)
            residency.add(dict(zip(loaded, futures[len(outputs) :], strict=True)))
            futures = futures[: len(outputs)]
            try:
                watch.wait(futures)
                values = client.gather(futures)
            finally:  # not when an error's traceback lets go of them
                for future in futures:
                    future.release()
        if work.parts <= WHOLE:
            values = values[0]
        return [value for value, _ in values], sum(retries for _, retries in values)

    def _one_span(self) -> AbstractContextManager[None]:
        """Let all steps count as one for Dask's measurements, or as what the caller counts them.

        Left alone, Dask opens a span for every step, and workers and the scheduler keep the
        measurements of every span for ever: 15 to 20 kB per pass and worker.
        """
        if in_a_span():
            return nullcontext()
        manager: AbstractContextManager[None] = span("dnmf", self._span)
        return manager


async def _aside(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call a function in a thread: the event loop of the worker stays free."""
    import asyncio  # here, since this is sent by value

    return await asyncio.to_thread(function, *arguments)


@contextmanager
def _making_room() -> Iterator[None]:
    """Leave this thread to the tasks that a fit within a task of the cluster waits for.

    Dask's own calls do so too. Where the task left its thread before, nothing is done.
    """
    if not holds_a_thread():
        yield
        return
    secede()
    try:
        yield
    finally:
        rejoin()


def _graph(
    name: str, work: Work, payload: bytes, resident: Mapping[int, Any]
) -> tuple[dict[Key, Any], list[Key]]:
    """Return leaves, one tree per part, and the finishes as a Dask graph, and its outputs.

    A key begins with what its task does: Dask estimates durations by that, and hands leaves out
    as workers get to them, so that a worker that joins has its share at once.

    ``resident`` has the future or key of every segment that stays in the workers' memory.
    """
    graph: dict[Key, Any] = {}
    leaves: list[Key] = [(f"dnmf-leaf-{name}", segment) for segment in range(work.segments)]
    for segment, key in enumerate(leaves):
        leaf = (_leaf, payload, segment, name)
        # a key is loaded by this step, whose leaf counts the retries; a future was before
        fresh = isinstance(resident.get(segment), str)
        graph[key] = (*leaf, resident[segment], fresh) if segment in resident else leaf
    if work.parts <= WHOLE:
        tree, root = _tree(f"dnmf-sum-{name}", work, leaves, (_combine_all, payload))
        end = (f"dnmf-finish-{name}", 0)
        return {**graph, **tree, end: (_finish_all, payload, root)}, [end]
    roots = []
    for part in range(work.parts):
        level: list[Key] = [
            (f"dnmf-part-{name}-{part}", segment) for segment in range(work.segments)
        ]
        graph |= {key: (_pick, leaf, part) for key, leaf in zip(level, leaves, strict=True)}
        tree, root = _tree(f"dnmf-sum-{name}-{part}", work, level, (_combine, payload, part))
        graph |= tree
        roots.append(root)
    ends: list[Key] = [(f"dnmf-finish-{name}", part) for part in range(work.parts)]
    for part, key in enumerate(ends):
        graph[key] = (_finish, payload, part, roots[part], roots[0])
    return graph, ends


def _tree(
    name: str, work: Work, level: list[Key], combine: tuple[Any, ...]
) -> tuple[dict[Key, Any], Key]:
    """Return the fixed tree over ``level`` and its root; ``combine`` lacks the list of values."""
    graph: dict[Key, Any] = {}
    for height, count in enumerate(tree_levels(work.segments, work.fan_in)):
        parents: list[Key] = [(name, height, node) for node in range(count)]
        for node, key in enumerate(parents):
            graph[key] = (*combine, level[node * work.fan_in : (node + 1) * work.fan_in])
        level = parents
    return graph, level[0]


@lru_cache(maxsize=1)  # the plan counts one H, not that of the step before too
def _load(payload: bytes) -> Work:
    """Return the work of a step in this process: opened once, shared by its tasks."""
    limit_threads()
    work: Work = pickle.loads(payload)
    return work


def _leaf(
    payload: bytes,
    segment: int,
    name: str,
    resident: tuple[Any, int] | None = None,
    fresh: bool = False,
) -> list[Any]:
    loaded, again = resident or (None, 0)
    parts, retries = leaf_with_retries(_load(payload), segment, loaded)
    retries += again if fresh else 0
    _give_back()
    get_worker().log_event(TOPIC, {"name": name, "segment": segment})
    return [(parts[0], retries), *((part, 0) for part in parts[1:])]


def _give_back() -> None:
    """Return what malloc keeps, where a worker is about as large as the plan lets it become.

    Workers keep the buffers that they free (`dnmf.executors.local`). After a kernel was compiled
    that may be so much that Dask pauses the worker, which then has no task that could free any.
    """
    limit = memory_limit_of_worker()
    if limit and psutil.Process().memory_info().rss > NEARLY_FULL * limit:
        trim = _malloc_trim()
        if trim is not None:
            trim(0)


@lru_cache(maxsize=1)
def _malloc_trim() -> Callable[[int], int] | None:
    """Return glibc's function; other C libraries have none."""
    with suppress(OSError, AttributeError, TypeError):
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
        return found
    return None


def _pick(parts: list[Any], part: int) -> Any:
    return parts[part]


def _combine(payload: bytes, part: int, values: list[tuple[Any, int]]) -> tuple[Any, int]:
    with memory_told(), own_state():
        total = _load(payload).combine(part, [value for value, _ in values])
    return total, sum(retries for _, retries in values)


def _combine_all(payload: bytes, nodes: list[list[Any]]) -> list[Any]:
    return [
        _combine(payload, part, [node[part] for node in nodes]) for part in range(len(nodes[0]))
    ]


def _finish_all(payload: bytes, reduced: list[Any]) -> list[Any]:
    return [_finish(payload, part, one, reduced[0]) for part, one in enumerate(reduced)]


def _finish(
    payload: bytes, part: int, reduced: tuple[Any, int], small: tuple[Any, int]
) -> tuple[Any, int]:
    # every leaf is done by now: what threads the worker has wait for the end
    threads = Threads(threads_of_worker())
    end, retries = finish_with_retries(_load(payload), part, reduced[0], small[0], threads.each)
    return end, reduced[1] + retries
