"""Steps on a Dask cluster: one graph per step, no worker state, nothing but small results back."""

from __future__ import annotations

import ctypes
import pickle
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import lru_cache
from typing import Any

import dask
import psutil
from distributed import Client, get_worker, rejoin, secede
from distributed.scheduler import KilledWorker

from dnmf.config import Resources
from dnmf.errors import TransientError
from dnmf.executors.choose import holds_a_thread
from dnmf.executors.news import TOPIC, LeafNews, listening
from dnmf.executors.probe import probe_workers
from dnmf.executors.residency import Residency
from dnmf.executors.threads import Threads
from dnmf.executors.versions import compare_versions
from dnmf.executors.watch import PASSING, Watch, called, workers_of
from dnmf.linalg.blas import limit_threads
from dnmf.steps.work import (
    StepOutcome,
    Work,
    finish_with_retries,
    leaf_with_retries,
    memory_told,
    tree_levels,
)

__all__ = ["Cluster"]

Key = tuple[str | int, ...]

WHOLE = 2
"""Most parts that travel together through one tree (small sums and one slab)."""

STEP_TRIES = 4
"""How often a step is begun before a fit gives up."""

NEARLY_FULL = 0.6
"""Share of a worker's memory limit; Dask spills from 0.7 and pauses from 0.8 on."""

STUBBORN = 2
"""The same where a task killed one worker after the other, as one without memory does, or where
reading failed again and again on one of them."""


class Cluster:
    """Runs steps on the workers of a Dask client.

    Parameters
    ----------
    client : distributed.Client
        Connected; it is not closed here.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._residency = Residency(client)
        self._span = {"name": ("dnmf",), "ids": (str(uuid.uuid4()),)}

    def resources(self) -> Resources:
        """See `Executor.resources`; of a cluster without workers, once the first one is there."""
        workers = list((workers_of(self.client) or called(self.client)).values())
        threads = max(int(w["nthreads"]) for w in workers)
        limits = [int(w["memory_limit"]) for w in workers if w["memory_limit"]]
        limit = min(limits) if limits else None
        memory = f", {limit / 1e9:.1f} GB each" if limit else ""
        return Resources(
            len(workers), threads, limit, f"{len(workers)} worker(s) x {threads} thread(s){memory}"
        )

    def check(self) -> None:
        """See `Executor.check`."""
        compare_versions(self.client)

    def probe(self, path: str) -> None:
        """See `Executor.probe`."""
        probe_workers(self.client, path)

    def resident(self) -> frozenset[int]:
        """See `Executor.resident`."""
        return self._residency.resident()

    def room(self, need: Callable[[int], int]) -> int:
        """Bytes of V that the workers can keep decoded; ``need`` of a worker by its threads."""
        return self._residency.room(need)

    def run_step(self, work: Work, on_leaf: Callable[[int], None]) -> StepOutcome:
        """See `Executor.run_step`; a step that failed for reasons that can pass is run again."""
        payload = pickle.dumps(work)
        news = LeafNews(on_leaf, work.segments)
        watch = Watch(self.client)
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
        kept, loads = self._residency.segments(work)
        graph, outputs = _graph(name, work, payload, kept)
        with listening(self.client, name, news.tell):
            held = self._residency.outputs(loads)
            tasks: dict[Any, Any] = {**loads, **graph}
            with self._one_span():
                futures = self.client.get(tasks, [*outputs, *held], sync=False)
            self._residency.keep(dict(zip(held, futures[len(outputs) :], strict=True)))
            futures = futures[: len(outputs)]
            try:
                watch.wait(futures)
                values = self.client.gather(futures)
            finally:  # not when an error's traceback lets go of them
                for future in futures:
                    future.release()
        if work.parts <= WHOLE:
            values = values[0]
        return [value for value, _ in values], sum(retries for _, retries in values)

    def _one_span(self) -> AbstractContextManager[None]:
        """All steps count as one for Dask's measurements, or as what the caller counts them.

        Left alone, Dask opens a span for every step, and workers and the scheduler keep the
        measurements of every span for ever: 15 to 20 kB per pass and worker.
        """
        if "span" in dask.get_annotations():
            return nullcontext()
        # a dask.annotate manager, not distributed.span, which would open another one
        return dask.annotate(span=self._span)


@contextmanager
def _making_room() -> Iterator[None]:
    """A fit within a task of the cluster leaves its thread to those that it waits for.

    As Dask's own calls do, but where the task did so itself.
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
    name: str, work: Work, payload: bytes, kept: Mapping[int, Any]
) -> tuple[dict[Key, Any], list[Key]]:
    """Leaves, one tree per part, and the finishes, as a Dask graph.

    A key begins with what its task does: Dask estimates durations by that, and hands leaves out
    as workers get to them, so that a worker that joins has its share at once.

    ``kept`` holds the future or key of every segment that stays in the workers' memory.
    """
    graph: dict[Key, Any] = {}
    leaves: list[Key] = [(f"dnmf-leaf-{name}", segment) for segment in range(work.segments)]
    for segment, key in enumerate(leaves):
        leaf = (_leaf, payload, segment, name)
        # a key is loaded by this step, whose leaf counts what that took; a future was before
        fresh = isinstance(kept.get(segment), str)
        graph[key] = (*leaf, kept[segment], fresh) if segment in kept else leaf
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
    """The fixed tree over ``level``, and its root; ``combine`` lacks the list of values."""
    graph: dict[Key, Any] = {}
    for height, count in enumerate(tree_levels(work.segments, work.fan_in)):
        parents: list[Key] = [(name, height, node) for node in range(count)]
        for node, key in enumerate(parents):
            graph[key] = (*combine, level[node * work.fan_in : (node + 1) * work.fan_in])
        level = parents
    return graph, level[0]


@lru_cache(maxsize=1)  # the plan counts one H, not that of the step before too
def _load(payload: bytes) -> Work:
    """The work of a step in this process: opened once, shared by its tasks."""
    limit_threads()
    work: Work = pickle.loads(payload)
    return work


def _leaf(
    payload: bytes,
    segment: int,
    name: str,
    kept: tuple[Any, int] | None = None,
    fresh: bool = False,
) -> list[Any]:
    loaded, again = kept or (None, 0)
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
    limit = getattr(get_worker().memory_manager, "memory_limit", None)
    if limit and psutil.Process().memory_info().rss > NEARLY_FULL * limit:
        trim = _malloc_trim()
        if trim is not None:
            trim(0)


@lru_cache(maxsize=1)
def _malloc_trim() -> Callable[[int], int] | None:
    """Of glibc; others have none."""
    with suppress(OSError, AttributeError, TypeError):
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
        return found
    return None


def _pick(parts: list[Any], part: int) -> Any:
    return parts[part]


def _combine(payload: bytes, part: int, values: list[tuple[Any, int]]) -> tuple[Any, int]:
    with memory_told():
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
    threads = Threads(get_worker().state.nthreads)
    end, retries = finish_with_retries(_load(payload), part, reduced[0], small[0], threads.each)
    return end, reduced[1] + retries
