"""The display, from events made here: numbers, a terminal, a pipe."""

from __future__ import annotations

import io

import pytest

from dnmf.cli.progress import ProgressState, _Live, listener
from dnmf.cli.text import columns, number_text, seconds_text
from dnmf.steps.events import Committed, Notice, Planned, Progress, Stopped
from dnmf.values import format_bytes


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def row(objective: float, error: float) -> dict:
    return {"pass": 1, "model": 0, "objective": objective, "relative_error": error}


def test_rate_time_left_and_bytes_of_the_running_step():
    clock = Clock()
    state = ProgressState(clock)
    assert state.cells() == ["starting", "", "", "", "", "", ""]
    state.update(Progress("scan", 0, 1, 4, 250_000_000, 1_000_000_000))
    clock.now += 0.5
    assert state.cells()[:5] == ["scan", "1/4", "250 MB read", "500 MB/s", "1.5 s left"]
    assert state.share() == 0.25


def test_steps_add_up_and_each_has_its_own_clock():
    clock = Clock()
    state = ProgressState(clock)
    state.update(Progress("scan", 0, 4, 4, 10**9, 10**9))
    clock.now += 8
    state.update(Committed("scan", [], 200))
    state.update(Progress("pass", 1, 2, 4, 5 * 10**8, 10**9))
    clock.now += 2
    assert state.cells()[:5] == ["pass 1", "2/4", "1.5 GB read", "250 MB/s", "2 s left"]


def test_a_step_that_starts_again_counts_what_it_read():
    state = ProgressState(Clock())
    state.update(Progress("pass", 1, 3, 4, 300, 400))
    state.update(Progress("pass", 1, 1, 4, 100, 400))
    assert state.cells()[2] == "400 B read"
    assert state.share() == 0.25


def test_objective_and_error_of_the_best_model():
    state = ProgressState(Clock())
    state.update(Committed("pass", [row(12.5, 0.5), row(11.25, 0.25)], 200))
    assert state.cells()[-2:] == ["objective 11.25", "relative error 0.25"]
    state.update(Committed("pass", [row(13.5, 0.75)], 200))  # a rejected extrapolation
    state.update(Committed("publish", [], 200))
    assert state.cells()[-2:] == ["objective 11.25", "relative error 0.25"]


def test_a_sample_is_not_compared_with_all_rows():
    state = ProgressState(Clock())
    state.update(Committed("race", [{"start": 0, "objective": 1.5}], 200))
    assert state.cells()[-2:] == ["", ""]
    state.update(Committed("sample", [row(2.5, 0.75)], 200))
    assert state.cells()[-2:] == ["objective 2.5", "relative error 0.75"]
    state.update(Committed("pass", [row(12.5, 0.5)], 200))
    assert state.cells()[-2:] == ["objective 12.5", "relative error 0.5"]


def test_steps_that_read_nothing():
    clock = Clock()
    state = ProgressState(clock)
    state.update(Progress("publish", 0, 0, 4, 0, 0))
    assert state.cells()[:5] == ["writing W and H", "0/4", "", "", ""]


EVENTS = [
    Notice("one thing"),
    Planned([("data", "V.zarr"), ("segments", "24")]),
    Progress("scan", 0, 1, 2, 100, 200),
    Committed("scan", [], 200),
    Progress("pass", 1, 1, 2, 100, 200),
    Notice("another [thing]"),
    Committed("pass", [row(12.5, 0.5)], 200),
    Stopped("converged"),
]


def test_a_pipe_gets_notices_and_nothing_else(capsys):
    stream = io.StringIO()
    with listener(stream) as listen:
        for event in EVENTS:
            listen(event)
    assert stream.getvalue() == "note: one thing\nnote: another [thing]\n"
    assert capsys.readouterr().out == "data      V.zarr\nsegments  24\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_display_that_goes_away(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with listener(stream) as listen:
        for event in EVENTS:
            listen(event)
    shown = stream.getvalue()
    for part in ("pass 1", "1/2", "200 B read", "relative error 0.5", "another [thing]"):
        assert part in shown
    assert "\x1b[2K" in shown.rsplit("relative error", 1)[1]  # the line is erased at the end
    assert "segments" not in shown
    assert "segments  24" in capsys.readouterr().out


def test_the_display_ends_with_an_exception():
    stream = Terminal()

    def fail():
        with listener(stream) as listen:
            listen(EVENTS[2])
            assert "\x1b[?25l" in stream.getvalue()  # the cursor is hidden
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert stream.getvalue().count("\x1b[?25h") == 1  # and shown again


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (123_456_789, "123 MB"), (8e9, "8 GB")],
)
def test_bytes(size, text):
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.034, "0.034 s"), (9.7, "10 s"), (59.4, "59 s"), (65, "1:05 min"), (7800, "2:10 h")],
)
def test_seconds(seconds, text):
    assert seconds_text(seconds) == text


def test_numbers_and_columns():
    assert number_text(None) == "-"
    assert number_text(1 / 3, 3) == "0.333"
    assert columns([("a", "1"), ("bbb", "22")]) == "a    1\nbbb  22"
    assert columns([("a", "1"), ("bbb", "22")], right=frozenset({1})) == "a     1\nbbb  22"


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
def test_a_narrow_terminal_leaves_out_cells_and_cuts_none(width):
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    display, clock = _Live(console), Clock()
    state = display.state = ProgressState(clock, read_before=118 * 10**9)
    state.update(Progress("pass", 12, 1, 64, 10**7, 10**9))
    clock.now += 5
    state.update(Progress("pass", 12, 20, 64, 13 * 10**8, 10**9))
    state.latest = {"objective": 200863.7, "relative_error": 0.55379}
    console.print(display)
    line = console.file.getvalue().rstrip("\n")
    assert "\n" not in line
    assert len(line) <= width
    rest = line
    for cell in sorted(state.cells(), key=len, reverse=True):
        rest = rest.replace(cell, "")
    assert not set(rest) - set(" ━╸╺")  # nothing is there in part
    wanted = ["pass 12", "20/64", "relative error 0.55379"]
    wanted += ["11 s left"] * (width >= 60) + ["objective 200864"] * (width >= 80)
    wanted += ["119 GB read", "260 MB/s"] * (width >= 100) + ["━"] * (width >= 120)
    for cell in wanted:
        assert cell in line, (cell, line)
