"""Where steps run: in this process, or on a Dask cluster."""

from __future__ import annotations

__all__ = ["EXECUTORS"]

EXECUTORS: dict[str, str] = {
    "serial": "dnmf.steps.serial:Serial",
    "threads": "dnmf.executors.threads:Threads",
    "cluster": "dnmf.executors.cluster:Cluster",
}
