"""SIGKILL of workers at every kind of point: same bits, counted executions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from executor_tools import (
    OPTIONS,
    SEGMENTS,
    Undisturbed,
    assert_undisturbed,
    faulty,
    fit,
    kill_those_that_hang,
    meanwhile,
    once_per_pass,
    written,
)

import dnmf
from dnmf.errors import ResumableError, WorkersDiedError
from dnmf.executors.serial import Serial
from dnmf.testing import faults
from dnmf.testing.faults import Fault

pytestmark = pytest.mark.timeout(120)

POINTS = {
    "scan": (Fault("block-read", "kill", {"segment": 20}), None),
    "reading": (Fault("block-read", "kill", {"segment": 7}, after=1), 1),
    "solved": (Fault("segment-solved", "kill", {"step": 2, "segment": 11}), 2),
    "writing": (Fault("object-staged", "kill", {"name": "W/2/0-5"}), 2),
    "written": (Fault("segment-written", "kill", {"step": 2, "segment": 11}), 2),
    "combine": (Fault("combine", "kill", {"step": 3, "piece": 1}, after=4), 3),
    "finish-small": (Fault("finish", "kill", {"step": 2, "piece": 0}), 2),
    "finish-slab": (Fault("finish", "kill", {"step": 4, "piece": 2}), 4),
    "publish": (Fault("published", "kill", {"segment": 0}), None),
}


def test_a_worker_dies_in_every_step(streaming, undisturbed, tmp_path):
    names = ("scan", "reading", "written", "combine", "finish-slab")
    plan = [POINTS[name][0] for name in names]
    with faulty(streaming, tmp_path / "faults", plan) as folder:
        result = fit(undisturbed.V, tmp_path / "out", streaming)
        assert [faults.struck(folder, number) for number in range(len(plan))] == [1] * len(plan)
        once_per_pass(folder, 1, 2, 3, 4)
    assert_undisturbed(result, undisturbed)
    assert [row["retries"] for row in result.history] == [0, 0, 0, 0]  # Dask ran them again


@pytest.mark.chaos
@pytest.mark.parametrize("name", POINTS)
@pytest.mark.parametrize("kept", [False, True], ids=["streaming", "in memory"])
def test_a_worker_dies(request, undisturbed, tmp_path, name, kept):
    fault, step = POINTS[name]
    if kept and name == "reading":
        fault = replace(fault, after=0)  # there is but one read
    client = request.getfixturevalue("client" if kept else "streaming")
    with faulty(client, tmp_path / "faults", [fault]) as folder:
        result = fit(undisturbed.V, tmp_path / "out", client)
        assert faults.struck(folder) == 1
        once_per_pass(folder, *([] if step is None or (name == "reading" and kept) else [step]))
    assert_undisturbed(result, undisturbed)


def test_all_workers_die_at_once_and_nannies_restart_them(client, undisturbed, tmp_path):
    hang = Fault("segment-solved", "hang", {"step": 2}, times=2)
    with faulty(client, tmp_path / "faults", [hang]) as folder:
        before = set(client.scheduler_info(n_workers=-1)["workers"])
        with meanwhile(lambda: kill_those_that_hang(folder, "segment-solved", 2, step=2)):
            result = fit(undisturbed.V, tmp_path / "out", client)
        assert not before & set(client.scheduler_info(n_workers=-1)["workers"])  # other ports
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


SAMPLED = {"sample": 0.5, "sample_bytes": 8 << 10, "n_init": 3, "max_passes": 3}


@pytest.fixture(scope="module")
def sampled(undisturbed, tmp_path_factory):
    """A serial fit that begins with a race and passes over a resident sample."""
    out = tmp_path_factory.mktemp("sampled") / "out"
    result = dnmf.fit(undisturbed.V, out=out, executor=Serial(), **{**OPTIONS, **SAMPLED})
    kinds = [kind for _, kind, *_ in result.details["executed"]]
    assert kinds[:2] == ["scan", "race"]
    assert kinds[2:].count("pass") > SAMPLED["max_passes"]  # over the sample, then over V
    return Undisturbed(undisturbed.V, result.W[:], result.H[:], result.history)


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("point", "match"),
    [
        ("object-written", {"kind": "race"}),
        ("object-staged", {"kind": "race"}),
        ("segment-solved", {"step": 3}),
        ("segment-written", {"step": 4}),
        ("combine", {"step": 3, "piece": 1}),
        ("finish", {"step": 4, "piece": 1}),
    ],
)
def test_a_worker_dies_over_the_sample(streaming, sampled, tmp_path, point, match):
    with faulty(streaming, tmp_path / "faults", [Fault(point, "kill", match)]) as counts:
        result = fit(sampled.V, tmp_path / "out", streaming, **SAMPLED)
        assert faults.struck(counts) == 1
    assert_undisturbed(result, sampled)


@pytest.mark.chaos
def test_a_worker_dies_that_holds_blocks_of_a_dask_array(client, undisturbed, tmp_path):
    import dask.array

    V = dask.array.from_zarr(undisturbed.V)
    whole = fit(V, tmp_path / "whole", client)
    kill = Fault("segment-solved", "kill", {"step": 2, "segment": 11})
    with faulty(client, tmp_path / "faults", [kill]) as counts:
        result = fit(V, tmp_path / "out", client)
        assert faults.struck(counts) == 1
        once_per_pass(counts, 2)
    reference = Undisturbed("", whole.W[:], whole.H[:], whole.history)
    assert_undisturbed(result, reference)
