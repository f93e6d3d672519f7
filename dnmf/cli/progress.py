"""Events of a fit as a live display on a terminal; only notices elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from dnmf.cli.text import columns, number_text, seconds_text
from dnmf.steps.events import Committed, Event, Listener, Notice, Planned, Progress
from dnmf.values import format_bytes

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["ProgressState", "listener"]

BAR = 20
"""Columns that the bar takes."""

BAR_PLACE = -1
"""It is none of the cells."""

_TITLES = {
    "generate": "generating V",
    "publish": "writing W and H",
    "rounds": "rounds between reads",
}


@dataclass
class ProgressState:
    """What the display shows: the running step, and the last committed one.

    Attributes
    ----------
    clock : callable
        Gives seconds; monotonic.
    step : Progress or None
        The latest news of the running step, or of the last one.
    running : bool
        Whether that step is not committed yet.
    started : float
        When the running step began, by ``clock``.
    read_before : int
        Bytes that earlier steps read.
    latest : dict
        The row of the history with the smallest objective: that of the pair that is kept.
    rated : str
        Kind of the steps that ``latest`` is of.
    """

    clock: Callable[[], float] = time.monotonic
    step: Progress | None = None
    running: bool = False
    started: float = field(init=False)
    read_before: int = 0
    latest: dict[str, Any] = field(default_factory=dict)
    rated: str = ""

    def __post_init__(self) -> None:
        self.started = self.clock()

    def update(self, event: Event) -> None:
        """Take in one event."""
        if isinstance(event, Progress):
            if self.running and self._is_other(event):
                self._end_step()
            self.step, self.running = event, True
        elif isinstance(event, Committed):
            self._end_step()
            self._rate(event)

    def _rate(self, event: Committed) -> None:
        """Keep the best row; objectives of a sample and of all rows are not comparable."""
        rows = [row for row in event.rows if "relative_error" in row]
        if not rows:
            return
        if self.latest and self.rated == event.kind:
            rows.append(self.latest)
        self.latest, self.rated = min(rows, key=lambda row: row["objective"]), event.kind

    def _is_other(self, event: Progress) -> bool:
        """Return whether the event is of another step, or of another attempt at this one."""
        step = self.step
        assert step is not None
        return (step.kind, step.number) != (event.kind, event.number) or event.done < step.done

    def _end_step(self) -> None:
        """Take the next step to start now: between two steps there is only a small commit."""
        self.read_before += self._step_bytes()
        self.running, self.started = False, self.clock()

    def _step_bytes(self) -> int:
        return self.step.bytes_done if self.step and self.running else 0

    def cells(self) -> list[str]:
        """List title, segments, bytes read in all, rate, time left, objective, relative error."""
        return [self._title(), *self._speed(), *self._quality()]

    def share(self) -> float:
        """Return the share of the running step that is done, 0 to 1."""
        return self.step.done / self.step.total if self.step and self.step.total else 0.0

    def _title(self) -> str:
        if self.step is None:
            return "starting"
        number = f" {self.step.number}" if self.step.number else ""
        return _TITLES.get(self.step.kind, self.step.kind) + number

    def _speed(self) -> list[str]:
        step, seconds = self.step, self.clock() - self.started
        read = self.read_before + self._step_bytes()
        total = f"{format_bytes(read)} read" if read else ""
        if step is None or not self.running:
            return ["", total, "", ""]
        rate = f"{format_bytes(step.bytes_done / seconds)}/s" if step.bytes_done and seconds else ""
        left = seconds * (step.total - step.done) / step.done if step.done else None
        return [
            f"{step.done}/{step.total}",
            total,
            rate,
            "" if left is None else f"{seconds_text(left)} left",
        ]

    def _quality(self) -> list[str]:
        if not self.latest:
            return ["", ""]
        return [
            f"objective {number_text(self.latest['objective'])}",
            f"relative error {number_text(self.latest['relative_error'], 5)}",
        ]


def that_fit(cells: list[str], width: int) -> list[str | None]:
    """Choose the cells that one line has room for; the least important are left out.

    Parameters
    ----------
    cells : list of str
        Of `ProgressState.cells`.
    width : int
        Columns of the terminal.

    Returns
    -------
    list of str or None
        None stands for the bar.
    """
    title, segments, read, rate, left, objective, error = range(7)
    places = [title, BAR_PLACE, segments, read, rate, left, objective, error]
    for least in (BAR_PLACE, rate, read, objective, left, error, segments):
        widths = [BAR if place == BAR_PLACE else len(cells[place]) for place in places]
        if sum(widths) + len(widths) - 1 <= width:
            break
        places.remove(least)
    return [None if place == BAR_PLACE else cells[place] for place in places]


class _Live:
    """A ``ProgressState`` that rich draws four times a second."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self.state = ProgressState()
        self.console = console
        self.live = Live(self, console=console, refresh_per_second=4, transient=True)

    def __rich__(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        shown = that_fit(self.state.cells(), self.console.width)
        grid = Table.grid(padding=(0, 1))
        for _ in shown:
            grid.add_column(no_wrap=True)
        bar = ProgressBar(1.0, self.state.share(), width=BAR)
        grid.add_row(*(bar if cell is None else cell for cell in shown))
        return grid

    def notice(self, text: str) -> None:
        self.console.print(f"note: {text}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def listener(stream: TextIO | None = None) -> Iterator[Listener]:
    """Give a listener that shows progress on ``stream`` (default: stderr) while it is open.

    The plan goes to stdout. Notices are always printed, as lines of their own; progress only
    where ``stream`` is a terminal.
    """
    stream = sys.stderr if stream is None else stream
    if not stream.isatty():
        yield lambda event: _plain(event, stream)
        return
    from rich.console import Console

    display = _Live(Console(file=stream))

    def show(event: Event) -> None:
        if isinstance(event, Notice):
            display.notice(event.text)
        elif isinstance(event, Planned):
            display.live.stop()
            _print_plan(event)
        else:
            display.state.update(event)
            display.live.start()  # nothing where it runs already

    try:
        yield show
    finally:
        display.live.stop()


def _plain(event: Event, stream: TextIO) -> None:
    if isinstance(event, Planned):
        _print_plan(event)
    elif isinstance(event, Notice):
        with suppress(OSError):
            print(f"note: {event.text}", file=stream, flush=True)


def _print_plan(event: Planned) -> None:
    with suppress(OSError):  # a full disk or a closed pipe does not end a fit
        print(columns(event.lines), flush=True)
