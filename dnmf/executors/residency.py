"""Segments that stay decoded in the cluster's memory, as far as they fit.

They are ordinary Dask results: held by futures, recomputed from the store when a worker is lost,
released when the cluster shrinks. Which segments are kept changes reads and speed, never a bit.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from distributed import Client, Future

from dnmf.executors.watch import workers_of
from dnmf.linalg.blas import limit_threads
from dnmf.planning.memory import room, that_fit
from dnmf.steps.work import Work, with_retries

__all__ = ["Residency"]


class Residency:
    """Keeps the decoded segments of one run at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._run: str | None = None
        self._kept: dict[int, Future] = {}

    def resident(self) -> frozenset[int]:
        """Segments that are held."""
        return frozenset(self._kept)

    def segments(self, work: Work) -> tuple[dict[int, Any], dict[str, Any]]:
        """What the leaves of a step find in memory.

        Returns
        -------
        kept : dict
            By segment a future, or the key of a task in ``loads``.
        loads : dict
            The tasks that read what is not in memory yet, as a graph.
        """
        loader = getattr(work, "loader", None)
        if loader is None:
            return {}, {}
        if loader.run_id != self._run:
            self._run, self._kept = loader.run_id, {}
        chosen = self._choose(loader)
        lost = ("cancelled", "lost", "error")
        self._kept = {
            segment: future
            for segment, future in self._kept.items()
            if segment in chosen and future.status not in lost
        }
        payload = pickle.dumps(loader)
        kept: dict[int, Any] = dict(self._kept)
        loads: dict[str, Any] = {}
        for segment in sorted(chosen - set(kept)):
            key = f"dnmf-segment-{self._run}-{id(self):x}-{segment}"
            kept[segment] = key
            graph, blocks = loader.graph(segment) or ({}, None)
            loads |= graph
            loads[key] = (_load_segment, payload, segment, blocks)
        return kept, loads

    def keep(self, futures: dict[str, Future]) -> None:
        """Hold the segments that a step loads."""
        for key, future in futures.items():
            self._kept[int(key.rpartition("-")[2])] = future

    @staticmethod
    def outputs(loads: Mapping[Any, Any]) -> list[str]:
        """The keys of segments among the tasks that load them."""
        return [key for key in loads if str(key).startswith("dnmf-segment-")]

    def room(self, need: Callable[[int], int], unit: int = 1) -> int:
        """Bytes that all workers can keep in units; ``need`` of a worker by its threads."""
        workers = list(workers_of(self._client).values())
        needs = [(worker["memory_limit"], need(worker["nthreads"])) for worker in workers]
        return room(needs, unit)

    def _choose(self, loader: Any) -> set[int]:
        """The first segments, as many as fit; all of them where nothing else holds V."""
        if loader.graph(0) is not None:
            return set(range(len(loader.sizes())))
        sizes = loader.sizes()
        return set(range(that_fit(sizes, self.room(loader.need, max(sizes)))))


@lru_cache(maxsize=2)
def _loader(payload: bytes) -> Any:
    limit_threads()
    return pickle.loads(payload)


def _load_segment(payload: bytes, segment: int, blocks: list[Any] | None) -> tuple[Any, int]:
    """A decoded segment, and how often reading it was tried again."""
    return with_retries(lambda: _loader(payload)(segment, blocks))
