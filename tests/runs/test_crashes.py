"""SIGKILL while a run is replaced: neither the old run nor the new one is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from dnmf.runs.creation import prepare_folder
from dnmf.runs.folder import FolderStore
from dnmf.testing import faults
from dnmf.testing.faults import Fault

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
