"""Where steps run: in this process, or on a Dask cluster."""

from __future__ import annotations

__all__ = ["EXECUTORS"]

EXECUTORS: dict[str, str] = {
    "serial": "dnmf.executors.serial:Serial",
    "cluster": "dnmf.executors.cluster:Cluster",
}
