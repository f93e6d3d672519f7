"""The reference executor: one process, no Dask, segments in index order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dnmf.config import Resources
from dnmf.fitting.work import StepOutcome, Work, combine_tree, leaf_with_retries
from dnmf.linalg.blas import one_thread

__all__ = ["Serial"]


class Serial:
    """Runs every leaf after the other and reduces as it goes.

    Parameters
    ----------
    memory_limit : int, optional
        Bytes that the plan is checked against; None does not check.
    """

    def __init__(self, memory_limit: int | None = None) -> None:
        self._memory_limit = memory_limit

    def resources(self) -> Resources:
        """See `Executor.resources`."""
        limit = self._memory_limit
        suffix = "" if limit is None else f", {limit / 1e9:.1f} GB"
        return Resources(1, 1, limit, f"serial (this process{suffix})")

    def check(self) -> None:
        """Nothing to compare: there is one process."""

    def run_step(self, work: Work, on_leaf: Callable[[int], None]) -> StepOutcome:
        """See `Executor.run_step`."""
        retries = 0

        def leaf(segment: int) -> list[Any]:
            nonlocal retries
            pieces, again = leaf_with_retries(work, segment)
            retries += again
            on_leaf(segment)
            return pieces

        def combine(parts: list[list[Any]]) -> list[Any]:
            return [work.combine(p, [part[p] for part in parts]) for p in range(work.pieces)]

        with one_thread():
            reduced = combine_tree(work.fan_in, work.segments, leaf, combine)
            small = reduced[0]
            results = [work.finish(p, reduced[p], small) for p in range(work.pieces)]
        return StepOutcome(results, retries)
