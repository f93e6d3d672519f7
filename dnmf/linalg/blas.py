"""BLAS on one thread per task, and the fingerprint of how this process rounds."""

from __future__ import annotations

import hashlib
import platform
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from threadpoolctl import LibController, ThreadpoolController

__all__ = [
    "allowed_threads",
    "limit_this_thread",
    "limit_threads",
    "numeric_fingerprint",
    "one_thread",
    "roundings",
]


def _controller() -> ThreadpoolController:
    """Look for BLAS libraries again once SciPy, which brings its own, is loaded."""
    return _look("scipy.linalg" in sys.modules)


@lru_cache(maxsize=2)
def _look(_: bool) -> ThreadpoolController:
    return ThreadpoolController()


class _Shared:
    """BLAS libraries whose number of threads holds for the process: first in, last out.

    If each caller restored what it had found, the first one to end would give the others, which
    run on, other products.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before: list[tuple[LibController, int]] = []

    def allowed(self) -> int:
        """Return the threads that BLAS may use outside of such limits; 0 if it does not say."""
        with self._lock:
            now = _counts(lib for lib in _libraries() if _per_thread(lib) or not self._inside)
            return max((count for _, count in [*now, *self._before]), default=0)

    def enter(self) -> None:
        with self._lock:
            now = _counts(lib for lib in _libraries() if not _per_thread(lib))
            if not self._inside:
                self._before = now
            # other code of the process may have raised the number since the first one entered
            _set([(lib, 1) for lib, count in now if count != 1])
            self._inside += 1

    def stay(self) -> None:
        """Enter and never leave."""
        self.enter()
        with self._lock:
            self._before = [(lib, 1) for lib, _ in self._before]

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                _set(self._before)
                _let_go(lib for lib, _ in self._before)
                self._before = []


_shared = _Shared()
_limited = threading.local()


def _libraries() -> list[LibController]:
    return [lib for lib in _controller().lib_controllers if lib.user_api == "blas"]


def _per_thread(lib: LibController) -> bool:
    """Return whether a limit applies to the thread that sets it, not to the process."""
    return getattr(lib, "threading_layer", None) == "openmp"


def _counts(libraries: Iterable[LibController]) -> list[tuple[LibController, int]]:
    return [(lib, lib.num_threads or 1) for lib in libraries]


def _set(counts: Iterable[tuple[LibController, int]]) -> None:
    """Set numbers of threads, also where another thread has set a limit before."""
    for lib, count in counts:
        _let_go([lib])
        lib.set_num_threads(count)


def _let_go(libraries: Iterable[LibController]) -> None:
    """Let any thread set the next limit: threadpoolctl would leave it to the first one."""
    for lib in libraries:
        clear = getattr(lib, "clear_controlling_thread", None)
        if clear is not None:
            clear(force=True)


def allowed_threads() -> int:
    """Return how many threads BLAS may use in this process; 0 if it does not say."""
    return _shared.allowed()


@contextmanager
def one_thread() -> Iterator[None]:
    """Run BLAS on one thread inside, and as before afterwards: its bits depend on the number.

    It does for all threads of the process, except with a BLAS whose threads are OpenMP's: there
    each thread says so for itself, by this or by `limit_this_thread`.
    """
    own = _counts(lib for lib in _libraries() if _per_thread(lib))
    _shared.enter()
    try:
        _set([(lib, 1) for lib, _ in own])
        yield
    finally:
        _set(own)
        _shared.leave()


def limit_threads() -> None:
    """Limit BLAS to one thread for the rest of a worker process's life (idempotent and cheap)."""
    _stay_limited()
    limit_this_thread()


@lru_cache(maxsize=1)
def _stay_limited() -> None:
    _shared.stay()


def limit_this_thread() -> None:
    """Limit BLAS to one thread in this thread, where each thread sets its own limit."""
    if not getattr(_limited, "done", False):
        _set([(lib, 1) for lib in _libraries() if _per_thread(lib)])
        _limited.done = True


def _architectures() -> list[str]:
    """List the architectures of NumPy's BLAS: no other library of the process decides bits."""
    found = [info for info in _controller().info() if info["user_api"] == "blas"]
    own = [info for info in found if "numpy" in info["filepath"].rpartition("site-packages")[2]]
    return sorted({str(info.get("architecture")) for info in own or found})


@lru_cache(maxsize=1)
def numeric_fingerprint() -> dict[str, Any]:
    """Return all that decides the bits of a result in this process.

    Returns
    -------
    dict
        Versions of the numerical packages, the kernels' architecture of NumPy's BLAS, the CPU
        that numba compiles for, and ``digest``: the architecture, and a hash of all of these and
        of the bits of a probe product.
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
    return {**facts, "digest": f"{'+'.join(facts['blas'])}-{digest.hexdigest()[:16]}"}


def roundings(digests: Iterable[str]) -> set[str]:
    """Return the digests of the different ways of rounding among tasks, without their names."""
    return {digest.rpartition("-")[2] for digest in digests}
