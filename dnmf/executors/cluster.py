"""Steps on a Dask cluster: one graph per step, no worker state, nothing but small results back."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from distributed import Client, Future, get_worker, wait
from distributed.client import FutureCancelledError, FuturesCancelledError
from distributed.scheduler import KilledWorker

from dnmf.config import Resources
from dnmf.errors import ClusterError, ResumableError, TransientError
from dnmf.executors.versions import compare_versions
from dnmf.fitting.work import StepOutcome, Work, leaf_with_retries, tree_levels
from dnmf.linalg.blas import limit_threads

__all__ = ["Cluster"]

STEP_TRIES = 4
NO_SCHEDULER = 30.0
NO_WORKERS = 300.0
PASSING = (
    KilledWorker,
    TransientError,
    FutureCancelledError,
    FuturesCancelledError,
    OSError,
)


class Cluster:
    """Runs steps on the workers of a Dask client.

    Parameters
    ----------
    client : distributed.Client
        Connected; it is not closed here.
    """

    def __init__(self, client: Client) -> None:
        self.client = client

    def resources(self) -> Resources:
        """See `Executor.resources`."""
        workers = list(self.client.scheduler_info(n_workers=-1)["workers"].values())
        if not workers:
            raise ClusterError(
                f"the cluster at {self._address()} has no workers; start some (dask worker "
                f"{self._address()}) and run this again"
            )
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

    def run_step(self, work: Work, on_leaf: Callable[[int], None]) -> StepOutcome:
        """See `Executor.run_step`; a step that failed for reasons that can pass is run again."""
        payload = pickle.dumps(work)
        for attempt in range(STEP_TRIES):
            try:
                results, retries = self._attempt(work, payload, attempt, on_leaf)
                return StepOutcome(results, retries + attempt)
            except PASSING as error:
                if attempt + 1 == STEP_TRIES:
                    raise self._gone(f"a step failed {STEP_TRIES} times, last with {error!r}") from error
                time.sleep(0.2 * 2**attempt)
        raise AssertionError("unreachable")

    def _attempt(
        self, work: Work, payload: bytes, attempt: int, on_leaf: Callable[[int], None]
    ) -> tuple[list[Any], int]:
        name = f"dnmf-{abs(hash(payload)):x}-{attempt}-{time.monotonic_ns():x}"
        graph, outputs = _graph(name, work, payload)
        seen: set[int] = set()

        def handle(event: tuple[float, Any]) -> None:
            message = event[1]
            if message["name"] == name and message["segment"] not in seen:
                seen.add(message["segment"])
                on_leaf(message["segment"])

        self.client.subscribe_topic("dnmf-leaf", handle)
        try:
            futures = self.client.get(graph, outputs, sync=False)
            self._wait(futures)
            values = self.client.gather(futures)
        finally:
            self._unsubscribe()
        for segment in set(range(work.segments)) - seen:  # events are best effort
            on_leaf(segment)
        return [value for value, _ in values], sum(retries for _, retries in values)

    def _wait(self, futures: Sequence[Future]) -> None:
        """Wait for all futures, watching that there is a scheduler and a worker."""
        lost = idle = None
        while True:
            try:
                wait(futures, timeout=1.0)
                return
            except TimeoutError:
                now = time.monotonic()
            running = self.client.status == "running"
            lost = None if running else lost or now
            if lost is not None and now - lost > NO_SCHEDULER:
                raise self._gone(f"no scheduler at {self._address()} for {NO_SCHEDULER:.0f} s")
            alive = not running or bool(self.client.scheduler_info(n_workers=1)["workers"])
            idle = None if alive else idle or now
            if idle is not None and now - idle > NO_WORKERS:
                raise self._gone(f"the cluster has had no worker for {NO_WORKERS:.0f} s")

    def _unsubscribe(self) -> None:
        try:
            self.client.unsubscribe_topic("dnmf-leaf")
        except (OSError, ValueError):  # the connection is gone: so is the subscription
            return

    def _address(self) -> str:
        scheduler = self.client.scheduler
        return scheduler.address if scheduler is not None else "?"

    def _gone(self, why: str) -> ResumableError:
        return ResumableError(f"the fit was interrupted: {why}")


def _graph(name: str, work: Work, payload: bytes) -> tuple[dict[str, Any], list[str]]:
    """Leaves, one tree per piece, and the finishes, as a Dask graph."""
    graph: dict[str, Any] = {}
    for segment in range(work.segments):
        graph[f"{name}-leaf-{segment}"] = (_leaf, payload, segment, name)
    roots = []
    for piece in range(work.pieces):
        level = []
        for segment in range(work.segments):
            key = f"{name}-piece{piece}-{segment}"
            graph[key] = (_pick, f"{name}-leaf-{segment}", piece)
            level.append(key)
        for height, count in enumerate(tree_levels(work.segments, work.fan_in)):
            parents = []
            for node in range(count):
                key = f"{name}-sum{piece}-{height}-{node}"
                children = level[node * work.fan_in : (node + 1) * work.fan_in]
                graph[key] = (_combine, payload, piece, children)
                parents.append(key)
            level = parents
        roots.append(level[0])
    outputs = []
    for piece, root in enumerate(roots):
        key = f"{name}-finish-{piece}"
        graph[key] = (_finish, payload, piece, root, roots[0])
        outputs.append(key)
    return graph, outputs


@lru_cache(maxsize=2)
def _load(payload: bytes) -> Work:
    """The work of a step in this process: opened once, shared by its tasks."""
    limit_threads()
    work: Work = pickle.loads(payload)
    return work


def _leaf(payload: bytes, segment: int, name: str) -> list[Any]:
    pieces, retries = leaf_with_retries(_load(payload), segment)
    get_worker().log_event("dnmf-leaf", {"name": name, "segment": segment})
    return [(pieces[0], retries), *((piece, 0) for piece in pieces[1:])]


def _pick(pieces: list[Any], piece: int) -> Any:
    return pieces[piece]


def _combine(payload: bytes, piece: int, parts: list[tuple[Any, int]]) -> tuple[Any, int]:
    total = _load(payload).combine(piece, [part for part, _ in parts])
    return total, sum(retries for _, retries in parts)


def _finish(
    payload: bytes, piece: int, reduced: tuple[Any, int], small: tuple[Any, int]
) -> tuple[Any, int]:
    return _load(payload).finish(piece, reduced[0], small[0]), reduced[1]


