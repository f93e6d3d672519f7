"""Before a fit every worker reads V and writes the run: what cannot work is refused by name."""

from __future__ import annotations

import os
import sys

import pytest
from executor_tools import OPTIONS, assert_undisturbed, faulty, fit, write_V

import dnmf
from dnmf.errors import CorruptDataError, InputError, RunError
from dnmf.executors.watch import workers_of
from dnmf.steps.serial import Serial
from dnmf.testing import faults
from dnmf.testing.faults import Fault

pytestmark = [pytest.mark.timeout(60), pytest.mark.cluster]

HERE = "/proc/self/cwd"  # in every process another folder: a disk that is not shared
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@on_linux
def test_workers_that_do_not_see_V_are_named(client, tmp_path, monkeypatch):
    write_V(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        fit(f"{HERE}/V.zarr", tmp_path / "out", client)
    message = str(caught.value)
    workers = list(workers_of(client))
    assert all(worker in message for worker in workers)
    assert "cannot read V" in message
    assert f"{HERE}/V.zarr" in message
    assert "V must be at a path or URL that every worker reaches" in message
    assert not (tmp_path / "out").exists()


@on_linux
def test_workers_that_do_not_see_the_run_are_named(client, tmp_path, monkeypatch):
    V = write_V(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError) as caught:
        fit(V, f"{HERE}/out", client)
    message = str(caught.value)
    assert all(worker in message for worker in workers_of(client))
    assert f"{HERE}/out" in message
    assert "storage that all workers and this process share" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("action", "why"), [("erofs", "Read-only"), ("eacces", "Permission"), ("enospc", "No space")]
)
def test_a_worker_that_cannot_write_is_named(client, undisturbed, tmp_path, action, why):
    fault = Fault("object-staged", action, {"kind": "probe"}, times=1)
    with faulty(client, tmp_path / "faults", [fault]) as counts:
        with pytest.raises(RunError, match=rf"worker tcp://\S+ on .* cannot work in .*{why}"):
            fit(undisturbed.V, tmp_path / "out", client)
        assert faults.struck(counts) == 1
        assert not (tmp_path / "out").exists()


def test_what_a_worker_writes_must_arrive(client, undisturbed, tmp_path):
    fault = Fault("object-written", "delete", {"kind": "probe"})
    with (
        faulty(client, tmp_path / "faults", [fault]),
        pytest.raises(RunError, match=r"what worker tcp://\S+ on .* wrote into .* does not arrive"),
    ):
        fit(undisturbed.V, tmp_path / "out", client)


def test_a_write_that_fails_for_a_moment_is_tried_again(client, undisturbed, tmp_path):
    fault = Fault("object-staged", "raise-oserror", {"kind": "probe"})
    with faulty(client, tmp_path / "faults", [fault]) as counts:
        result = fit(undisturbed.V, tmp_path / "out", client)
        assert faults.struck(counts) == 1
        workers = len(workers_of(client))
        assert faults.count(counts, "object-written", kind="probe") == workers
    assert_undisturbed(result, undisturbed)
    probes = os.path.join(result.path, ".dnmf", "objects", "probe")
    assert not os.path.exists(probes) or not os.listdir(probes)


def test_a_damaged_chunk_is_not_a_workers_fault(client, tmp_path):
    V = write_V(tmp_path)
    for block in range(24):
        with open(os.path.join(V, "c", str(block), "0"), "r+b") as file:
            file.truncate(7)
    with pytest.raises(CorruptDataError, match=r"c/\d+/0") as caught:
        fit(V, tmp_path / "out", client)
    assert "worker" not in str(caught.value)


@on_linux
def test_a_run_begun_without_a_cluster_is_probed_when_it_goes_on_there(
    client, undisturbed, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    kill = Fault("record-committed", "interrupt", {"index": 2})
    with faults.active(tmp_path / "faults", [kill]), pytest.raises(KeyboardInterrupt):
        dnmf.fit(undisturbed.V, out=f"{HERE}/out", executor=Serial(), **OPTIONS)
    with pytest.raises(RunError, match="cannot work in /proc/self/cwd/out"):
        dnmf.resume(f"{HERE}/out", client=client)
    result = dnmf.resume(tmp_path / "out", client=client)
    assert_undisturbed(result, undisturbed)
