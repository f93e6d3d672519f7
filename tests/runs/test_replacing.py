"""What is replaced comes back wherever its replacement fails, and goes when that is begun."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress

import pytest

import dnmf
from dnmf.errors import RunError, RunLockedError
from dnmf.runs import creation as creation_module
from dnmf.runs.creation import Creation, prepare_folder
from dnmf.runs.folder import FolderStore
from dnmf.runs.lock import RunLock
from dnmf.steps.serial import Serial
from dnmf.testing import faults
from dnmf.testing.faults import Fault

OPTIONS = {"seed": 1, "max_passes": 2, "tol": 0, "executor": Serial()}


def make_run(path):
    store = FolderStore.create_new(path, {"old": True})
    store.commit(0, {"old": True})
    return store


def is_old(path):
    plan = os.path.join(path, ".dnmf", "plan.json")
    return os.path.exists(plan) and FolderStore(path).latest() == (0, {"old": True})


STEPS = ["make_folder", "create_file", "sync_folder"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
@pytest.mark.parametrize("moment", range(14))
def test_a_failure_at_any_moment_brings_the_old_run_back(tmp_path, monkeypatch, error, moment):
    """Whichever call it is that fails, before what it does or after it."""
    make_run(tmp_path / "run")
    calls = []

    def failing(real):
        def call(*arguments):
            calls.append(real)
            if len(calls) == moment // 2 + 1:
                if moment % 2:
                    real(*arguments)
                raise error
            real(*arguments)

        return call

    with monkeypatch.context() as patched:
        for name in STEPS:
            patched.setattr(creation_module, name, failing(getattr(creation_module, name)))
        with pytest.raises((RunError, KeyboardInterrupt)):
            FolderStore.create_new(tmp_path / "run", {}, overwrite=True)
    assert len(calls) > moment // 2
    assert os.listdir(tmp_path) == ["run"]
    assert is_old(tmp_path / "run")


@pytest.mark.parametrize("moment", range(7))
@pytest.mark.parametrize("stub", [False, True])
def test_killed_at_any_moment_the_old_run_can_be_found(tmp_path, monkeypatch, moment, stub):
    """At its path, or named by what is there; and the next one replaces that."""
    run, calls = tmp_path / "run", []
    make_run(run)
    if stub:
        prepare_folder(str(run), True, ())

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == moment + 1:
            raise KeyboardInterrupt
        return real[len(arguments) > 1](*arguments)

    real = [creation_module.make_folder, creation_module.create_file]
    with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
        patched.setattr(creation_module, "make_folder", killed)
        patched.setattr(creation_module, "create_file", killed)
        patched.setattr(creation_module, "sync_folder", lambda folder: None)
        patched.setattr(Creation, "undo", lambda self: None)
        prepare_folder(str(run), True, ())
    assert is_old(run) or is_old(creation_module._replaced(str(run)))
    FolderStore.create_new(run, {}, overwrite=True).discard()
    assert is_old(run)
    for entry in os.scandir(tmp_path):
        os.utime(entry, (0, 0))
    FolderStore.create_new(run, {}, overwrite=True).commit(0, {})
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("name", [os.fsdecode(b"r\xe9sultat"), "n" * 245], ids=["latin", "long"])
def test_any_name_is_replaced_and_comes_back(tmp_path, name):
    path = os.path.join(tmp_path, name)
    make_run(path)
    FolderStore.create_new(path, {}, overwrite=True).discard()
    assert is_old(path)
    FolderStore.create_new(path, {"new": True}, overwrite=True).commit(0, {})
    assert FolderStore(path).plan() == {"new": True}
    assert os.listdir(tmp_path) == [name]


def test_a_lock_that_was_taken_after_the_look_keeps_its_run(tmp_path, monkeypatch):
    store = make_run(tmp_path / "run")
    lock = RunLock(store.path)
    real = creation_module._check_replaceable

    def then_taken(*arguments):
        real(*arguments)
        lock.__enter__()

    monkeypatch.setattr(creation_module, "_check_replaceable", then_taken)
    with pytest.raises(RunLockedError, match="is being worked on by process"):
        FolderStore.create_new(store.path, {}, overwrite=True)
    assert is_old(store.path)
    lock.check()
    lock.__exit__(None, None, None)


@pytest.mark.parametrize("entry", [".dnmf", "records", "replaced", "objects"])
def test_a_run_killed_while_its_folder_is_made_is_replaced(tmp_path, entry):
    """Whatever is not there yet of it."""
    make_run(tmp_path / "run")
    prepare_folder(str(tmp_path / "run"), True, ())
    state = tmp_path / "run" / ".dnmf"
    for name in {
        ".dnmf": ["records", "replaced", "objects"],
        "records": ["replaced", "objects"],
        "replaced": ["objects"],
        "objects": ["records"],  # as versions before made it
    }[entry]:
        shutil.rmtree(state / name) if (state / name).is_dir() else os.unlink(state / name)
    FolderStore.create_new(tmp_path / "run", {"new": True}, overwrite=True).commit(0, {})
    assert FolderStore(tmp_path / "run").plan() == {"new": True}


def test_what_was_replaced_goes_when_the_run_is_gone_on_with(tmp_path, V):
    dnmf.fit(V, 2, out=tmp_path / "run", **OPTIONS)
    stop = Fault("record-committed", "interrupt", {"index": 0})
    with faults.active(tmp_path / "faults", [stop]), pytest.raises(KeyboardInterrupt):
        dnmf.fit(V, 3, out=tmp_path / "run", overwrite=True, **OPTIONS)
    assert len([name for name in os.listdir(tmp_path) if ".run.replaced-" in name]) == 1
    assert dnmf.resume(tmp_path / "run", executor=Serial()).k == 3
    assert sorted(os.listdir(tmp_path)) == ["faults", "run"]
    assert "replaced" not in os.listdir(tmp_path / "run" / ".dnmf")


@pytest.mark.parametrize("again", ["resume", "fit"])
def test_a_run_killed_after_its_publication_is_cleaned_up(tmp_path, V, again):
    run = tmp_path / "run"
    stop = Fault("result-published", "interrupt", {"group": ""})
    with faults.active(tmp_path / "faults", [stop]), pytest.raises(KeyboardInterrupt):
        dnmf.fit(V, 2, out=run, **OPTIONS)
    (run / ".dnmf" / "staged.zarr").mkdir()
    assert objects(run)
    if again == "resume":
        with RunLock(str(run)):  # somebody is about to do it, and is not disturbed
            assert dnmf.resume(run, executor=Serial()).done
            assert objects(run)
    result = (
        dnmf.resume(run, executor=Serial())
        if again == "resume"
        else dnmf.fit(V, 2, out=run, resume=True, **OPTIONS)
    )
    assert result.W[:].shape == (100, 2)
    assert not objects(run)
    assert sorted(os.listdir(run / ".dnmf")) == ["objects", "plan.json", "records", "zarr.json"]


def objects(run):
    return [name for _, _, names in os.walk(run / ".dnmf" / "objects") for name in names]


def test_a_finished_run_on_a_read_only_storage_is_opened(tmp_path, V, monkeypatch):
    run = tmp_path / "run"
    stop = Fault("result-published", "interrupt", {"group": ""})
    with faults.active(tmp_path / "faults", [stop]), pytest.raises(KeyboardInterrupt):
        dnmf.fit(V, 2, out=run, **OPTIONS)

    def refused(lock):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(RunLock, "_take", refused)
    assert dnmf.resume(run, executor=Serial()).done


@pytest.mark.parametrize("stub", [False, True])
@pytest.mark.parametrize(("number", "after"), [(1, False), (1, True), (2, False), (2, True)])
def test_a_rename_that_is_cut_off_brings_the_old_run_back(
    tmp_path, monkeypatch, stub, number, after
):
    run, rename, calls = tmp_path / "run", os.rename, []
    make_run(run)
    if stub:
        prepare_folder(str(run), True, ())

    def cut_off(*arguments):
        calls.append(arguments)
        if len(calls) != number or after:
            rename(*arguments)
        if len(calls) == number:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", cut_off)
        with pytest.raises(KeyboardInterrupt):
            prepare_folder(str(run), True, ())
    if stub and (number, after) == (1, False):  # nothing was moved: the stub is still there
        prepare_folder(str(run), True, ()).undo()
    assert os.listdir(tmp_path) == ["run"]
    assert is_old(run)
