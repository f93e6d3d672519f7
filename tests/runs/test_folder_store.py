"""Damage, refusals and races of the run folder."""

from __future__ import annotations

import errno
import json
import os
import pickle
import stat
import threading
import time

import numpy as np
import pytest

from dnmf.errors import RunError, TransientError
from dnmf.runs.base import ObjectRef
from dnmf.runs.folder import FolderStore
from dnmf.runs.layout import FORMAT
from dnmf.runs.memory import MemoryStore
from dnmf.testing import faults
from dnmf.testing.faults import Fault


@pytest.fixture
def store(tmp_path):
    return FolderStore.create_new(tmp_path / "run", {"a": 1})


def object_path(store, ref):
    return os.path.join(store.path, ".dnmf", "objects", f"{ref.name}.npy")


def record_path(store, index):
    return os.path.join(store.path, ".dnmf", "records", f"{index}.json")


def _put_and_commit(store):
    store.put("W/0/0-1", np.zeros(5))
    store.commit(0, {})


def all_files(folder):
    return sorted(os.path.join(d, f) for d, _, files in os.walk(folder) for f in files)


def test_another_process_makes_it_from_its_path(store):
    ref = store.put("H/0", np.arange(3))
    other = pickle.loads(pickle.dumps(store))
    assert other.path == store.path
    assert other.get(ref).tolist() == [0, 1, 2]
    assert other.plan() == {"a": 1}
    with pytest.raises(RunError, match="not made by this process"):
        other.discard()


def test_a_run_in_memory_refuses_to_travel():
    with pytest.raises(RunError, match="give a run folder"):
        pickle.dumps(MemoryStore())


def test_folders_and_files_are_private(store):
    store.put("W/0/0-1", np.zeros(2))
    store.commit(0, {})
    for folder, _, files in os.walk(store.path):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        for name in files:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600


@pytest.mark.parametrize("url", ["s3://bucket/run", "gs://b/r", "simplecache::s3://b/r"])
def test_object_stores_are_refused(url):
    with pytest.raises(RunError, match="cannot be a run folder"):
        FolderStore(url)


def test_file_urls_and_home_are_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert FolderStore(f"file://{tmp_path}/a%20b").path == f"{tmp_path}/a b"
    assert FolderStore("~/run").path == f"{tmp_path}/run"
    with pytest.raises(RunError, match="empty"):
        FolderStore("")


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a//b", "a/../b", ".hidden", "a/.b", "", "a b"])
def test_names_cannot_leave_the_folder(store, name):
    with pytest.raises(RunError, match="no name of an object"):
        store.put(name, np.zeros(1))
    with pytest.raises(RunError, match="no name of an object"):
        store.get(ObjectRef(name, ""))


def test_python_objects_are_refused(store):
    with pytest.raises(RunError, match="Python objects"):
        store.put("W", np.array([{}], dtype=object))


@pytest.mark.parametrize("where", ["head", "middle", "last"])
def test_any_flipped_bit_is_found(store, where):
    ref = store.put("W/1/0-2", np.arange(100.0))
    path = object_path(store, ref)
    with open(path, "r+b") as file:
        position = {"head": 70, "middle": 500, "last": os.path.getsize(path) - 1}[where]
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 4]))
    with pytest.raises(RunError, match=r"W/1/0-2") as caught:
        store.get(ref)
    assert "--overwrite" in str(caught.value)


@pytest.mark.parametrize("size", [0, 5, 60, 128, 400, 927])
def test_a_truncated_object_is_found(store, size):
    ref = store.put("W", np.arange(100.0))
    os.truncate(object_path(store, ref), size)
    with pytest.raises(RunError, match="truncated or damaged"):
        store.get(ref)


