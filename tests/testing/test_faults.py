"""Faults strike when, where and as often as planned, and every reach is counted."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import threading
import time
import timeit
from collections.abc import Iterator
from pathlib import Path

import pytest

import dnmf
from dnmf.errors import TransientError
from dnmf.faultpoints import ACTIONS, POINTS, reach
from dnmf.testing import faults
from dnmf.testing.faults import Fault


def _reached_in_the_library() -> Iterator[tuple[str, set[str]]]:
    """The point and the named details of every call of ``reach`` in dnmf."""
    for path in sorted(Path(dnmf.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if called.lstrip("_") == "reach" and isinstance(node.args[0], ast.Constant):
                yield node.args[0].value, {word.arg for word in node.keywords if word.arg}


def test_the_table_has_every_point_and_no_other() -> None:
    found = list(_reached_in_the_library())
    assert {point for point, _ in found} == set(POINTS)
    wrong = [(point, details) for point, details in found if details - set(POINTS[point][1])]
    assert wrong == []


def test_without_the_variable_a_point_costs_next_to_nothing(monkeypatch):
    monkeypatch.delenv("DNMF_FAULTS", raising=False)
    number = 20_000
    seconds = min(timeit.repeat(lambda: reach("p", kind="W", segment=1), number=number, repeat=5))
    assert seconds / number < 5e-6  # 0.8 microseconds where this was written


def test_every_reach_is_counted_by_its_details(tmp_path):
    with faults.active(tmp_path / "f") as folder:
        for segment in (1, 2, 2):
            reach("written", kind="W", segment=segment, name=f"3/W-0-{segment}")
        reach("other")
    reach("written", kind="W", segment=1)  # no longer active
    assert faults.count(folder, "written") == 3
    assert faults.count(folder, "written", segment=2) == 2
    assert faults.count(folder, "written", name="3/W-*", kind="W") == 3
    assert faults.count(folder, "written", kind="H") == 0
    assert faults.count(folder, "written", absent="x") == 0
    assert [entry["segment"] for entry in faults.reached(folder, "written")] == [1, 2, 2]
    assert {entry["pid"] for entry in faults.reached(folder, "other")} == {os.getpid()}
    assert faults.count(tmp_path, "written") == 0


def test_a_fault_waits_then_strikes_as_often_as_planned(tmp_path):
    plan = [Fault("p", "enospc", {"segment": 3}, times=2, after=1)]
    struck = []
    with faults.active(tmp_path / "f", plan) as folder:
        for hit in range(5):
            reach("p", segment=4)
            try:
                reach("p", segment=3)
            except OSError:
                struck.append(hit)
    assert struck == [1, 2]
    assert faults.struck(folder) == 2
    assert faults.count(folder, "p", segment=3) == 5


@pytest.mark.parametrize(
    ("action", "error"),
    [
        ("raise-oserror", OSError),
        ("erofs", OSError),
        ("eacces", PermissionError),
        ("transient", TransientError),
        ("interrupt", KeyboardInterrupt),
    ],
)
def test_errors_are_raised(tmp_path, action, error):
    with faults.active(tmp_path / "f", [Fault("p", action)]):
        with pytest.raises(error):
            reach("p")
        reach("p")


def test_files_are_harmed(tmp_path):
    path = tmp_path / "file"
    for action, wanted in (("truncate", b"abc"), ("flip", b"abcdef"), ("delete", None)):
        path.write_bytes(b"abcdef")
        with faults.active(tmp_path / action, [Fault("p", action)]):
            reach("p", path=str(path))
        if wanted is None:
            assert not path.exists()
        elif action == "flip":
            assert path.read_bytes() == b"abceef"
        else:
            assert path.read_bytes() == wanted
    with (
        faults.active(tmp_path / "g", [Fault("p", "truncate")]),
        pytest.raises(RuntimeError, match="no file"),
    ):
        reach("p")


def test_what_hangs_is_released(tmp_path):
    with faults.active(tmp_path / "f", [Fault("p", "hang", seconds=60)]) as folder:
        thread = threading.Thread(target=reach, args=("p",))
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
        faults.release(folder)
        thread.join(10)
        assert not thread.is_alive()


CODE = "from dnmf.faultpoints import reach\nfor s in range(4): reach('p', segment=s)"


@pytest.mark.parametrize(
    ("action", "code"), [("kill", -signal.SIGKILL), ("exit", 1)], ids=["kill", "exit"]
)
def test_counts_go_on_after_a_process_died(tmp_path, action, code):
    with faults.active(tmp_path / "f", [Fault("p", action, {"segment": 2}, times=2)]) as folder:
        codes = [subprocess.run([sys.executable, "-c", CODE]).returncode for _ in range(3)]
    assert codes == [code, code, 0]
    assert faults.struck(folder) == 2
    assert [faults.count(folder, "p", segment=s) for s in range(4)] == [3, 3, 3, 1]


def test_a_stopped_process_goes_on_when_told(tmp_path):
    with faults.active(tmp_path / "f", [Fault("p", "stop", {"segment": 1})]) as folder:
        process = subprocess.Popen([sys.executable, "-c", CODE])
        end = time.monotonic() + 20
        while faults.count(folder, "p", segment=1) == 0 and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(0.1)
        assert process.poll() is None
        assert faults.count(folder, "p", segment=2) == 0
        process.send_signal(signal.SIGCONT)
        assert process.wait(20) == 0
    assert faults.count(folder, "p", segment=3) == 1


def test_misuse_is_refused(tmp_path):
    with pytest.raises(ValueError, match="kill"):
        Fault("p", "explode")
    faults.plan(tmp_path / "f", [Fault("p", "kill")])
    with pytest.raises(ValueError, match="not empty"):
        faults.plan(tmp_path / "f")
    assert "kill" in ACTIONS
