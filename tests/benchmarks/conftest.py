"""One pool of clusters for all benchmarks: at tiny size they show that they run, nothing else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

ROOT = str(Path(__file__).parents[2])
if ROOT not in sys.path:  # the benchmarks are part of a clone, not of the installed package
    sys.path.insert(0, ROOT)


@dataclass(frozen=True)
class Ran:
    """What a command of the benchmarks printed and wrote."""

    exit_code: int
    output: str
    lines: list[dict[str, Any]]

    def line(self, case: str, name: str) -> dict[str, Any]:
        """The first line of a case and figure, given by the beginnings of their texts."""
        texts = [(line["case"], line["name"]) for line in self.lines]
        fits = [a.startswith(case) and b.startswith(name) for a, b in texts]
        assert any(fits), texts
        return self.lines[fits.index(True)]


Bench = Callable[..., Ran]


@pytest.fixture(scope="package")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Run a command at tiny size; data are kept between commands."""
    from benchmarks.cli import cli
    from benchmarks.clusters import pooled

    folder = tmp_path_factory.mktemp("bench")

    def run(*arguments: str) -> Ran:
        path = folder / f"{len(list(folder.glob('*.jsonl')))}.jsonl"
        options = ["--size", "tiny", "--json", str(path), "--folder", str(folder)]
        done = CliRunner().invoke(cli, [arguments[0], *options, *arguments[1:]])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        text = path.read_text() if path.exists() else ""
        return Ran(done.exit_code, done.output, [json.loads(line) for line in text.splitlines()])

    with pooled():
        yield run
