"""A process that slept while another went on, or replaced its run: it ends, and harms nothing."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

import dnmf
from dnmf.errors import RunError, RunLockedError
from dnmf.launch import begin
from dnmf.runs import lock as lock_module
from dnmf.runs.folder import FolderStore
from dnmf.runs.lock import RunLock
from dnmf.steps.events import Committed, Planned, Progress
from dnmf.steps.serial import Serial

OPTIONS = {"seed": 1, "tol": 0, "max_passes": 6, "sample": 0, "segments": 2, "block_size": 4096}


class StoppedError(Exception):
    """What ends a fit in these tests."""


@pytest.fixture
def stored(tmp_path):
    """Two matrices of the same shape."""
    rng = np.random.default_rng(0)
    for name in ("V", "other"):
        np.save(tmp_path / f"{name}.npy", rng.random((200, 20)))
    return tmp_path


@pytest.fixture
def store(tmp_path):
    made = FolderStore.create_new(tmp_path / "run", {})
    made.commit(0, {})
    return made


def stop_at(kind):
    def listen(event):
        if isinstance(event, Committed) and event.kind == kind:
            raise StoppedError

    return listen


def fit(stored, out, name="V", **more):
    return dnmf.fit(stored / f"{name}.npy", 3, out=out, executor=Serial(), **OPTIONS, **more)


def take_over(path):
    """Hold the lock as a process of another host does, a lease after the last sign of life."""
    file = os.path.join(path, ".dnmf", "lock.json")
    os.utime(file, (1, 1))
    machine, lock_module._machine = lock_module._machine, lambda: "another host"
    try:
        return RunLock(path).__enter__()
    finally:
        lock_module._machine = machine


def test_after_a_damaged_record_the_number_before_it_counts(store):
    store.commit(1, {"by": "first"})
    with open(os.path.join(store.path, ".dnmf", "records", "2.json"), "w") as file:
        file.write("{")
    os.unlink(os.path.join(store.path, ".dnmf", "records", "1.json"))
    store.commit(1, {"by": "second"})
    assert store.record(1) == {"by": "second"}


@pytest.mark.parametrize("change", ["create", "commit", "drop"])
def test_nothing_is_changed_once_the_lock_is_lost(tmp_path, change):
    changes = {
        "create": lambda store: store.create({}),
        "commit": lambda store: store.commit(0, {}),
        "drop": lambda store: store.drop([], 0),
    }
    late = FolderStore.create_new(tmp_path / "run", None if change == "create" else {})
    with late.locked():
        other = take_over(late.path)
        theirs = FolderStore(late.path).put("W/1/0-0", np.ones(3))
        with pytest.raises(RunLockedError, match=r"on .* took it over.* dnmf resume"):
            changes[change](late)
        late.discard()
        assert late.get(theirs).tolist() == [1, 1, 1]
    assert late.latest() is None
    assert other._is_mine()
    other.__exit__(None, None, None)


def test_what_is_missing_because_another_process_went_on_is_told_so(store):
    ref = store.put("W/1/0-0", np.ones(3))

    def slept():
        with store.locked():
            taken.append(take_over(store.path))
            FolderStore(store.path).drop([], 0)
            store.get(ref)

    taken = []
    with pytest.raises(RunLockedError, match="took it over"):
        slept()
    taken[0].__exit__(None, None, None)
    with pytest.raises(RunError, match=r"is missing.*the run went on.*--overwrite"), store.locked():
        store.get(ref)


def test_a_client_that_slept_past_a_takeover_harms_nothing(stored):
    """It wakes before its commit, when the other one has dropped the record of that number."""
    undisturbed = fit(stored, stored / "undisturbed")
    out, asleep, wake, said = stored / "run", threading.Event(), threading.Event(), []

    def sleep(event):
        at_the_end = isinstance(event, Progress) and event.done == 2
        if at_the_end and (event.kind, event.number) == ("pass", 2):
            asleep.set()
            wake.wait(60)

    def first():
        with pytest.raises(RunLockedError) as caught:
            fit(stored, out, on_event=sleep)
        said.append(str(caught.value))

    thread = threading.Thread(target=first)
    thread.start()
    assert asleep.wait(60)
    commits = []

    def count(event):
        commits.extend([event] if isinstance(event, Committed) else [])
        if len(commits) == 4 and not wake.is_set():
            wake.set()
            thread.join(60)

    take_over(str(out)).__exit__(None, None, None)
    resumed = dnmf.resume(out, executor=Serial(), on_event=count)
    assert "another process" in said[0] or "no longer works" in said[0]
    assert resumed.H[:].tobytes() == undisturbed.H[:].tobytes()
    assert resumed.W[:].tobytes() == undisturbed.W[:].tobytes()


def test_a_run_that_is_staged_is_not_replaced(stored, monkeypatch):
    """The lock is held from the making of the folder on: copying V may take minutes."""
    put_start = begin.put_start
    seen = []

    def meanwhile(*arguments):
        monkeypatch.setattr(begin, "put_start", put_start)
        with pytest.raises(RunLockedError, match="is being worked on by process"):
            fit(stored, stored / "run", "other", overwrite=True)
        seen.append(True)
        return put_start(*arguments)

    monkeypatch.setattr(begin, "put_start", meanwhile)
    result = fit(stored, stored / "run")
    assert seen == [True]
    assert result.fingerprint == fit(stored, None).fingerprint


def test_a_run_that_is_about_to_begin_is_not_replaced(stored):
    def meanwhile(event):
        if isinstance(event, Planned):
            with pytest.raises(RunLockedError, match="is being worked on by process"):
                fit(stored, stored / "run", "other", overwrite=True)

    result = fit(stored, stored / "run", on_event=meanwhile)
    assert result.fingerprint == fit(stored, None).fingerprint


def test_the_lock_of_a_folder_that_was_replaced_is_not_taken(tmp_path):
    late = FolderStore.create_new(tmp_path / "run", None)
    other = FolderStore.create_new(tmp_path / "run", {"by": "the other"}, overwrite=True)
    with pytest.raises(RunLockedError, match="replaced by another process"), late.locked():
        pass
    late.discard()
    assert other.plan() == {"by": "the other"}
    other.commit(0, {})


def test_a_failed_start_does_not_remove_another_ones_run(tmp_path):
    late = FolderStore.create_new(tmp_path / "run", None)
    other = FolderStore.create_new(tmp_path / "run", {"by": "the other"}, overwrite=True)
    with other.locked():
        late.discard()
        ref = other.put("W/0/0-0", np.zeros(2))
        other.commit(0, {"kind": "scan"})
    assert FolderStore(tmp_path / "run").get(ref).tolist() == [0, 0]
    assert sorted(os.listdir(tmp_path)) == ["run"]


def test_a_lock_that_cannot_be_taken_leaves_no_run_behind(stored, monkeypatch):
    fit(stored, stored / "run")

    def refused(lock):
        raise RunError("cannot lock it")

    with monkeypatch.context() as patched:
        patched.setattr(RunLock, "_take", refused)
        with pytest.raises(RunError, match="cannot lock it"):
            fit(stored, stored / "run", "other", overwrite=True)
        with pytest.raises(RunError, match="cannot lock it"):
            fit(stored, stored / "new", "other")
    assert sorted(os.listdir(stored)) == ["V.npy", "other.npy", "run"]
    assert dnmf.open(stored / "run").done


def test_a_run_that_was_overwritten_before_its_lock_was_taken_is_not_gone_on_with(stored):
    with pytest.raises(StoppedError):
        fit(stored, stored / "run", on_event=stop_at("pass"))

    class Slow(Serial):
        asked = False

        def resources(self, needs=None):
            if not self.asked:  # before the run's lock is taken
                self.asked = True
                with pytest.raises(StoppedError):
                    fit(stored, stored / "run", "other", overwrite=True, on_event=stop_at("scan"))
            return super().resources(needs)

    with pytest.raises(RunLockedError, match="was overwritten by another process"):
        dnmf.resume(stored / "run", executor=Slow())
    result = dnmf.resume(stored / "run", executor=Serial())
    assert result.fingerprint == fit(stored, None, "other").fingerprint
