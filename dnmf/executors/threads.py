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
from dnmf.planning.memory import predict_memory
from dnmf.planning.plan import Plan
from dnmf.steps.serial import Serial

__all__ = ["Threads"]

Value = TypeVar("Value")


SHARE = 0.5
"""Of the memory that is free, what more than one thread may take together."""


class Threads(Serial):
    """Runs as many leaves at once as it has threads, and reduces them in index order.

    For V in the memory of this process, or on its disks: nothing is copied to other processes.
    Kernels and products let go of Python's lock. Every leaf has one BLAS thread and sums are
    added in the order of the tree, so that W and H have the bits of `Serial`. An interrupt ends
    with the leaves in hand, which takes as long as one block does (a search of a start: seconds).

    Parameters
    ----------
    threads : int, optional
        By default as many as suit the data, see `settle`; until then one.
    memory_limit : int, optional
        Bytes that the plan is checked against; None does not check.
    """

    def __init__(self, threads: int | None = None, memory_limit: int | None = None) -> None:
        super().__init__(memory_limit)
        if threads is not None and threads < 1:
            raise OptionError(f"threads={threads} is less than 1")
        self._given = threads is not None
        self._threads = threads or 1

    def settle(self, plan: Plan, in_memory: bool) -> None:
        """Choose the number of threads, unless it was given.

        Several for V in memory: as many as BLAS may use (``OMP_NUM_THREADS``, and what joblib and
        threadpoolctl set where fits run side by side) on the processors that there are, as long
        as what the plan predicts for the others fits into half of the memory that is free, and
        not more than there are segments, or starts. One for other data, whose blocks would lie in
        memory for each of them.
        """
        if self._given or not in_memory:
            return
        from dask.system import CPU_COUNT  # knows the limits of containers

        starts = plan.config.n_init * len(plan.config.models)
        threads = min(allowed_threads() or CPU_COUNT, CPU_COUNT, max(plan.segments, starts))
        alone, room = predict_memory(plan, 1).total, SHARE * free_memory()
        while threads > 1 and predict_memory(plan, threads).total - alone > room:
            threads -= 1
        self._threads = threads

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
