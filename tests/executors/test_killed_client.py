"""SIGKILL of the client around commits: resume executes what was not committed, bit for bit."""

from __future__ import annotations

import os
import signal

import pytest
from executor_tools import (
    SEGMENTS,
    STEPS,
    assert_undisturbed,
    faulty,
    fit_elsewhere,
    once_per_pass,
    until,
    who_executed,
    written,
)

import dnmf
from dnmf.testing import faults
from dnmf.testing.faults import Fault

pytestmark = pytest.mark.timeout(120)

SHORT = [("record-staged", 2, 2), ("record-committed", 2, 3)]
POINTS = {"record-writing": 0, "record-staged": 0, "record-linked": 1, "record-committed": 1}
"""Points of a commit, and whether the step counts as committed from there on."""

LONG = [
    (point, index, index + committed)
    for index in range(STEPS)
    for point, committed in POINTS.items()
    if (point, index, index + committed) not in SHORT
]
"""Where the client dies, committing which step, and the step that resume begins with."""


def test_killed_around_a_commit_short(client, undisturbed, tmp_path):
    for number, case in enumerate(SHORT):
        _kill_and_resume(client, undisturbed, tmp_path / str(number), *case)


@pytest.mark.chaos
@pytest.mark.parametrize("case", LONG, ids=str)
def test_killed_around_a_commit(client, undisturbed, tmp_path, case):
    _kill_and_resume(client, undisturbed, tmp_path, *case)


def _kill_and_resume(client, undisturbed, folder, point, index, first):
    folder.mkdir(exist_ok=True)
    kill = Fault(point, "kill", {"index": index})
    with faulty(client, folder / "faults", [kill]) as counts:
        process = fit_elsewhere(
            undisturbed.V, folder / "out", client.scheduler.address, DNMF_FAULTS=counts
        )
        _, err = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, err
        assert faults.struck(counts) == 1
        result = dnmf.resume(folder / "out", client=client)
        twice = index if first == index else None
        passes = [written(counts, step) for step in range(1, 5)]
        assert passes == [SEGMENTS * (1 + (step == twice)) for step in range(1, 5)]
        scans = faults.count(counts, "object-written", kind="rows")
        assert scans == SEGMENTS * (1 + (twice == 0))
        assert faults.count(counts, "published") == 1 + (twice == 5)
    assert_undisturbed(result, undisturbed)
    steps = who_executed(result)
    assert [step for step, _ in steps] == list(range(STEPS))  # each committed once
    mine = [step for step, pid in steps if pid == os.getpid()]
    assert mine == list(range(first, STEPS))


@pytest.mark.chaos
@pytest.mark.parametrize("point", ["result-finishing", "result-published"])
def test_killed_while_the_result_is_made(client, undisturbed, tmp_path, point):
    with faulty(client, tmp_path / "faults", [Fault(point, "kill")]) as counts:
        process = fit_elsewhere(
            undisturbed.V, tmp_path / "out", client.scheduler.address, DNMF_FAULTS=counts
        )
        _, err = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, err
        result = dnmf.resume(tmp_path / "out", client=client)
        once_per_pass(counts)
    assert_undisturbed(result, undisturbed)
    assert os.getpid() not in [pid for _, pid in who_executed(result)]


@pytest.mark.chaos
def test_killed_during_a_pass(client, undisturbed, tmp_path):
    hang = Fault("segment-solved", "hang", {"step": 2}, times=1)
    with faulty(client, tmp_path / "faults", [hang]) as counts:
        process = fit_elsewhere(
            undisturbed.V, tmp_path / "out", client.scheduler.address, DNMF_FAULTS=counts
        )
        until(lambda: process.poll() is not None or faults.struck(counts))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        faults.release(counts)  # the worker goes on, late
        result = dnmf.resume(tmp_path / "out", client=client)
        once_per_pass(counts, 2)
    assert_undisturbed(result, undisturbed)
    assert [step for step, pid in who_executed(result) if pid == os.getpid()] == [2, 3, 4, 5]
