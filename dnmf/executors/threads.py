"""Several threads of this process: no Dask, nothing to start, the bits of the reference."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from dnmf.config import Resources
from dnmf.errors import OptionError
from dnmf.executors.serial import Serial
from dnmf.linalg.blas import allowed_threads, limit_threads

__all__ = ["Threads"]

Value = TypeVar("Value")


class Threads(Serial):
    """Runs as many leaves at once as it has threads, and reduces them in index order.

    For V in the memory of this process, or on its disks: nothing is copied to other processes.
    Kernels and products let go of Python's lock. Every leaf has one BLAS thread and sums are
    added in the order of the tree, so that W and H have the bits of `Serial`.

    Parameters
    ----------
    threads : int, optional
        By default as many as BLAS may use here. That honours ``OMP_NUM_THREADS`` and the like,
        and what joblib and threadpoolctl set where several fits run side by side.
    memory_limit : int, optional
        Bytes that the plan is checked against; None does not check.
    """

    def __init__(self, threads: int | None = None, memory_limit: int | None = None) -> None:
        super().__init__(memory_limit)
        if threads is not None and threads < 1:
            raise OptionError(f"threads={threads} is less than 1")
        self._threads = allowed_threads() if threads is None else threads

    def resources(self) -> Resources:
        """See `Executor.resources`."""
        if self._threads == 1:
            return super().resources()
        limit = self._memory_limit
        suffix = "" if limit is None else f", {limit / 1e9:.1f} GB"
        text = f"{self._threads} threads of this process{suffix}"
        return Resources(1, self._threads, limit, text, serial=True)

    def _map(self, call: Callable[[int], Value], count: int) -> Generator[Value, None, None]:
        """Results in index order; at most one waits that no thread works on."""
        threads = min(self._threads, count)
        if threads <= 1:
            yield from super()._map(call, count)
            return
        ahead: deque[Future[Value]] = deque()
        with ThreadPoolExecutor(threads, "dnmf", initializer=limit_threads) as pool:
            try:
                for index in range(count):
                    ahead.append(pool.submit(call, index))
                    if len(ahead) > threads:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:  # what has not begun when one fails, or a person interrupts
                for future in ahead:
                    future.cancel()
