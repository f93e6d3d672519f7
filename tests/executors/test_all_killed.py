"""All workers die at once, or a task kills whoever runs it: same bits, counted executions."""

from __future__ import annotations

import os
import signal

import pytest
from executor_tools import (
    PASSES,
    SEGMENTS,
    Machines,
    assert_undisturbed,
    connected,
    faulty,
    fit,
    kill_those_that_hang,
    meanwhile,
    once_per_pass,
    until,
    written,
)

from dnmf.errors import ResumableError, WorkersDiedError
from dnmf.executors.watch import workers_of
from dnmf.testing import faults
from dnmf.testing.faults import Fault

pytestmark = pytest.mark.timeout(120)


@pytest.mark.chaos
def test_all_workers_die_at_once_and_nannies_restart_them(client, undisturbed, tmp_path):
    hang = Fault("segment-solved", "hang", {"step": 2}, times=2)
    with faulty(client, tmp_path / "faults", [hang]) as folder:
        before = set(workers_of(client))
        with meanwhile(lambda: kill_those_that_hang(folder, "segment-solved", 2, step=2)):
            result = fit(undisturbed.V, tmp_path / "out", client)
        assert not before & set(workers_of(client))  # other ports
        once_per_pass(folder, 2)
    assert_undisturbed(result, undisturbed)


@pytest.fixture
def impatient(client):
    """A scheduler that gives a task up when one worker died of it."""

    def allow(number, dask_scheduler):
        before, dask_scheduler.allowed_failures = dask_scheduler.allowed_failures, number
        return before

    before = client.run_on_scheduler(allow, 0)
    yield client
    client.run_on_scheduler(allow, before)


@pytest.mark.chaos
def test_a_task_that_kills_a_worker_once_too_often_is_begun_again(impatient, undisturbed, tmp_path):
    kill = Fault("segment-solved", "kill", {"step": 3, "segment": 5})
    with faulty(impatient, tmp_path / "faults", [kill]) as folder:
        result = fit(undisturbed.V, tmp_path / "out", impatient)
        once_per_pass(folder, 3)
    assert_undisturbed(result, undisturbed)
    assert [row["retries"] for row in result.history] == [0, 0, 1, 0]


def test_a_task_that_always_kills_ends_the_fit_which_resumes(impatient, undisturbed, tmp_path):
    kill = Fault("segment-solved", "kill", {"step": 3, "segment": 5}, times=100)
    out = tmp_path / "out"
    with (
        faulty(impatient, tmp_path / "faults", [kill]) as folder,
        pytest.raises(WorkersDiedError) as caught,
    ):
        fit(undisturbed.V, out, impatient)
    message = str(caught.value)
    assert faults.struck(folder) == 2  # bounded
    assert isinstance(caught.value, ResumableError)
    assert "2 workers died" in message
    assert "memory limit was" in message
    assert "a worker needs" in message
    assert f"go on with: dnmf resume {out}" in message
    assert caught.value.exit_code == 3

    with faulty(impatient, tmp_path / "again") as folder:
        result = fit(undisturbed.V, out, impatient, resume=True)
        assert [written(folder, step) for step in range(1, 5)] == [0, 0, SEGMENTS, SEGMENTS]
    assert_undisturbed(result, undisturbed)


@pytest.mark.chaos
@pytest.mark.cluster
@pytest.mark.parametrize("kept", [False, True], ids=["streaming", "in memory"])
def test_all_workers_die_while_the_client_commits(request, undisturbed, tmp_path, kept):
    """Nothing of the step is lost, and only segments that were in memory are read again."""
    client = request.getfixturevalue("client" if kept else "streaming")
    hang = Fault("record-staged", "hang", {"index": 2})
    with faulty(client, tmp_path / "faults", [hang]) as counts:

        def kill():
            until(lambda: faults.struck(counts))
            before = client.run(os.getpid)
            for pid in before.values():
                os.kill(pid, signal.SIGKILL)
            until(lambda: set(workers_of(client)) - set(before), 60)
            faults.release(counts)

        with meanwhile(kill):
            result = fit(undisturbed.V, tmp_path / "out", client)
        once_per_pass(counts)
        reads = faults.count(counts, "block-read")
        if kept:  # the second to die may have begun to read again what the first one held
            assert 2 * SEGMENTS <= reads <= 3 * SEGMENTS
        else:
            assert reads == (PASSES + 1) * SEGMENTS
    assert_undisturbed(result, undisturbed)
    assert result.details["retries"] == 0


@pytest.mark.chaos
@pytest.mark.cluster
def test_all_workers_die_at_once_and_others_join(undisturbed, tmp_path):
    """Nobody restarts them: new ones come on other ports, and the fit goes on."""
    hang = Fault("segment-solved", "hang", {"step": 2}, times=2)
    with faults.active(tmp_path / "f", [hang]) as counts, Machines(tmp_path / "m") as machines:
        address = machines.start_scheduler()
        for name in ("one", "two"):
            machines.start_worker(name)
        with connected(address, 2) as client:
            before = set(workers_of(client))

            def replace_them():
                kill_those_that_hang(counts, "segment-solved", 2, step=2)
                for name in ("three", "four", "five"):
                    machines.start_worker(name)

            with meanwhile(replace_them):
                result = fit(undisturbed.V, tmp_path / "out", client)
            now = set(workers_of(client))
            assert now
            assert not before & now
            once_per_pass(counts, 2)
    assert_undisturbed(result, undisturbed)


@pytest.mark.chaos
def test_a_worker_dies_that_holds_blocks_of_a_dask_array(client, undisturbed, tmp_path):
    import dask.array

    V = dask.array.from_zarr(undisturbed.V)
    kill = Fault("segment-solved", "kill", {"step": 2, "segment": 11})
    with faulty(client, tmp_path / "faults", [kill]) as counts:
        result = fit(V, tmp_path / "out", client)
        assert faults.struck(counts) == 1
        once_per_pass(counts, 2)
    assert_undisturbed(result, undisturbed)  # the serial fit of the same chunks from their store
