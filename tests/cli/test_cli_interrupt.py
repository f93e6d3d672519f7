"""Ctrl-C, SIGTERM, a terminal and a pipe: the program in processes of its own."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from contextlib import contextmanager, suppress

import numpy as np
import psutil  # a dependency of distributed
import pytest
import zarr
from cli_tools import command, planted
from marks import slow

import dnmf
from dnmf.cli.interrupt import resumable
from dnmf.errors import ResumableError, RunError
from dnmf.testing import faults

FIT = ("-k", 4, "--tol", 0, "--max-passes", 6, "--block-size", 1200)


def test_ctrl_c_leaves_a_run_that_resume_finishes_bit_for_bit(program, run, V, tmp_path):
    whole = program("fit", V, *FIT, "--out", tmp_path / "whole.zarr", "--workers", 0)
    assert whole.returncode == 0, whole.stderr
    assert whole.stderr == ""  # a pipe: no progress

    path = tmp_path / "cut.zarr"
    ctrl_c = faults.Fault("record-committed", "interrupt", {"index": 3})
    where = faults.plan(tmp_path / "faults", [ctrl_c])
    cut = program("fit", V, *FIT, "--out", path, "--workers", 0, DNMF_FAULTS=where)
    assert faults.struck(where) == 1
    assert cut.returncode == 3, cut.stderr
    assert f"dnmf resume {path} --workers 0" in cut.stderr
    assert "Traceback" not in cut.stderr
    committed = len(dnmf.open(path).history)
    assert 0 < committed < 6

    assert f"interrupted; go on with: dnmf resume {path}" in run("inspect", path).stdout

    going_on = run("resume", path, "--workers", 0)
    assert going_on.exit_code == 0, going_on.output
    for name in ("W", "H"):
        mine, undisturbed = (
            np.asarray(getattr(dnmf.open(tmp_path / folder), name))
            for folder in ("cut.zarr", "whole.zarr")
        )
        np.testing.assert_array_equal(mine, undisturbed)

    steps = dnmf.open(path).details["executed"]
    undisturbed = dnmf.open(tmp_path / "whole.zarr").details["executed"]
    assert [step[:2] for step in steps] == [step[:2] for step in undisturbed]  # none twice
    assert len({pid for _, _, _, pid, _ in steps}) == 2
    assert "by 2 process(es)" in run("inspect", path).stdout

    again = run("resume", path)
    assert again.exit_code == 0
    assert "nothing to do" in again.stdout


@pytest.mark.parametrize(
    ("workers", "point", "match", "action"),
    [
        (0, "record-staged", {"index": 2}, "raise-oserror"),
        (0, "record-staged", {"index": 2}, "enospc"),
        (0, "object-staged", {"name": "2/W-0-*"}, "enospc"),
        pytest.param(1, "object-staged", {"name": "2/W-0-*"}, "enospc", marks=pytest.mark.cluster),
    ],
)
def test_what_cannot_be_written_ends_resumably(program, V, tmp_path, workers, point, match, action):
    path = tmp_path / "my fit.zarr"
    where = faults.plan(tmp_path / "faults", [faults.Fault(point, action, match)])
    arguments = ("fit", V, *FIT, "--out", path, "--workers", workers)
    cut = program(*arguments, DNMF_FAULTS=where)
    assert faults.struck(where) == 1
    assert cut.returncode == 3, cut.stderr
    assert f"go on with dnmf resume:\ndnmf resume '{path}' --workers {workers}" in cut.stderr
    assert ("No space" if action == "enospc" else "Input/output error") in cut.stderr
    assert not dnmf.open(path).done


def test_what_cannot_be_written_before_there_is_a_run(tmp_path):
    with pytest.raises(RunError, match="full"), resumable(str(tmp_path / "none.zarr"), ""):
        raise RunError("full") from OSError(28, "No space")


def test_what_cannot_be_written_over_a_finished_run(run, V, tmp_path):
    path = str(tmp_path / "done.zarr")
    assert run("fit", V, *FIT, "--out", path, "--workers", 0).exit_code == 0
    with pytest.raises(RunError, match="denied"), resumable(path, ""):
        raise RunError("denied") from OSError(13, "denied")
    with pytest.raises(ResumableError, match="dnmf resume"), resumable(path, ""):
        raise KeyboardInterrupt  # while its cluster closes: what begins again on 3 finds it done


def test_ctrl_c_before_the_run_exists(tmp_path):
    with pytest.raises(KeyboardInterrupt), resumable(str(tmp_path / "none.zarr"), ""):
        raise KeyboardInterrupt


def test_sigterm_is_an_interrupt_only_inside():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), resumable("none.zarr", ""):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def wait_for_passes(path, count: int, process: subprocess.Popen) -> None:
    """Until so many passes are committed."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        try:
            if len(dnmf.open(path).history) >= count:
                return
        except dnmf.DnmfError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"{count} passes were not committed within 60 s")


def wait_until_gone(group: int, patience: float = 10.0) -> list[str]:
    """Names of the processes of a group that still live after a while."""
    deadline = time.monotonic() + patience
    while (alive := living(group)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return alive


def living(group: int) -> list[str]:
    """Command lines of the processes of a group, without those that only wait to be reaped."""
    ours = [p for p in psutil.process_iter() if group_of(p.pid) == group]
    found = []
    for process in ours:
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
    return found


def group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


@contextmanager
def ended(process: subprocess.Popen):
    """No process of the group outlives the test, however it ends."""
    with process:  # which waits for it: so it is killed inside
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.cluster
@pytest.mark.parametrize("number", [*slow(signal.SIGINT), signal.SIGTERM])
def test_a_signal_ends_a_fit_on_a_cluster_and_its_workers(number, V, tmp_path):
    path = tmp_path / "cut.zarr"
    options = ("-k", 4, "--tol", 0, "--max-passes", 100_000, "--block-size", 1200)
    process = subprocess.Popen(
        command("fit", V, *options, "--out", path, "--workers", 2, "--threads", 1),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with ended(process):
        wait_for_passes(path, 2, process)
        if number == signal.SIGINT:  # a terminal sends Ctrl-C to all processes of the group
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 3, err
        assert f"dnmf resume {path} --workers 2 --threads 1" in err
        assert "Traceback" not in err
        assert not wait_until_gone(process.pid)  # no worker is left


def test_a_terminal_sees_progress(tmp_path):
    np.save(tmp_path / "V.npy", planted(20_000, 100))
    master, slave = pty.openpty()
    arguments = ("-k", 4, "--tol", 0, "--max-passes", 60, "--rounds", 0, "--workers", 0)
    with subprocess.Popen(
        command("fit", tmp_path / "V.npy", *arguments, "--out", tmp_path / "fit.zarr"),
        stdout=subprocess.DEVNULL,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "160"},
    ) as process:
        os.close(slave)
        shown = read_all(master)
        assert process.wait(timeout=60) == 0, shown
    assert b"pass " in shown
    assert b"objective" in shown


def read_all(terminal: int) -> bytes:
    """What a terminal got until its other end was closed."""
    shown = b""
    with suppress(OSError), os.fdopen(terminal, "rb", buffering=0) as stream:
        while chunk := stream.read(4096):
            shown += chunk
    return shown


def test_a_npy_file_and_a_csr_matrix_are_input_too(program, tmp_path):
    np.save(tmp_path / "V.npy", planted(50, 20))
    done = program("fit", tmp_path / "V.npy", "-k", 2, "--out", tmp_path / "a", "--workers", 0)
    assert done.returncode == 0, done.stderr
    assert zarr.open_group(tmp_path / "a", mode="r")["W"].shape == (50, 2)
