"""Events: what a fit tells while it runs. The library itself never prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Committed", "Event", "Listener", "Notice", "Planned", "Progress", "Stopped",
           "ignore"]  # fmt: skip


@dataclass(frozen=True)
class Planned:
    """The plan is made and checked; nothing was read yet.

    Attributes
    ----------
    lines : list of (str, str)
        Label and value, for people.
    """

    lines: list[tuple[str, str]]


@dataclass(frozen=True)
class Progress:
    """Segments of the running step were completed.

    Attributes
    ----------
    kind : str
        Of the step: ``"scan"``, ``"pass"``, ``"rounds"``, ``"transform"``, ``"publish"``.
    number : int
        Which pass over V, from 1; 0 for steps that are not passes.
    done, total : int
        Segments.
    bytes_done, bytes_total : int
        Decoded bytes of V read in this step so far, and of all of V.
    """

    kind: str
    number: int
    done: int
    total: int
    bytes_done: int
    bytes_total: int


@dataclass(frozen=True)
class Committed:
    """A step is committed.

    Attributes
    ----------
    kind : str
    rows : list of dict
        New rows of the history (one per model; see ``fitting.state``); empty for a scan.
    max_passes : int
    """

    kind: str
    rows: list[dict[str, Any]]
    max_passes: int


@dataclass(frozen=True)
class Stopped:
    """The fit ended; ``reason`` is the sentence."""

    reason: str


@dataclass(frozen=True)
class Notice:
    """Something a person should know: a remark, not an error."""

    text: str


Event = Planned | Progress | Committed | Stopped | Notice
Listener = Callable[[Event], None]


def ignore(*news: Any) -> None:
    """Listen to whatever is told, and do nothing."""
