"""How much memory of this process the data of a run may take."""

from __future__ import annotations

from dnmf.config import Resources
from dnmf.executors.control_groups import free_memory
from dnmf.executors.threads import SHARE
from dnmf.planning.memory import BASELINE, USABLE

__all__ = ["memory_here"]


def memory_here(resources: Resources) -> int:
    """Return the bytes that data and tasks in this process may take, besides its imports."""
    if resources.memory_limit is None:
        return int(SHARE * free_memory())
    return max(0, int(USABLE * resources.memory_limit) - BASELINE)
