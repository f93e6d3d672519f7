"""Every block of README.md runs, and the ways through the code in CONTRIBUTING.md are true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import traceback
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dnmf
from dnmf.losses import least_squares
from dnmf.steps.serial import Serial

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()

NEWCOMER_RUNS = "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/dnmf demo"
NEWCOMER_TESTS = (
    "python3 -m venv .venv && .venv/bin/pip install '.[test]' && .venv/bin/python -m pytest -n 2"
)
REASONS = {"installs", "is the test command", "needs several machines"}
"""The only reasons for which a block of the README may stay unrun."""

FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class CodeBlock:
    language: str
    code: str
    line: int
    reason: str | None

    def command(self) -> list[str]:
        if self.language == "python":
            return [sys.executable, "-W", "error::UserWarning", "-c", self.code]
        return ["bash", "-euo", "pipefail", "-c", self.code]


def _blocks(text: str = README) -> list[CodeBlock]:
    return [
        CodeBlock(
            match["language"],
            match["code"],
            text[: match.start("code")].count("\n") + 1,
            match["reason"],
        )
        for match in FENCE.finditer(text)
    ]


def test_the_newcomer_commands_are_there() -> None:
    lines = README.splitlines()
    assert lines.count(NEWCOMER_RUNS) == 1
    assert lines.count(NEWCOMER_TESTS) == 1


def test_ci_runs_the_test_command() -> None:
    """`.ci/run` takes the command from the README: its pattern finds that line and no other."""
    script = (ROOT / ".ci" / "run").read_text()
    pattern = re.search(r"grep -E '([^']+)' README\.md", script)
    assert pattern is not None
    found = [line for line in README.splitlines() if re.search(pattern[1], line)]
    assert found == [NEWCOMER_TESTS]


@pytest.mark.parametrize("times", [0, 1, 2])
def test_ci_says_so_where_the_line_is_not_there_once(tmp_path: Path, times: int) -> None:
    script = (ROOT / ".ci" / "run").read_text()
    part = script[script.index("test_command=") : script.index("step() {")]
    (tmp_path / "README.md").write_text("text\n" + f"{NEWCOMER_TESTS}\n" * times)
    done = subprocess.run(
        ["bash", "-euc", part], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == (times != 1)
    assert ("README.md must have exactly one line" in done.stderr) == (times != 1)


MARKDOWN = [*ROOT.glob("*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("deploy/*/*.md")]


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_text_hangs_on_a_table(path: Path) -> None:
    """A line that follows a table without a blank one is shown as a row of it."""
    lines = path.read_text().splitlines()
    for above, line in pairwise(lines):
        assert not above.startswith("|") or line.startswith("|") or not line.strip(), line


def test_blocks_stay_unrun_only_for_a_listed_reason() -> None:
    blocks = _blocks()
    assert len(blocks) == README.count("\n```") // 2, "a block was not recognised"
    assert {block.language for block in blocks} <= {"python", "bash", "text"}
    assert {block.reason for block in blocks} - {None} <= REASONS
    for block in blocks:
        assert (block.reason in {"installs", "is the test command"}) == ("pip " in block.code)
    assert sum(block.reason is None and block.language != "text" for block in blocks) >= 4


@pytest.mark.cluster
def test_blocks_run(tmp_path: Path) -> None:
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": binaries, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    printed = ""
    for block in _blocks():
        if block.reason is not None or block.language == "text":
            continue
        done = subprocess.run(
            block.command(),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"README.md:{block.line}\n{done.stdout}\n{done.stderr}"
        printed += done.stdout
    (shown,) = [block.code for block in _blocks() if block.language == "text"]
    assert _without_digits(shown.partition("[...]")[0]) in _without_digits(printed)
    assert "\nk = 8. " in printed


def _without_digits(text: str) -> str:
    """Words in one line; digits of measures differ between kinds of processors."""
    return re.sub(r"[0-9]+(\.[0-9]+)?", "#", " ".join(text.split()))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text()):
        assert target.startswith("https://") or (ROOT / target).exists(), target


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_that_are_named_exist(path: Path) -> None:
    """Files and folders of the repository in the text; the code that a page prints has others."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.M | re.S)
    named = set(re.findall(r"`((?:dnmf|tests|benchmarks|deploy)/[\w./-]*)`", text))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_test_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "README.md").read_text()))
    written = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert named
    assert [name for name in sorted(named) if f"def {name}(" not in written] == []


def _way(section: str) -> list[tuple[str, set[str]]]:
    """The numbered files of a section of CONTRIBUTING.md, each with the names told of it."""
    text = (ROOT / "CONTRIBUTING.md").read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    stops = re.findall(r"^\d+\. \[.*?\]\((.*?)\): (.*?)(?=^\d+\. |\n\n|\Z)", text, re.M | re.S)
    assert len(stops) == len(re.findall(r"^\d+\. ", text, re.M))
    return [(path, set(re.findall(r"`(\w+)`", words))) for path, words in stops]


@pytest.mark.parametrize("section", ["Follow one block", "Follow k"])
def test_the_files_on_the_way_have_the_names(section: str) -> None:
    for path, names in _way(section):
        assert names, path
        words = set(re.findall(r"\w+", (ROOT / path).read_text()))
        assert names <= words, (path, names - words)


@pytest.mark.parametrize("in_a_folder", [False, True])
def test_a_block_takes_the_way_that_is_told(
    in_a_folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of the section, in their order, are on the stack where a kernel gets a block."""
    passed: list[str] = []
    solve_rows = least_squares.solve_rows

    def recorded(*arguments: Any, **options: Any) -> Any:
        if not passed:
            passed.extend(frame.filename for frame in traceback.extract_stack())
        return solve_rows(*arguments, **options)

    monkeypatch.setattr(least_squares, "solve_rows", recorded)
    V, out = (
        np.random.default_rng(0).random((40, 6)),
        tmp_path / "out.zarr" if in_a_folder else None,
    )
    dnmf.fit(V, init=np.ones((2, 6)), out=out, max_passes=1, sample=0, executor=Serial())
    told = [str(ROOT / path) for path, _ in _way("Follow one block")]
    assert len(told) == 5
    rest = iter(passed[passed.index(str(ROOT / "dnmf" / "api.py")) :])
    assert [path for path in told if path not in rest] == []
