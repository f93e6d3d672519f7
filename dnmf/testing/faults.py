"""Faults on purpose: deterministic, counted, in any process.

The first process that has written segment 3 of W dies::

    with faults.active(folder, [Fault("object-written", "kill", {"kind": "W", "segment": 3})]):
        ...
    assert faults.struck(folder) == 1
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from dnmf.faultpoints import ACTIONS, LOG, PLAN, RELEASE, VARIABLE, matches

__all__ = ["Fault", "active", "count", "plan", "reached", "release", "struck", "switch"]


@dataclass(frozen=True)
class Fault:
    """Describes one thing that goes wrong.

    Attributes
    ----------
    point : str
        One of `dnmf.faultpoints.POINTS`.
    action : str
        ``"kill"`` (SIGKILL), ``"stop"`` (SIGSTOP) or ``"exit"`` of the process that gets
        there; ``"raise-oserror"`` (input/output error), ``"enospc"``, ``"erofs"``,
        ``"eacces"``, ``"transient"``, ``"no-memory"`` or ``"interrupt"`` are raised; ``"hang"``
        waits until ``release``; ``"eat"`` takes 320 MiB of memory a second; ``"truncate"``,
        ``"flip"`` (one bit) or ``"delete"`` harm the point's file.
    match : dict
        Details of the point that must be so; strings may be patterns (``"3/W-*"``).
    times : int
        How often it strikes, over all processes.
    after : int
        How many matching hits pass before the first strike.
    seconds : float
        Longest wait of ``"hang"``, and how long ``"eat"`` eats.
    """

    point: str
    action: str
    match: dict[str, Any] = field(default_factory=dict)
    times: int = 1
    after: int = 0
    seconds: float = 120.0

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"action is {self.action!r}; it must be one of {', '.join(ACTIONS)}")


def plan(folder: str | os.PathLike[str], faults: Sequence[Fault] = ()) -> str:
    """Put faults into a folder, new or empty; returns what ``DNMF_FAULTS`` must be set to.

    Without faults, the points that are reached are still written down.
    """
    path = os.path.abspath(os.fspath(folder))
    os.makedirs(path, exist_ok=True)
    if os.listdir(path):
        raise ValueError(f"{path} is not empty; counts of another test would count here")
    with open(os.path.join(path, PLAN), "w", encoding="utf-8") as file:
        json.dump([asdict(fault) for fault in faults], file)
    return path


@contextmanager
def active(folder: str | os.PathLike[str], faults: Sequence[Fault] = ()) -> Iterator[str]:
    """Plan faults, and set ``DNMF_FAULTS`` for this process and those that it starts."""
    path = plan(folder, faults)
    before = os.environ.get(VARIABLE)
    switch(path)
    try:
        yield path
    finally:
        switch(before)


def switch(folder: str | None) -> None:
    """Set ``DNMF_FAULTS`` in this process, or remove it; for processes that run already."""
    if folder is None:
        os.environ.pop(VARIABLE, None)
    else:
        os.environ[VARIABLE] = folder


def reached(folder: str | os.PathLike[str], point: str, **match: Any) -> list[dict[str, Any]]:
    """List the details (and ``pid``) of every time that a point was reached, in order."""
    try:
        with open(os.path.join(folder, LOG), encoding="utf-8") as file:
            entries = [json.loads(line) for line in file]
    except FileNotFoundError:
        return []
    here = [entry for entry in entries if entry["point"] == point]
    found = [{**entry["details"], "pid": entry["pid"]} for entry in here]
    return [details for details in found if matches(details, match)]


def count(folder: str | os.PathLike[str], point: str, **match: Any) -> int:
    """Count how often a point was reached with these details, by all processes together."""
    return len(reached(folder, point, **match))


def struck(folder: str | os.PathLike[str], number: int = 0) -> int:
    """Count how often the fault of that number in the plan struck."""
    with open(os.path.join(folder, PLAN), encoding="utf-8") as file:
        fault = json.load(file)[number]
    hits = sum(name.startswith(f"hit-{number}-") for name in os.listdir(folder))
    return max(0, hits - int(fault["after"]))


def release(folder: str | os.PathLike[str]) -> None:
    """Let everything go on that hangs."""
    with open(os.path.join(folder, RELEASE), "w", encoding="utf-8"):
        pass
