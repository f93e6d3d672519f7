"""Several threads of this process: no Dask, nothing to start, the bits of the reference."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from dnmf.config import Resources
from dnmf.errors import OptionError
from dnmf.executors.control_groups import free_memory
from dnmf.linalg.blas import allowed_threads, limit_this_thread
from dnmf.steps.serial import Serial
from dnmf.steps.work import Needs

__all__ = ["Threads"]

Value = TypeVar("Value")


SHARE = 0.5
"""Share of the free memory that the threads besides the first may take together."""


class Threads(Serial):
    """Runs as many leaves at once as it has threads, and reduces them in index order.

    For V in the memory of this process, or on its disks: nothing is copied to other processes.
    Kernels and products let go of Python's lock. Every leaf has one BLAS thread and sums are
    added in the order of the tree, so that W and H have the bits of `Serial`. An interrupt ends
    with the leaves in hand, which takes as long as one block does (a search of a start: seconds).

    Parameters
    ----------
    threads : int, optional
        By default as many as suit the plan (`resources`), and one until a plan is known.
    memory_limit : int, optional
        Bytes that the plan is checked against; None does not check.
    """

    def __init__(self, threads: int | None = None, memory_limit: int | None = None) -> None:
        super().__init__(memory_limit)
        if threads is not None and threads < 1:
            raise OptionError(f"threads={threads} is less than 1")
        self._given = threads is not None
        self._threads = threads or 1

    def resources(self, needs: Needs | None = None) -> Resources:
        """Return what there is to run on, after choosing the threads for a plan with these needs.

        Unless their number was given, there are several for V in memory: as many as BLAS may use
        (``OMP_NUM_THREADS``, and what joblib and threadpoolctl set where fits run side by side)
        on the processors that there are, but no more than tasks, and no more than fit, by the
        plan's prediction, into half of the memory that is free. There is one for other data,
        whose blocks would be in memory for each thread.
        """
        if needs is not None and not self._given:
            self._threads = _suited(needs) if needs.in_memory else 1
        if self._threads == 1:
            return super().resources()
        return self._resources(self._threads, f"{self._threads} threads of this process{{}}")

    def _map(self, call: Callable[[int], Value], count: int) -> Generator[Value, None, None]:
        """Yield results in index order; at most one waits that no thread works on."""
        threads = min(self._threads, count)
        if threads <= 1:
            yield from super()._map(call, count)
            return
        ahead: deque[Future[Value]] = deque()
        with ThreadPoolExecutor(threads, "dnmf-leaf", initializer=limit_this_thread) as pool:
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


def _suited(needs: Needs) -> int:
    """Return how many threads suit a plan for V in memory."""
    from dask.system import CPU_COUNT  # knows the limits of containers

    threads = min(allowed_threads() or CPU_COUNT, CPU_COUNT, needs.tasks)
    alone, room = needs.bytes_for(1), SHARE * free_memory()
    while threads > 1 and needs.bytes_for(threads) - alone > room:
        threads -= 1
    return threads
