"""One BLAS thread per task, and the fingerprint of how this process rounds."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

__all__ = ["allowed_threads", "limit_threads", "numeric_fingerprint", "one_thread"]


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def allowed_threads() -> int:
    """How many threads BLAS may use in this process now; at least 1."""
    counts = [int(info["num_threads"]) for info in _controller().info() if _is_blas(info)]
    return max(counts, default=1)


@contextmanager
def one_thread() -> Iterator[None]:
    """BLAS runs on one thread inside, and as before afterwards: products depend on it bitwise."""
    with _controller().limit(limits=1, user_api="blas"):
        yield


def limit_threads() -> None:
    """One BLAS thread for the rest of a worker process's life (idempotent and cheap)."""
    _limit_once()


@lru_cache(maxsize=1)
def _limit_once() -> None:
    _controller().limit(limits=1, user_api="blas")


def _is_blas(info: dict[str, Any]) -> bool:
    return bool(info["user_api"] == "blas")


def _architectures() -> list[str]:
    """Of NumPy's BLAS alone: what else a process has loaded decides no bits."""
    found = [info for info in _controller().info() if _is_blas(info)]
    own = [info for info in found if "numpy" in info["filepath"].rpartition("site-packages")[2]]
    return sorted({str(info.get("architecture")) for info in own or found})


@lru_cache(maxsize=1)
def numeric_fingerprint() -> dict[str, Any]:
    """What decides the bits of a result in this process.

    Returns
    -------
    dict
        Versions of the numerical packages, the kernels' architecture of NumPy's BLAS, the CPU
        that numba compiles for, and ``digest``: of those and of the bits of a probe product.
    """
    import numba
    import scipy
    from llvmlite import binding

    facts: dict[str, Any] = {
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "numba": numba.__version__,
        "machine": platform.machine(),
        "blas": _architectures(),
        "numba_cpu": numba.config.CPU_NAME or binding.get_host_cpu_name(),
    }
    digest = hashlib.sha256(repr(sorted(facts.items())).encode())
    for dtype in (np.float32, np.float64):
        probe: np.ndarray = (
            np.sin(np.arange(96 * 257, dtype=np.float64)).reshape(96, 257).astype(dtype)
        )
        with one_thread():
            digest.update((probe @ probe.T).tobytes())
            digest.update((probe.T @ probe).tobytes())
    return {**facts, "digest": digest.hexdigest()[:16]}
