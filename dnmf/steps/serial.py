"""The reference executor: one process, no Dask, segments in index order."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from functools import partial
from typing import Any, ClassVar, TypeVar

from dnmf.config import Resources
from dnmf.errors import ResumableError, TransientError
from dnmf.linalg.blas import one_thread
from dnmf.steps import retries
from dnmf.steps.retries import finish_with_retries, leaf_with_retries
from dnmf.steps.tree import reduce_parts
from dnmf.steps.work import Executor, Needs, Part, StepOutcome, Work

__all__ = ["Serial"]

Value = TypeVar("Value")


class Serial(Executor):
    """Runs one leaf after the other and reduces as it goes: the reference for all executors.

    Parameters
    ----------
    memory_limit : int, optional
        Bytes that the plan is checked against; None does not check.
    """

    in_process: ClassVar[bool] = True

    def __init__(self, memory_limit: int | None = None) -> None:
        self._memory_limit = memory_limit

    def resources(self, needs: Needs | None = None) -> Resources:
        return self._resources(1, "serial (this process{})")

    def _resources(self, threads: int, text: str) -> Resources:
        limit = self._memory_limit
        suffix = "" if limit is None else f", {limit / 1e9:.1f} GB"
        return Resources(1, threads, limit, text.format(suffix), serial=True)

    def run_step(self, work: Work, on_leaf: Callable[[int], None]) -> StepOutcome:
        try:
            with one_thread():
                return self._run(work, on_leaf)
        except TransientError as error:
            raise ResumableError(
                f"the fit was interrupted: {error}, and again each of {len(retries.PAUSES)} times "
                f"that it was tried once more"
            ) from error

    def _run(self, work: Work, on_leaf: Callable[[int], None]) -> StepOutcome:
        tries = 0
        with closing(self._map(partial(leaf_with_retries, work), work.segments)) as leaves:

            def leaf(segment: int) -> list[Part]:
                nonlocal tries
                parts, again = next(leaves)
                tries += again
                on_leaf(segment)
                return parts

            reduced = reduce_parts(work, leaf)

        def end(part: int) -> tuple[Any, int]:
            return finish_with_retries(work, part, reduced[part], reduced[0], self.each)

        with closing(self._map(end, work.parts)) as ends:
            results = list(ends)
        tries += sum(again for _, again in results)
        return StepOutcome([result for result, _ in results], tries)

    def each(self, call: Callable[[Any], Value], items: Sequence[Any]) -> Iterable[Value]:
        """Apply ``call`` to all items, as ``map`` does, on the threads that there are."""
        return self._map(lambda index: call(items[index]), len(items))

    def _map(self, call: Callable[[int], Value], count: int) -> Generator[Value, None, None]:
        """Yield ``call(0)``, ``call(1)`` and so on, in this order."""
        yield from map(call, range(count))
