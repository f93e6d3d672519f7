"""A Dask array that stays in the cluster's memory, where it fits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dnmf.config import FitConfig
from dnmf.errors import MemoryPlanError
from dnmf.interop.dask_array import DaskArraySource
from dnmf.planning.memory import needs_of
from dnmf.planning.plan import make_plan
from dnmf.sources.base import Source
from dnmf.steps.work import Executor

__all__ = ["InClusterDaskArray", "in_cluster_if_it_fits", "keep_in_cluster"]


class InClusterDaskArray(DaskArraySource):
    """A Dask array whose segments stay decoded in the cluster; a run knows only its shape."""

    @property
    def persistent(self) -> bool:
        return True  # workers find it: they are handed its blocks

    def transposed(self) -> Source | None:
        return None

    def spec(self) -> Mapping[str, Any]:
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
    """Return a Dask array as its run began with it; another source is returned as it is."""
    if isinstance(source, DaskArraySource) and executor.dask_client is not None:
        return InClusterDaskArray(source.array, executor.dask_client)
    return source


def in_cluster_if_it_fits(
    source: Source, config: FitConfig, mode: str, executor: Executor
) -> Source | None:
    """Return a Dask array that stays in the cluster, where all of it fits; else None."""
    in_cluster = keep_in_cluster(source, executor) if mode == "fit" else source
    if in_cluster is source:
        return None
    try:
        plan, oriented = make_plan(in_cluster, config, mode)
    except MemoryPlanError:  # chunks that are too tall for blocks are cut when staged
        return None
    fits = oriented is in_cluster and sum(plan.memory_bytes) <= executor.room(needs_of(plan))
    return in_cluster if fits else None
