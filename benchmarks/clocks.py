"""Seconds of steps and of parts of them, and ratios of interleaved measurements."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from threading import Lock
from time import perf_counter
from typing import Any

from dnmf.steps.events import Committed, Event, Planned

__all__ = ["Clock", "StepTime", "median_ratio", "stopwatch"]


@dataclass(frozen=True)
class StepTime:
    """One step of a fit, from the commit before it to its own.

    Attributes
    ----------
    kind : str
        ``"scan"``, ``"race"``, ``"sample"``, ``"pass"`` or ``"publish"``.
    seconds : float
    elapsed : float
        Seconds since the clock was made.
    row : dict
        Of the history; empty where there is none.
    """

    kind: str
    seconds: float
    elapsed: float
    row: dict[str, Any]


@dataclass
class Clock:
    """A listener of a fit that times every step, with all that belongs to it.

    Attributes
    ----------
    after : callable, optional
        Called with the kind of a step that was committed; its time counts for no step.
    steps : list of StepTime
    """

    after: Callable[[str], None] | None = None
    steps: list[StepTime] = field(default_factory=list)
    began: float = field(default_factory=perf_counter)
    last: float = field(default_factory=perf_counter)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Planned):
            self.last = perf_counter()
        if not isinstance(event, Committed):
            return
        now = perf_counter()
        row = dict(event.rows[-1]) if event.rows else {}
        self.steps.append(StepTime(event.kind, now - self.last, now - self.began, row))
        if self.after is not None:
            self.after(event.kind)
        self.last = perf_counter()

    def of(self, kind: str) -> list[StepTime]:
        """The steps of a kind, in order."""
        return [step for step in self.steps if step.kind == kind]

    def seconds(self, kind: str) -> list[float]:
        return [step.seconds for step in self.of(kind)]


def median_ratio(measured: Sequence[float], floor: Sequence[float]) -> float:
    """The median of ratios of neighbours in time: load that both bear cancels."""
    return median(a / b for a, b in zip(measured, floor, strict=True))


@contextmanager
def stopwatch(*functions: tuple[Any, str]) -> Iterator[dict[str, float]]:
    """Measure the seconds spent inside functions, given as (module or class, name).

    They are wrapped where they are looked up, and restored at the end; calls inside one another
    count for each.

    Raises
    ------
    AttributeError
        There is no such function any more.
    """
    seconds: dict[str, float] = defaultdict(float)
    lock = Lock()
    before = [(owner, name, getattr(owner, name)) for owner, name in functions]
    for owner, name, function in before:
        setattr(owner, name, _timed(function, name, seconds, lock))
    try:
        yield seconds
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)


def _timed(
    function: Callable[..., Any], name: str, seconds: dict[str, float], lock: Lock
) -> Callable[..., Any]:
    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        began = perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            taken = perf_counter() - began
            with lock:
                seconds[name] += taken

    return timed
