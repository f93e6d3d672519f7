"""How many decoded segments workers can keep in memory besides what their tasks need."""

from __future__ import annotations

__all__ = ["RESIDENT", "UNEVEN", "room", "that_fit"]

RESIDENT = 0.55
"""Share of a worker's limit up to which it keeps segments: Dask spills from 0.6 on."""

UNEVEN = 0.85
"""Share of the room that is used: Dask does not place results evenly to the byte."""


def room(workers: list[tuple[int | None, int]], unit: int = 1) -> int:
    """Return the bytes of decoded segments that workers together can keep.

    Parameters
    ----------
    workers : list of (int or None, int)
        Memory limit and predicted peak of each, in bytes. One without a limit keeps nothing.
    unit : int
        Bytes of the largest segment: each lies whole on one worker, not a part on each.
    """
    free = [int(UNEVEN * max(0.0, RESIDENT * limit - need)) for limit, need in workers if limit]
    return sum(left - left % unit for left in free)


def that_fit(sizes: list[int], left: int) -> int:
    """Return how many of the first segments fit into ``left`` bytes."""
    for segment, size in enumerate(sizes):
        left -= size
        if left < 0:
            return segment
    return len(sizes)
