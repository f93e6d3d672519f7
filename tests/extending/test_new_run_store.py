"""What CONTRIBUTING.md prints is complete: its code runs, and passes the contract it names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from extending_tools import printed, register

import dnmf
from dnmf.runs import STORES

CODE, TEST = "dnmf/runs/sqlite.py", "tests/runs/test_sqlite.py"


def test_a_run_store_is_one_file_and_passes_its_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The class, registered by its line, in a fit too: nothing else of dnmf is touched."""
    assert register(STORES, "sqlite", monkeypatch) == "dnmf.runs.sqlite:SqliteStore"
    for path, name in ((CODE, "sqlite_store.py"), (TEST, "test_sqlite.py")):
        code = printed(path).replace("dnmf.runs.sqlite", "sqlite_store")  # beside dnmf, not within
        (tmp_path / name).write_text(code, encoding="utf-8")
    line = 'from dnmf.runs import STORES\nSTORES["sqlite"] = "sqlite_store:SqliteStore"\n'
    (tmp_path / "conftest.py").write_text(line, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    paths = [str(tmp_path), str(Path(dnmf.__file__).parents[1])]
    done = subprocess.run(
        [*command, "-o", "addopts=", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (summary,) = re.findall(r"^\d+ passed.*$", done.stdout, re.M)
    assert re.fullmatch(r"\d+ passed in .*", summary), "something was skipped"
    assert int(summary.split()[0]) > 30
