"""Segments that stay decoded in the memory of the workers, as far as they fit.

They are ordinary Dask results: futures hold them, they are computed again from V when a worker is
lost, and released when the cluster shrinks. Which segments stay changes reads and speed, never a
bit.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from distributed import Client, Future

from dnmf.executors.watch import workers_of
from dnmf.linalg.blas import limit_threads
from dnmf.steps.residency import room, that_fit
from dnmf.steps.retries import with_retries
from dnmf.steps.work import Needs, SegmentLoader, Work

__all__ = ["Residency"]

LOST = ("cancelled", "lost", "error")
"""States of a future whose segment is not in memory any more."""


class Residency:
    """Holds the futures of the decoded segments of one run at a time.

    Parameters
    ----------
    client : distributed.Client
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._run: str | None = None
        self._resident: dict[int, Future] = {}

    def resident(self) -> frozenset[int]:
        """Return the segments that are in memory."""
        return frozenset(self._resident)

    def segments(self, work: Work) -> tuple[dict[int, Any], dict[str, Any]]:
        """Return what the leaves of a step find in memory.

        Returns
        -------
        resident : dict
            By segment a future, or the key of a task in ``loads``.
        loads : dict
            The tasks that read what is not in memory yet, as a graph.
        """
        loader = work.loader
        if loader is None:
            return {}, {}
        if loader.run_id != self._run:
            self._run, self._resident = loader.run_id, {}
        chosen = self._choose(loader)
        self._resident = {
            segment: future
            for segment, future in self._resident.items()
            if segment in chosen and future.status not in LOST
        }
        payload = pickle.dumps(loader)
        resident: dict[int, Any] = dict(self._resident)
        loads: dict[str, Any] = {}
        for segment in sorted(chosen - set(resident)):
            key = f"dnmf-segment-{self._run}-{id(self):x}-{segment}"
            resident[segment] = key
            graph, blocks = loader.graph(segment) or ({}, None)
            loads |= graph
            loads[key] = (_load_segment, payload, segment, blocks)
        return resident, loads

    def add(self, futures: dict[str, Future]) -> None:
        """Hold the segments that a step loads, by key."""
        for key, future in futures.items():
            self._resident[int(key.rpartition("-")[2])] = future

    @staticmethod
    def outputs(loads: Mapping[Any, Any]) -> list[str]:
        """Return the keys of segments among the tasks that load them."""
        return [key for key in loads if str(key).startswith("dnmf-segment-")]

    def room(self, needs: Needs, unit: int = 1) -> int:
        """Return the bytes that all workers can keep, in units."""
        workers = list(workers_of(self._client).values())
        return room([(w["memory_limit"], needs.bytes_for(w["nthreads"])) for w in workers], unit)

    def _choose(self, loader: SegmentLoader) -> set[int]:
        """Return the first segments, as many as fit; all of them where nothing else holds V."""
        sizes = loader.sizes()
        if loader.graph(0) is not None:
            return set(range(len(sizes)))
        return set(range(that_fit(sizes, self.room(loader.needs, max(sizes)))))


@lru_cache(maxsize=2)
def _loader(payload: bytes) -> SegmentLoader:
    limit_threads()
    loader: SegmentLoader = pickle.loads(payload)
    return loader


def _load_segment(payload: bytes, segment: int, blocks: list[Any] | None) -> tuple[Any, int]:
    """Decode a segment; return it and how often reading it was tried again."""
    return with_retries(lambda: _loader(payload)(segment, blocks))