def test_pickles_are_never_loaded(store):
    ref = store.put("W", np.zeros(2))
    np.save(object_path(store, ref), np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(RunError, match="damaged"):
        store.get(ref)
    with open(object_path(store, ref), "wb") as file:
        pickle.dump(np.zeros(2), file)
    with pytest.raises(RunError, match="damaged"):
        store.get(ref)


@pytest.mark.parametrize("damage", ["truncate", "empty", "flip", "garbage"])
def test_a_damaged_record_is_passed_over_and_can_be_committed_again(store, damage):
    store.commit(0, {"i": 0})
    store.commit(1, {"i": 1, "text": "x" * 100})
    path = record_path(store, 1)
    with open(path, "rb") as file:
        good = file.read()
    bad = {"truncate": good[:-20], "empty": b"", "flip": good.replace(b"xx", b"xy", 1)}
    with open(path, "wb") as file:
        file.write(bad.get(damage, b'{"checksum": "00000000", "content": {}}\n'))
    assert store.latest() == (0, {"i": 0})
    assert len(store.damaged) == 1
    assert "record 1" in store.damaged[0]
    with pytest.raises(RunError, match=r"1\.json"):
        store.record(1)
    store.commit(1, {"i": "again"})
    assert store.latest() == (1, {"i": "again"})
    assert store.damaged == []


def test_plan_of_another_format_is_refused(store):
    path = os.path.join(store.path, ".dnmf", "plan.json")
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(text.replace(f'"format":{FORMAT}', '"format":2'))
    with pytest.raises(RunError, match=f"format 2, this version of dnmf has format {FORMAT}"):
        store.plan()
    with open(path, "w") as file:
        file.write(text[:-9])
    with pytest.raises(RunError, match="damaged"):
        store.plan()


def test_a_folder_without_plan_is_no_run(tmp_path):
    with pytest.raises(RunError, match="is not a run of dnmf"):
        FolderStore(tmp_path).plan()
    with pytest.raises(RunError, match="is not a run of dnmf"):
        FolderStore(tmp_path / "absent").plan()


REFUSALS = [
    ("enospc", "No space left on device", "Free some space"),
    ("erofs", "Read-only file system", "give another folder"),
    ("eacces", "Permission denied", "permissions"),
]


@pytest.mark.parametrize(("action", "why", "remedy"), REFUSALS)
@pytest.mark.parametrize("point", ["object-staged", "record-staged"])
def test_a_storage_that_refuses_is_named(store, tmp_path, action, why, remedy, point):
    before = all_files(store.path)
    with (
        faults.active(tmp_path / "faults", [Fault(point, action)]) as folder,
        pytest.raises(RunError, match=why) as caught,
    ):
        _put_and_commit(store)
    assert faults.struck(folder) == 1
    assert store.path in str(caught.value)
    assert remedy in str(caught.value)
    left = [path for path in all_files(store.path) if path not in before]
    assert [os.path.basename(path) for path in left if ".tmp-" in path] == []
    assert len(left) == (1 if point == "record-staged" else 0)
    store.commit(0, {"now": "fine"})
    assert store.latest() == (0, {"now": "fine"})


def test_failures_that_may_pass_are_told_apart(store, tmp_path):
    with faults.active(tmp_path / "faults", [Fault("object-staged", "raise-oserror")]):
        with pytest.raises(TransientError, match="Input/output error"):
            store.put("W", np.zeros(1))
        assert store.get(store.put("W", np.zeros(1))).tolist() == [0]


def test_a_folder_that_cannot_be_written_is_named():
    with pytest.raises(RunError, match="/proc"):  # no superuser writes there either
        FolderStore.create_new("/proc/dnmf-run", {})


def test_a_path_below_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Not a directory"):
        FolderStore.create_new(tmp_path / "file" / "run", {})


def test_an_interrupt_while_writing_leaves_no_temporary_file(store, tmp_path):
    before = all_files(store.path)
    with (
        faults.active(tmp_path / "faults", [Fault("object-staged", "interrupt")]),
        pytest.raises(KeyboardInterrupt),
    ):
        store.put("W", np.zeros(5))
    assert all_files(store.path) == before


def test_drop_removes_what_a_killed_writer_left(store):
    kept = store.put("W/0/0-0", np.zeros(2))
    litter = os.path.join(store.path, ".dnmf", "objects", "W", "0", ".tmp-deadbeef")
    with open(litter, "w") as file:
        file.write("half")
    store.put("W/1/0-0", np.zeros(2))
    store.drop([kept.name], 0)
    assert os.path.exists(litter)  # its writer may be alive
    for path in (litter, os.path.join(store.path, ".dnmf", "objects", "W", "1")):
        os.utime(path, (0, 0))
    store.drop([kept.name], 0)
    assert all_files(os.path.join(store.path, ".dnmf", "objects")) == [object_path(store, kept)]
    assert os.listdir(os.path.join(store.path, ".dnmf", "objects", "W")) == ["0"]


def test_drops_and_late_writers_do_not_hurt_each_other(store):
    """Zombies write while the driver deletes: everybody's calls succeed."""
    kept = store.put("W/0/0-0", np.arange(3))
    stop, errors, written = threading.Event(), [], []

    def late(number):
        try:
            while not stop.is_set():
                written.append(store.put(f"W/{number}/0-1", np.zeros(3)))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=late, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 0.7
    while time.monotonic() < end:
        FolderStore(store.path).drop([kept.name], 0)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(written) > 10
    assert store.get(kept).tolist() == [0, 1, 2]


def test_a_writer_does_not_bring_a_deleted_run_back(store):
    store.discard()
    with pytest.raises(RunError, match="gone"):
        store.put("W", np.zeros(1))
    assert not os.path.exists(store.path)


def test_records_are_plain_json(store):
    store.commit(0, {"state": {"x": [1, 2.5, None, True]}})
    with open(record_path(store, 0)) as file:
        assert json.load(file)["content"] == {"state": {"x": [1, 2.5, None, True]}}


def test_what_is_deleted_while_the_caller_goes_on_is_gone_when_it_is_waited_for(store):
    kept, lost = store.put("W/0", np.zeros(2)), store.put("W/1", np.zeros(2))
    store.drop([kept.name], 0, wait=False)
    later = store.put("W/2", np.zeros(2))  # what is stored meanwhile stays
    store.wait_for_deletion()
    assert not os.path.exists(object_path(store, lost))
    assert os.path.exists(object_path(store, kept))
    assert os.path.exists(object_path(store, later))


def test_an_error_of_a_deletion_is_raised_where_it_is_waited_for(store, monkeypatch):
    store.put("W/0", np.zeros(2))

    def unlink(path):
        raise OSError(errno.EROFS, "Read-only file system", path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", unlink)
        store.drop([], 0, wait=False)
        with pytest.raises(RunError, match="delete from"):
            store.wait_for_deletion()
    store.wait_for_deletion()  # it is told once
