"""SIGKILL at every point of a commit: the store opens at the record before or the new one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from dnmf.runs.base import ObjectRef
from dnmf.runs.creation import prepare_folder
from dnmf.runs.folder import FolderStore
from dnmf.testing import faults
from dnmf.testing.faults import Fault

STEP = """
import sys
import numpy as np
from dnmf.runs.folder import FolderStore
store = FolderStore(sys.argv[1])
index, record = store.latest()
refs = [store.put(f"W/{index + 1}/0-{s}", np.full(3, 10 * (index + 1) + s)) for s in range(3)]
store.commit(index + 1, {"kind": "pass", "W": [ref.to_json() for ref in refs]})
store.drop([name for name, _ in record["W"]] + [ref.name for ref in refs], index)
"""


def step(path):
    return subprocess.run([sys.executable, "-c", STEP, path]).returncode


def values(store, record):
    return [store.get(ObjectRef.from_json(value)).tolist() for value in record["W"]]


@pytest.mark.parametrize(
    ("point", "match", "committed"),
    [
        ("object-writing", {"segment": 0}, False),
        ("object-staged", {"segment": 1}, False),
        ("object-written", {"segment": 2}, False),
        ("record-writing", {}, False),
        ("record-staged", {}, False),
        ("record-linked", {}, True),
        ("record-committed", {}, True),
    ],
)
def test_killed_at(tmp_path, point, match, committed):
    store = FolderStore.create_new(tmp_path / "run", {})
    store.commit(0, {"W": [store.put("W/0/0-0", np.zeros(3)).to_json()]})
    with faults.active(tmp_path / "faults", [Fault(point, "kill", match)]) as folder:
        assert step(store.path) == -signal.SIGKILL
        assert faults.struck(folder) == 1
        index, record = store.latest()
        assert store.damaged == []
        assert index == (1 if committed else 0)
        assert values(store, record) == ([[10] * 3, [11] * 3, [12] * 3] if committed else [[0] * 3])
        assert step(store.path) == 0  # the next process goes on
    index, record = store.latest()
    assert index == (2 if committed else 1)
    assert values(store, record) == [[10 * index + s] * 3 for s in range(3)]
    assert faults.count(folder, "record-committed", index=index) == 1


CREATE = """
import sys
from dnmf.runs.folder import FolderStore
store = FolderStore.create_new(sys.argv[1], {"new": True}, overwrite=True)
store.commit(0, {"new": True})
"""


@pytest.mark.parametrize("point", ["plan-staged", "record-staged", "record-committed"])
def test_killed_while_replacing_a_run_loses_neither(tmp_path, point):
    old = FolderStore.create_new(tmp_path / "run", {"old": True})
    old.commit(0, {"old": True})
    with faults.active(tmp_path / "faults", [Fault(point, "kill")]):
        code = subprocess.run([sys.executable, "-c", CREATE, old.path]).returncode
    assert code == -signal.SIGKILL
    entries = os.listdir(tmp_path)
    aside = [name for name in entries if name.startswith(".run.replaced-")]
    assert len(aside) == 1  # still there: nothing was deleted before the new run's first commit
    assert FolderStore(tmp_path / aside[0]).record(0) == {"old": True}
    if point == "record-committed":
        assert FolderStore(tmp_path / "run").latest() == (0, {"new": True})
    else:
        creation = prepare_folder(str(tmp_path / "run"), True, ())  # a third try replaces again,
        creation.undo()  # fails, and brings the first one back
        assert FolderStore(tmp_path / "run").plan() == {"old": True}
        assert sorted(os.listdir(tmp_path)) == ["faults", "run"]
