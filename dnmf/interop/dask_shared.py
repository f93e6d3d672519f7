"""Tasks of a Dask graph that every row of its chunks needs, such as a mean over all rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dask.optimization import cull

__all__ = ["Given", "shared_tasks"]

SAMPLED = 64
"""Rows of chunks that are looked at, evenly spaced: what all of these need, all need."""


class Given:
    """A task that returns what was computed before."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __call__(self) -> Any:
        return self._value


def shared_tasks(graph: Mapping[Any, Any], lines: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the keys that every row of chunks takes directly from what they all need.

    Of ``x / x.std(axis=0)`` that is the standard deviation alone: a chunk of x is needed by all
    rows through it, but by one row beside it. Data that are there already do not count.

    Parameters
    ----------
    graph : mapping of keys to tasks
    lines : sequence of sequences of keys
        The chunks, row by row.
    """
    if len(lines) < 2:
        return []
    step = max(1, (len(lines) - 1) / (SAMPLED - 1))
    some = [lines[round(i * step)] for i in range(1 + round((len(lines) - 1) / step))]
    wanted = {key for line in some for key in line}
    # dependencies of every task that is needed
    needed, dependencies = cull(graph, list(wanted))
    users: dict[Any, list[Any]] = {key: [] for key in needed}
    for key, inputs in dependencies.items():
        for other in inputs:
            users[other].append(key)
    rows: dict[Any, int] = dict.fromkeys(needed, 0)
    for number, line in enumerate(some):
        for key in line:
            rows[key] |= 1 << number
    _spread(rows, dependencies, users)
    everybody = (1 << len(some)) - 1
    common = {key for key, mask in rows.items() if mask == everybody and key not in wanted}

    def beside(key: Any) -> int:
        mask = 0
        for user in users[key]:
            mask |= 0 if user in common else rows[user]
        return mask

    return [key for key in common if _is_task(needed[key]) and beside(key) == everybody]


def _spread(
    rows: dict[Any, int], dependencies: Mapping[Any, Any], users: Mapping[Any, list[Any]]
) -> None:
    """Pass the rows that need a task on to what it needs, once all of its users are known."""
    waits = {key: len(some) for key, some in users.items()}
    ready = [key for key, count in waits.items() if not count]
    while ready:
        key = ready.pop()
        for other in dependencies[key]:
            rows[other] |= rows[key]
            waits[other] -= 1
            if not waits[other]:
                ready.append(other)


def _is_task(node: Any) -> bool:
    """Return whether a node computes something, and is neither data nor another key's name."""
    if isinstance(node, tuple):
        return bool(node) and callable(node[0])
    function: Callable[..., Any] | None = getattr(node, "func", None)
    return function is not None
