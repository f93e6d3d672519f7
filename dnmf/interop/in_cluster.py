"""A Dask array that stays in the cluster's memory, where it fits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dnmf.config import FitConfig
from dnmf.errors import MemoryPlanError
from dnmf.executors.cluster import Cluster
from dnmf.interop.dask_array import DaskArraySource
from dnmf.planning.memory import predict_memory
from dnmf.planning.plan import make_plan
from dnmf.sources.base import Source
from dnmf.steps.work import Executor

__all__ = ["InClusterDaskArray", "keep_in_cluster", "kept_in_memory"]


class InClusterDaskArray(DaskArraySource):
    """A Dask array whose segments workers keep decoded; only their shape is written down."""

    @property
    def persistent(self) -> bool:
        """Workers find it: they are handed its blocks."""
        return True

    def transposed(self) -> Source | None:
        return None

    def spec(self) -> Mapping[str, Any]:
        """What `InClusterSource` needs."""
        return {
            "kind": "in_cluster",
            "shape": list(self.shape),
            "dtype": self.dtype.str,
            "sparse": self.is_sparse,
            "nbytes": int(self.nbytes),
            "description": self.describe(),
            "metadata": json.loads(json.dumps(self.metadata())),
        }


def keep_in_cluster(source: Source, executor: Executor) -> Source:
    """The array as its run began with it; anything but a Dask array stays what it is."""
    if isinstance(source, DaskArraySource) and isinstance(executor, Cluster):
        return InClusterDaskArray(source.array, executor.client)
    return source


def kept_in_memory(
    source: Source, config: FitConfig, mode: str, executor: Executor
) -> Source | None:
    """A Dask array that stays in memory, where all of it fits, else None."""
    if not (isinstance(source, DaskArraySource) and isinstance(executor, Cluster)):
        return None
    if mode != "fit":
        return None
    held = InClusterDaskArray(source.array, executor.client)
    try:
        plan, oriented = make_plan(held, config, mode)
    except MemoryPlanError:  # chunks that are too tall for blocks are cut when staged
        return None
    room = executor.room(lambda threads: predict_memory(plan, threads).total)
    return held if oriented is held and sum(plan.memory_bytes) <= room else None
