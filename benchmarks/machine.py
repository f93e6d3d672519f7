"""Where a number was measured: processor, BLAS kernels, threads, versions."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from dnmf.blas_env import AVX512, OLDER

__all__ = ["cores", "describe", "fastest_kernels", "installed", "load", "memory_bytes"]

PACKAGES = (
    *("dnmf", "numpy", "scipy", "numba", "zarr", "dask", "distributed", "scikit-learn"),
    "gensim",
)
ROOT = Path(__file__).parents[1]


@lru_cache(maxsize=1)
def describe() -> dict[str, Any]:
    """The machine and the software, JSON; the same in every line of a run."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "memory_bytes": memory_bytes(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "blas": _blas(),
        "core_type": os.environ.get("OPENBLAS_CORETYPE"),
        "fastest_kernels": fastest_kernels(),
        "versions": {package: installed(package) for package in PACKAGES},
        "commit": _commit(),
    }


def load() -> list[float]:
    """Load averages now: others' work shows here."""
    return [round(value, 2) for value in os.getloadavg()]


def installed(package: str) -> str | None:
    """Its version, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def fastest_kernels() -> bool:
    """Whether BLAS uses the processor's widest instructions."""
    if not set(_cpuinfo("flags").split()) >= AVX512:
        return True
    return not {str(pool["architecture"]).lower() for pool in _blas()} & OLDER


def _blas() -> list[dict[str, Any]]:
    """Every BLAS that is loaded: which kernels, how many threads of its own."""
    import numpy  # noqa: F401  (its BLAS is then there)
    from threadpoolctl import threadpool_info

    keys = ("internal_api", "version", "architecture", "num_threads")
    pools = [pool for pool in threadpool_info() if pool.get("user_api") == "blas"]
    return [{key: pool.get(key) for key in keys} for pool in pools]


def _processor() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((x.partition(":")[2].strip() for x in lines if x.startswith(name)), "")


def _commit() -> str | None:
    """Of the clone, with a + where files differ from it."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
