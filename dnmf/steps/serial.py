"""The reference executor: one process, no Dask, segments in index order."""

from __future__ import annotations

from dnmf.config import Resources
from dnmf.steps.work import InProcess

__all__ = ["Serial"]


class Serial(InProcess):
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
        return Resources(1, 1, limit, f"serial (this process{suffix})", serial=True)

    def check(self) -> None:
        """Nothing to compare: there is one process."""

    def probe(self, path: str) -> None:
        """Nothing to try: this process has opened V and written the plan."""
