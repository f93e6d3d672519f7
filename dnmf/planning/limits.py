"""Sizes that decide the bits of a result, or its memory, once a run has begun.

A plan keeps them, so that a run goes on with those that it began with, whatever a later release
has. Tests make them small by `using`, and so see with little data what takes a lot of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from dnmf.config import MIB

__all__ = ["Limits", "current", "using"]


@dataclass(frozen=True)
class Limits:
    """Sizes that a plan freezes.

    Attributes
    ----------
    sample_segment_bytes : int
        Bytes of the sample that one task goes over, besides what one segment of V has in it.
    race_bytes : int
        Most bytes of the rows on which starts race.
    race_share : float
        Share of the sample on which starts race, where `race_rows` and so on allow it.
    race_rows : int
        Rows per component on which starts race at least.
    fewest_race_rows : int
        Rows per component, for NNDSVD, where rows are so long that `race_rows` would not fit.
    fewest_race_bytes : int
        Starts race on so many bytes at least.
    dear_entries : int
        What an entry counts, zeros too, where it is raised to powers: as so many bytes.
    h_part_bytes : int
        Bytes of H, float64, in one part of the H-step: enough that a thread is worth its call,
        and within a cache.
    stacked_components : int
        Components that share a product with a sparse block: more rows of H' leave the cache.
    """

    sample_segment_bytes: int = 32 * MIB
    race_bytes: int = 64 * MIB
    race_share: float = 0.1
    race_rows: int = 50
    fewest_race_rows: int = 20
    fewest_race_bytes: int = 4 * MIB
    dear_entries: int = 16
    h_part_bytes: int = MIB
    stacked_components: int = 100


_current: ContextVar[Limits] = ContextVar("limits", default=Limits())  # noqa: B039 - it is frozen


def current() -> Limits:
    """Return the limits of a run that is planned now."""
    return _current.get()


@contextmanager
def using(**limits: Any) -> Iterator[Limits]:
    """Plan with other limits than the default ones, for tests.

    Parameters
    ----------
    **limits
        Fields of `Limits`.
    """
    token = _current.set(replace(_current.get(), **limits))
    try:
        yield _current.get()
    finally:
        _current.reset(token)
