"""Leaves and finishes that failed for a reason that may pass are tried again, and counted."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from dnmf.errors import OutOfMemoryError, TransientError
from dnmf.linalg.own_state import own_state
from dnmf.steps.work import Each, Part, Work

__all__ = ["PAUSES", "finish_with_retries", "leaf_with_retries", "memory_told", "with_retries"]

Value = TypeVar("Value")

PAUSES = (0.1, 0.5, 2.0)
"""Seconds before each further try."""


def leaf_with_retries(work: Work, segment: int, loaded: Any = None) -> tuple[list[Part], int]:
    """Run a leaf; return its parts and how often it was tried again."""
    return with_retries(lambda: work.leaf(segment, loaded))


def finish_with_retries(
    work: Work, part: int, reduced: Part, small: Part, each: Each = map
) -> tuple[Any, int]:
    """Finish a part; return the result and how often it was tried again.

    What a finish stores has names of its own at each try.
    """
    return with_retries(lambda: work.finish(part, reduced, small, each))


def with_retries(call: Callable[[], Value]) -> tuple[Value, int]:
    """Call, again with growing pauses where a failure may pass; return also how often again."""
    with memory_told(), own_state():
        for attempt, pause in enumerate(PAUSES):
            try:
                return call(), attempt
            except TransientError:
                time.sleep(pause)
        return call(), len(PAUSES)


@contextmanager
def memory_told() -> Iterator[None]:
    """Raise a `MemoryError` as an `OutOfMemoryError`, which says what to do.

    Raises
    ------
    OutOfMemoryError
    """
    try:
        yield
    except MemoryError as error:
        what = str(error) or "no details"
        raise OutOfMemoryError(
            f"the fit was interrupted: a task ran out of memory on {platform.node()} ({what}). "
            f"Give each worker more (--memory, ulimit), or fewer threads"
        ) from error
