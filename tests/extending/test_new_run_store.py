"""What CONTRIBUTING.md prints is complete: its code runs, and passes the contract it names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import dnmf

ROOT = Path(__file__).parents[2]


def _printed(section: str) -> dict[str, str]:
    """The Python files that a section of CONTRIBUTING.md prints, by their paths."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (body,) = re.findall(rf"^## {section}$(.*?)(?=^## |\Z)", text, re.M | re.S)
    blocks = re.findall(r"^```python\n# (\S+)\n(.*?)^```$", body, re.M | re.S)
    return dict(blocks)


def test_a_run_store_is_one_file_and_passes_its_contract(tmp_path: Path) -> None:
    """The class, registered by its line, in a fit too: nothing else of dnmf is touched."""
    printed = _printed("A run store")
    assert list(printed) == ["dnmf/runs/sqlite.py", "tests/runs/test_sqlite.py"]
    (line,) = re.findall(
        r"`(\"sqlite\": \"(?:[\w.]+):SqliteStore\")`",
        (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
    )
    register = f"from dnmf.runs import STORES\nSTORES |= {{{line}}}\n"
    for path, code in printed.items():
        code = code.replace("dnmf.runs.sqlite", "sqlite_store")  # beside dnmf, not within
        name = "sqlite_store.py" if path.startswith("dnmf/") else Path(path).name
        (tmp_path / name).write_text(code, encoding="utf-8")
    (tmp_path / "conftest.py").write_text(register.replace("dnmf.runs.sqlite", "sqlite_store"))
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
