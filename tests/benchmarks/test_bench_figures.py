"""Goals, lines of JSON, tables, exit codes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dnmf.errors import OptionError


def _figures() -> list[object]:
    from benchmarks.figures import Figure, Goal

    return [
        Figure("b", "case", "good", 1.0, goal=Goal(1.5)),
        Figure("b", "case", "missed", math.inf, goal=Goal(6)),
        Figure("b", "case", "too slow", 2.5, "s", goal=Goal(1_000, at_least=True)),
        Figure("b", "other", "skipped", None, goal=Goal(1), skipped="no such peer"),
    ]


def test_what_is_written_is_read_again() -> None:
    from benchmarks.figures import Figure

    for figure in _figures():
        line = json.loads(json.dumps(figure.to_json(), allow_nan=False))
        assert Figure.from_json(line) == figure


def test_goals_are_met_or_missed() -> None:
    assert [figure.met for figure in _figures()] == [True, False, False, None]


def test_cells_say_it() -> None:
    cells = [figure.cells() for figure in _figures()]
    assert cells[0] == ["case", "good", "1", "<= 1.5", "yes"]
    assert cells[1][2:] == ["never", "<= 6", "NO"]
    assert cells[2][2:] == ["2.5 s", ">= 1,000", "NO"]
    assert cells[3][2:] == ["skipped: no such peer", "<= 1", ""]


@pytest.fixture
def command() -> Iterator[click.Command]:
    """A benchmark that misses one goal."""
    from benchmarks.cli import benchmark, cli

    def made_up(session: object, some: int) -> Iterable[object]:
        """Made up."""
        yield from _figures()[:some]

    yield benchmark(click.option("--some", type=int)(made_up))
    cli.commands.pop("made_up")


def test_check_exits_with_1_where_a_goal_is_missed(command: click.Command) -> None:
    def exit_code(*arguments: str) -> int:
        return CliRunner().invoke(command, ["--size", "tiny", *arguments]).exit_code

    assert exit_code("--some", "2", "--check") == 1
    assert exit_code("--some", "2") == 0
    assert exit_code("--some", "1", "--check") == 0


def test_a_report_keeps_the_last_line_of_a_figure(command: click.Command, tmp_path: Path) -> None:
    from benchmarks.cli import cli

    path = tmp_path / "lines.jsonl"
    for some in ("4", "1"):
        done = CliRunner().invoke(command, ["--size", "tiny", "--some", some, "--json", str(path)])
        assert done.exit_code == 0
    assert len(path.read_text().splitlines()) == 5
    done = CliRunner().invoke(cli, ["report", str(path)])
    table = [line for line in done.output.splitlines() if line.startswith("| b |")]
    assert len(table) == 4
    assert "| b | tiny | case | missed | never | <= 6 | NO |" in table
    assert "cores" in done.output


def test_a_size_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    from rich.console import Console

    from benchmarks.session import Session

    session = Session("tiny", tmp_path, True, Console())
    session.need_room(1e6)
    with pytest.raises(OptionError, match=r"GB free, this needs 1e\+06 GB.*--folder"):
        session.need_room(1e15)


def test_every_command_is_in_the_readme() -> None:
    from benchmarks.cli import cli

    readme = (Path(__file__).parents[2] / "benchmarks" / "README.md").read_text()
    for name in cli.commands:
        assert f"`{name}" in readme or f"benchmarks {name}" in readme, name


def test_it_runs_as_a_program(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text("")
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "benchmarks", "report"]
    done = subprocess.run([*command, str(path)], cwd=root, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([*command, "absent"], cwd=root, capture_output=True, timeout=60)
    assert done.returncode == 2
