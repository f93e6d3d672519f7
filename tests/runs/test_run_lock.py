"""The lock between processes of this host, and against those of others."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from dnmf.errors import RunError, RunLockedError
from dnmf.runs import lock as lock_module
from dnmf.runs.folder import FolderStore
from dnmf.runs.lock import RunLock, holder
from dnmf.runs.records import decode, encode

HOLD = """
import sys, time
from dnmf.runs.lock import RunLock
with RunLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def path(tmp_path):
    return FolderStore.create_new(tmp_path / "run", {}).path


def lock_file(path):
    return os.path.join(path, ".dnmf", "lock.json")


def rewrite(path, **changes):
    """Change what the lock's holder says of itself, in place."""
    with open(lock_file(path), "rb") as file:
        content = decode(file.read())
    with open(lock_file(path), "wb") as file:
        file.write(encode({**content, **changes}))


@pytest.fixture
def other(path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_free_lock_is_taken_and_given_back(path):
    assert holder(path) is None
    with RunLock(path) as lock:
        mine = holder(path)
        assert mine.pid == os.getpid()
        assert mine.host == socket.gethostname()
        assert not lock.lost
    assert holder(path) is None
    assert not os.path.exists(lock_file(path))
    with RunLock(path):
        pass


def test_a_living_holder_is_named(path, other):
    with pytest.raises(RunLockedError, match=f"process {other.pid} on .* since 20"):
        RunLock(path).__enter__()
    assert holder(path).pid == other.pid
    assert other.poll() is None


def test_one_process_does_not_hold_it_twice(path):
    with RunLock(path), pytest.raises(RunLockedError, match=str(os.getpid())):
        RunLock(path).__enter__()


def test_a_dead_process_of_this_host_is_replaced_at_once(path, other):
    other.kill()
    other.wait()
    began = time.monotonic()
    with RunLock(path):
        assert time.monotonic() - began < 2
        assert holder(path).pid == os.getpid()


def test_a_killed_process_that_nobody_waited_for_is_dead_too(path, other):
    other.kill()
    end = time.monotonic() + 10
    while holder(path) is not None and time.monotonic() < end:  # its parent has not waited
        time.sleep(0.01)
    with RunLock(path):
        assert holder(path).pid == os.getpid()


def test_another_process_with_the_same_pid_is_not_the_holder(path, other):
    rewrite(path, pid=os.getpid())  # lives, but started at another time
    assert holder(path) is None
    with RunLock(path):
        pass


@pytest.mark.parametrize("age", [0, 20])
def test_another_host_keeps_its_lock_for_a_lease(path, other, age):
    other.kill()
    other.wait()
    rewrite(path, host="elsewhere", machine="elsewhere boot pid")
    now = time.time()
    os.utime(lock_file(path), (now - age, now - age))
    with pytest.raises(RunLockedError, match=r"on elsewhere since .* try again in \d+ seconds"):
        RunLock(path).__enter__()
    os.utime(lock_file(path), (now - 31, now - 31))
    with RunLock(path):
        assert holder(path).pid == os.getpid()


def test_an_unreadable_lock_is_kept_for_a_lease(path):
    with open(lock_file(path), "w") as file:
        file.write("{")
    with pytest.raises(RunLockedError, match="unknown process"):
        RunLock(path).__enter__()
    os.utime(lock_file(path), (0, 0))
    with RunLock(path):
        pass


def test_heartbeats_keep_a_lock_alive(path):
    with RunLock(path, heartbeat=0.05):
        os.utime(lock_file(path), (0, 0))
        end = time.monotonic() + 10
        while os.stat(lock_file(path)).st_mtime < 1 and time.monotonic() < end:
            time.sleep(0.02)
        assert time.time() - os.stat(lock_file(path)).st_mtime < 5


def test_a_holder_that_was_replaced_notices_and_leaves_the_new_lock(path):
    with RunLock(path, heartbeat=0.05) as lock:
        os.unlink(lock_file(path))
        with RunLock(path):
            end = time.monotonic() + 10
            while not lock.lost and time.monotonic() < end:
                time.sleep(0.02)
            assert lock.lost
            lock.__exit__(None, None, None)
            assert holder(path) is not None
        assert holder(path) is None


def test_a_lock_that_was_taken_meanwhile_is_put_back(path):
    """Two find the same dead holder; the slower must not throw out the faster."""
    with RunLock(path):
        with open(lock_file(path), "rb") as file:
            living = decode(file.read())
        dead = dataclasses.replace(holder(path), token="dead", pid=1)
        RunLock(path)._put_aside((dead, 0.0))
        assert holder(path).token == living["token"]
    left = sorted(os.listdir(os.path.dirname(lock_file(path))))
    assert left == ["objects", "plan.json", "records"]


def test_processes_take_turns(path):
    code = """
import os, sys, time
from dnmf.errors import RunLockedError
from dnmf.runs.lock import RunLock
end = time.monotonic() + 20
while time.monotonic() < end:
    try:
        with RunLock(sys.argv[1]):
            handle = os.open(sys.argv[1] + "/inside", os.O_CREAT | os.O_EXCL)
            time.sleep(0.02)
            os.unlink(sys.argv[1] + "/inside")
            sys.exit(0)
    except RunLockedError:
        time.sleep(0.005)
sys.exit(5)
"""
    run = [sys.executable, "-c", code, path]
    processes = [subprocess.Popen(run) for _ in range(4)]
    assert [process.wait(30) for process in processes] == [0] * 4


def test_there_must_be_a_run(tmp_path):
    with pytest.raises(RunError, match="not a run"):
        RunLock(str(tmp_path)).__enter__()
    assert holder(str(tmp_path)) is None


def test_start_times_tell_processes_apart(other):
    assert lock_module._started(os.getpid()) is not None
    assert lock_module._started(other.pid) != lock_module._started(os.getpid())
    assert lock_module._started(2**22 + 5) is None


def test_an_interrupt_while_it_is_given_back_leaves_no_lock(path, monkeypatch):
    lock = RunLock(path).__enter__()
    heart, join = lock._thread, lock._thread.join

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(heart, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lock.__exit__(None, None, None)
    assert not os.path.exists(lock_file(path))
    join()


def test_a_lock_file_that_this_process_left_behind_is_not_held(path, monkeypatch):
    """A storage that fails for a moment must not lock the run for the life of a notebook."""
    unlink = os.unlink

    def fails(file):
        if os.fspath(file) == lock_file(path):
            raise OSError(5, "Input/output error")
        unlink(file)

    with monkeypatch.context() as patched, RunLock(path):
        patched.setattr(os, "unlink", fails)
    with open(lock_file(path), "rb") as file:
        assert decode(file.read())["pid"] == os.getpid()
    assert holder(path) is None
    with RunLock(path):
        assert holder(path).pid == os.getpid()
    assert not os.path.exists(lock_file(path))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("can't start new thread")])
def test_a_lock_whose_taking_is_cut_off_is_given_back(path, monkeypatch, error):
    def cut_off(thread):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", cut_off)
        with pytest.raises(type(error)):
            RunLock(path).__enter__()
    assert not os.path.exists(lock_file(path))
    assert lock_module._held == set()


def test_the_lock_is_looked_at_again_when_it_was_moved_by_mistake(path):
    """As `_put_aside` of another process does for a moment."""
    with RunLock(path) as lock:
        os.rename(lock_file(path), lock_file(path) + ".aside")
        back = threading.Timer(0.03, os.rename, (lock_file(path) + ".aside", lock_file(path)))
        back.start()
        lock.check()
        back.join()
        os.unlink(lock_file(path))
        with pytest.raises(RunLockedError, match=r"its lock is gone.*dnmf resume"):
            lock.check()
