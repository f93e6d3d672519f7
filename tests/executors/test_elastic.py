"""Workers that come, go, stall and die as they please: the same bits."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from executor_tools import (
    OPTIONS,
    PASSES,
    Machines,
    Undisturbed,
    assert_undisturbed,
    cluster_of,
    connected,
    faulty,
    fit,
    meanwhile,
    once_per_pass,
    until,
    written,
)

import dnmf
from dnmf.executors.serial import Serial
from dnmf.fitting.events import Committed
from dnmf.testing import faults
from dnmf.testing.faults import Fault

pytestmark = [pytest.mark.timeout(240), pytest.mark.cluster, pytest.mark.chaos]


def test_workers_are_retired_during_a_pass(undisturbed, tmp_path):
    hang = Fault("segment-solved", "hang", {"step": 2})
    with (
        cluster_of(3, 1, given_up="1s") as client,
        faulty(client, tmp_path / "f", [hang]) as counts,
    ):

        def retire():
            (hit, *_) = until(lambda: faults.reached(counts, "segment-solved", step=2))
            pids = client.run(os.getpid)
            others = [address for address, pid in pids.items() if pid != hit["pid"]]
            client.retire_workers(others[:1])
            faults.release(counts)

        with meanwhile(retire):
            result = fit(undisturbed.V, tmp_path / "out", client)
        until(lambda: client.cluster.scale(3) or len(client.scheduler_info(-1)["workers"]) == 3)
        once_per_pass(counts, 2)
    assert_undisturbed(result, undisturbed)


def test_an_adaptive_cluster(undisturbed, tmp_path):
    with cluster_of(1, 1) as client, faulty(client, tmp_path / "f") as counts:
        client.cluster.adapt(minimum=0, maximum=3, interval="200ms", wait_count=1)
        result = fit(undisturbed.V, tmp_path / "out", client)
        once_per_pass(counts, *range(1, PASSES + 1))
        client.cluster.adapt(minimum=1, maximum=1, interval="100ms")
        until(lambda: len(client.scheduler_info(-1)["workers"]) == 1)
    assert_undisturbed(result, undisturbed)


def test_workers_of_a_short_life(undisturbed, tmp_path):
    with Machines(tmp_path / "machines") as machines, faults.active(tmp_path / "f") as counts:
        address = machines.start_scheduler()
        for name in ("one", "two"):
            life = ("--lifetime", "4s", "--lifetime-stagger", "1s", "--lifetime-restart")
            machines.start_worker(name, *life, nanny=True)
        with connected(address, 2) as client:
            first = set(client.scheduler_info(-1)["workers"])

            def wait_for_others(event):
                if isinstance(event, Committed) and event.kind == "pass":
                    until(lambda: set(client.scheduler_info(-1)["workers"]) - first)
                    first.update(client.scheduler_info(-1)["workers"])

            result = fit(undisturbed.V, tmp_path / "out", client, on_event=wait_for_others)
            assert len(first) >= 2 + PASSES
            once_per_pass(counts, *range(1, PASSES + 1))
    assert_undisturbed(result, undisturbed)


@pytest.mark.parametrize("mode", ["sys.exit", "graceful", "segfault"])
def test_random_deaths_for_a_whole_fit(tmp_path, undisturbed, mode):
    """Whoever runs the cluster replaces what is lost: nannies do not after sys.exit(0)."""
    from distributed.chaos import KillWorker

    reference = fit_serially(undisturbed, tmp_path / "serial", max_passes=20)
    with cluster_of(3, 1, given_up="1s") as client:
        seen = set(client.scheduler_info(-1)["workers"])
        over = threading.Event()

        def replace():
            while not over.wait(0.5):
                client.cluster.scale(3)
                seen.update(client.scheduler_info(-1)["workers"])

        def linger(event):
            """However fast passes are, somebody dies in each of the first ones or before it."""
            if isinstance(event, Committed) and event.kind == "pass":
                until(lambda: len(seen) >= 3 + min(3, event.rows[0]["pass"]), 60)

        client.run_on_scheduler(_allow, 1000)
        client.register_plugin(KillWorker(delay="6s", mode=mode), name="kill")
        with meanwhile(replace):
            result = fit(undisturbed.V, tmp_path / "out", client, max_passes=20, on_event=linger)
            over.set()
        assert len(seen) > 5  # several died
    assert_undisturbed(result, reference)


def _allow(number, dask_scheduler):
    dask_scheduler.allowed_failures = number


def fit_serially(undisturbed, out, **options):
    """What nothing disturbs, with other options."""
    result = dnmf.fit(undisturbed.V, out=out, executor=Serial(), **{**OPTIONS, **options})
    return Undisturbed(undisturbed.V, result.W[:], result.H[:], result.history)


@pytest.mark.parametrize("late", [False, True], ids=["soon", "after its version was removed"])
def test_a_worker_that_stalls_and_writes_late(undisturbed, tmp_path, late):
    """Stopped beyond the time to live, it is given up; then it goes on where it was."""
    stop = Fault("object-staged", "stop", {"name": "W/2/0-5"})
    variables = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "2s"}
    with (
        faults.active(tmp_path / "f", [stop]) as counts,
        Machines(tmp_path / "machines", **variables) as machines,
    ):
        address = machines.start_scheduler()
        for name in ("one", "two"):
            machines.start_worker(name)
        with connected(address, 2) as client:
            stopped = []

            def go_on():
                until(lambda: faults.struck(counts))
                until(lambda: len(client.scheduler_info(-1)["workers"]) == 1)
                stopped.append(faults.reached(counts, "object-staged", name="W/2/0-5")[0]["pid"])
                if late:
                    until(lambda: written(counts, 4), 60)
                os.kill(stopped[0], signal.SIGCONT)

            with meanwhile(go_on):
                result = fit(undisturbed.V, tmp_path / "out", client)
            late_ones = {"point": "object-written", "name": "W/2/0-5"}
            until(lambda: stopped[0] in _pids(counts, **late_ones))
        once_per_pass(counts, 2)
    assert_undisturbed(result, undisturbed)


def _pids(counts, point, **match):
    return [hit["pid"] for hit in faults.reached(counts, point, **match)]
