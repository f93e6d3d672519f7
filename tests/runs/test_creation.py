"""What may be overwritten, and that a failed start leaves nothing behind."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
import zarr

from dnmf.errors import OutputExistsError, RunError, RunLockedError
from dnmf.runs.folder import FolderStore
from dnmf.runs.lock import RunLock
from dnmf.runs.published import create_arrays, finish, write_H, write_W
from dnmf.testing import faults
from dnmf.testing.faults import Fault


def make_run(path, passes=2):
    store = FolderStore.create_new(path, {"first": True})
    for index in range(passes + 1):
        history = [{"pass": p + 1} for p in range(index)]
        store.commit(index, {"state": {}, "history": history})
    return store


def make_result(path):
    store = make_run(path)
    create_arrays(store.path, 4, 3, 2, "f4", 2)
    write_W(store.path, 0, np.ones((4, 2), "f4"))
    write_H(store.path, 0, np.ones((2, 3), "f4"))
    finish(store.path, {"objective": 1.0}, {"objective": [2.0, 1.0]})
    return store


def test_a_new_run_makes_parents_and_discard_removes_them(tmp_path):
    store = FolderStore.create_new(tmp_path / "a" / "b" / "run", {"x": 1})
    assert FolderStore(tmp_path / "a/b/run").plan() == {"x": 1}
    store.put("W", np.zeros(3))
    store.discard()
    assert os.listdir(tmp_path) == []
    with pytest.raises(RunError, match="not made by this process"):
        store.discard()


def test_discard_leaves_parents_that_hold_something_else(tmp_path):
    store = FolderStore.create_new(tmp_path / "a" / "run", {})
    (tmp_path / "a" / "other").write_text("mine")
    store.discard()
    assert os.listdir(tmp_path / "a") == ["other"]


def test_a_run_with_commits_is_not_discarded(tmp_path):
    store = make_run(tmp_path / "run")
    with pytest.raises(RunError, match="dnmf resume"):
        store.discard()
    assert store.latest()[0] == 2


def test_an_existing_run_is_refused_with_its_progress(tmp_path):
    make_run(tmp_path / "run", passes=2)
    with pytest.raises(OutputExistsError, match=r"pass 2 is committed.*dnmf resume .*run"):
        FolderStore.create_new(tmp_path / "run", {})
    make_run(tmp_path / "scanned", passes=0)
    with pytest.raises(OutputExistsError, match="scan is committed"):
        FolderStore.create_new(tmp_path / "scanned", {})
    FolderStore.create_new(tmp_path / "begun", {})
    with pytest.raises(OutputExistsError, match="nothing is committed"):
        FolderStore.create_new(tmp_path / "begun", {})


def test_a_run_may_get_its_plan_later(tmp_path):
    store = FolderStore.create_new(tmp_path / "run", None)
    with pytest.raises(RunError, match="cut off before it began"):
        store.plan()
    with pytest.raises(OutputExistsError, match="cut off before it began") as caught:
        FolderStore.create_new(tmp_path / "run", None)
    assert "resume" not in str(caught.value)
    store.create({"late": True})
    assert store.plan() == {"late": True}
    store.discard()
    FolderStore.create_new(tmp_path / "run", None)
    FolderStore.create_new(tmp_path / "run", {}, overwrite=True).commit(0, {})
    assert os.listdir(tmp_path) == ["run"]


def test_a_finished_result_is_refused_as_such(tmp_path):
    make_result(tmp_path / "run")
    with pytest.raises(OutputExistsError, match=r"finished result.*--overwrite"):
        FolderStore.create_new(tmp_path / "run", {})


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_dnmf_did_not_make_is_never_replaced(tmp_path, overwrite):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("mine")
    zarr.create_group(tmp_path / "group.zarr").create_array("x", shape=(3,), dtype="f4")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for name, what in (
        ("folder", "thesis.tex"),
        ("file", "is a file"),
        ("group.zarr", "did not make"),
        ("link", "thesis.tex"),
    ):
        with pytest.raises(OutputExistsError, match=what):
            FolderStore.create_new(tmp_path / name, {}, overwrite=overwrite)
    assert (tmp_path / "folder" / "thesis.tex").read_text() == "years of work"
    assert (tmp_path / "file").read_text() == "mine"
    assert zarr.open_array(tmp_path / "group.zarr" / "x").shape == (3,)


@pytest.mark.parametrize("make", [make_run, make_result])
def test_overwrite_replaces_runs_and_results_at_the_first_commit(tmp_path, make):
    make(tmp_path / "run")
    store = FolderStore.create_new(tmp_path / "run", {"second": True}, overwrite=True)
    assert store.plan() == {"second": True}
    assert store.latest() is None
    assert len(os.listdir(tmp_path)) == 2  # the old one is set aside
    store.commit(0, {})
    assert os.listdir(tmp_path) == ["run"]
    assert os.listdir(tmp_path / "run") == [".dnmf"]


def test_a_failed_replacement_brings_the_old_result_back(tmp_path):
    make_result(tmp_path / "run")
    for _ in range(2):
        FolderStore.create_new(tmp_path / "run", {}, overwrite=True).discard()
        assert os.listdir(tmp_path) == ["run"]
        assert zarr.open_group(tmp_path / "run", mode="r")["W"].shape == (4, 2)


def test_an_empty_folder_is_used_only_with_overwrite(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(OutputExistsError, match="empty folder"):
        FolderStore.create_new(tmp_path / "run", {})
    store = FolderStore.create_new(tmp_path / "run", {"x": 1}, overwrite=True)
    assert store.plan() == {"x": 1}
    store.discard()
    assert os.listdir(tmp_path / "run") == []


def test_a_result_with_foreign_files_is_not_replaced(tmp_path):
    make_result(tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"notes\.txt"):
        FolderStore.create_new(tmp_path / "run", {}, overwrite=True)
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_what_contains_the_data_is_not_replaced(tmp_path):
    make_result(tmp_path / "run")
    (tmp_path / "alias").symlink_to(tmp_path / "run" / "W")
    for source in (tmp_path / "run" / "W", str(tmp_path / "run"), tmp_path / "alias"):
        with pytest.raises(OutputExistsError, match="contains the data"):
            FolderStore.create_new(tmp_path / "run", {}, overwrite=True, protected=[source])
    elsewhere = ["s3://bucket/x", tmp_path / "run-2"]
    FolderStore.create_new(tmp_path / "run", {}, overwrite=True, protected=elsewhere)


def test_a_run_that_somebody_works_on_is_not_replaced(tmp_path):
    store = make_run(tmp_path / "run")
    with RunLock(store.path), pytest.raises(RunLockedError, match="is being worked on by process"):
        FolderStore.create_new(tmp_path / "run", {}, overwrite=True)
    FolderStore.create_new(tmp_path / "run", {}, overwrite=True)


@pytest.mark.parametrize("before", ["nothing", "empty", "result"])
def test_a_disk_that_is_full_at_the_start_leaves_all_as_it_was(tmp_path, before):
    path = tmp_path / "run"
    if before == "empty":
        path.mkdir()
    if before == "result":
        make_result(path)
    listed = sorted(os.walk(tmp_path))
    with (
        faults.active(tmp_path.parent / f"{tmp_path.name}-f", [Fault("plan-staged", "enospc")]),
        pytest.raises(RunError, match="No space left"),
    ):
        FolderStore.create_new(path, {}, overwrite=True)
    assert sorted(os.walk(tmp_path)) == listed


def test_one_of_many_that_create_the_same_run_wins(tmp_path):
    won, lost = [], []

    def create(number):
        try:
            won.append(FolderStore.create_new(tmp_path / "deep" / "run", {"by": number}))
        except OutputExistsError:
            lost.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert len(lost) == 7
    assert won[0].plan()["by"] not in lost
