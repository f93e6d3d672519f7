"""Workers that come, go, stall and die as they please: the same bits."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter

import pytest
from executor_tools import (
    OPTIONS,
    PASSES,
    SEGMENTS,
    Machines,
    Undisturbed,
    assert_undisturbed,
    cluster_of,
    connected,
    everywhere,
    faulty,
    fit,
    meanwhile,
    once_per_pass,
    until,
    written,
)

import dnmf
from dnmf.executors.watch import workers_of
from dnmf.steps.events import Committed
from dnmf.steps.serial import Serial
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
        until(lambda: client.cluster.scale(3) or len(workers_of(client)) == 3)
        once_per_pass(counts, 2)
    assert_undisturbed(result, undisturbed)


def _who_solved(counts):
    return {hit["pid"] for hit in faults.reached(counts, "segment-solved")}


def test_an_adaptive_cluster(undisturbed, tmp_path):
    slow = Fault("segment-solved", "hang", times=10**6, seconds=1.0)
    with cluster_of(1, 1) as client, faulty(client, tmp_path / "f", [slow]) as counts:
        client.cluster.adapt(minimum=0, maximum=3, interval="200ms", wait_count=1)

        def grow():
            """Leaves take so long, until others solve some too, that workers are asked for."""
            until(lambda: len(_who_solved(counts)) > 1, 120)
            faults.release(counts)

        with meanwhile(grow):
            result = fit(undisturbed.V, tmp_path / "out", client)
        assert len(_who_solved(counts)) > 1
        once_per_pass(counts, *range(1, PASSES + 1))
        until(lambda: not workers_of(client), 60)  # nothing to do: all leave
        client.cluster.adapt(minimum=1, maximum=1, interval="100ms")
        until(lambda: len(workers_of(client)) == 1)
    assert_undisturbed(result, undisturbed)


def test_workers_of_a_short_life(undisturbed, tmp_path):
    with Machines(tmp_path / "machines") as machines, faults.active(tmp_path / "f") as counts:
        address = machines.start_scheduler()
        for name in ("one", "two"):
            life = ("--lifetime", "4s", "--lifetime-stagger", "1s", "--lifetime-restart")
            machines.start_worker(name, *life, nanny=True)
        with connected(address, 2) as client:
            first = set(workers_of(client))

            def wait_for_others(event):
                if isinstance(event, Committed) and event.kind == "pass":
                    until(lambda: set(workers_of(client)) - first)
                    first.update(workers_of(client))

            result = fit(undisturbed.V, tmp_path / "out", client, on_event=wait_for_others)
            assert len(first) >= 2 + PASSES
            once_per_pass(counts, *range(1, PASSES + 1))
    assert_undisturbed(result, undisturbed)


@pytest.mark.timeout(480)
@pytest.mark.parametrize("mode", ["sys.exit", "graceful", "segfault"])
def test_random_deaths_for_a_whole_fit(tmp_path, undisturbed, mode):
    """Whoever runs the cluster replaces what is lost: nannies do not after sys.exit(0)."""
    from distributed.chaos import KillWorker

    passes = 20
    reference = fit_serially(undisturbed, tmp_path / "serial", max_passes=passes)
    with (
        faults.active(tmp_path / "f") as counts,
        cluster_of(3, 1, given_up="1s") as client,
    ):
        seen = set(workers_of(client))
        over = threading.Event()

        def replace():
            while not over.wait(0.5):
                client.cluster.scale(3)
                seen.update(workers_of(client))

        def linger(event):
            """However fast passes are, somebody dies in each of the first ones or before it."""
            if isinstance(event, Committed) and event.kind == "pass":
                until(lambda: len(seen) >= 3 + min(3, event.rows[0]["pass"]), 60)

        client.run_on_scheduler(_allow, 1000)
        client.register_plugin(KillWorker(delay="6s", mode=mode), name="kill")
        with meanwhile(replace):
            result = fit(
                undisturbed.V, tmp_path / "out", client, max_passes=passes, on_event=linger
            )
            over.set()
        assert len(seen) > 5  # several died
    ran = [written(counts, step) for step in range(1, passes + 1)]
    assert min(ran) >= SEGMENTS
    assert sum(ran) <= (passes + len(seen)) * SEGMENTS  # nobody's death costs more than a pass
    assert_undisturbed(result, reference)


def _allow(number, dask_scheduler):
    dask_scheduler.allowed_failures = number


def fit_serially(undisturbed, out, **options):
    """What nothing disturbs, with other options."""
    result = dnmf.fit(undisturbed.V, out=out, executor=Serial(), **{**OPTIONS, **options})
    return Undisturbed(undisturbed.V, result.W[:], result.H[:], result.history)


@pytest.mark.parametrize("when", ["soon", "after its version was removed", "after the fit"])
def test_a_worker_that_stalls_and_writes_late(undisturbed, tmp_path, when):
    """Stopped beyond the time to live, it is given up; then it goes on where it was."""
    passes, name, out = 8, "2/W-0-5", tmp_path / "out"
    reference = fit_serially(undisturbed, tmp_path / "serial", max_passes=passes)
    stop = Fault("object-staged", "stop", {"name": name})
    variables = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "2s"}
    with (
        faults.active(tmp_path / "f", [stop]) as counts,
        Machines(tmp_path / "machines", **variables) as machines,
    ):
        address = machines.start_scheduler()
        for worker in ("one", "two"):
            machines.start_worker(worker)
        with connected(address, 2) as client:

            def stalled():
                return faults.reached(counts, "object-staged", name=name)[0]["pid"]

            def go_on():
                """Of the version that it writes nothing is left, but for its temporary file."""
                left = [path.name for path in (out / ".dnmf/objects/2").iterdir()]
                assert len(left) == 1
                assert left[0].startswith(".tmp-")
                os.kill(stalled(), signal.SIGCONT)
                until(lambda: stalled() in _pids(counts, "object-written", name=name))

            def listen(event):
                if not (isinstance(event, Committed) and event.kind == "pass"):
                    return
                number = event.rows[0]["pass"]
                if number == 2:  # somebody else did its part, since it was given up
                    assert len(workers_of(client)) == 1
                    assert stalled() not in _pids(counts, "object-written", name=name)
                    if when == "soon":
                        os.kill(stalled(), signal.SIGCONT)
                        until(lambda: stalled() in _pids(counts, "object-written", name=name))
                if number == 5 and when == "after its version was removed":
                    until(lambda: len(os.listdir(out / ".dnmf/objects/2")) == 1)
                    go_on()

            result = fit(undisturbed.V, out, client, max_passes=passes, on_event=listen)
            if when == "after the fit":
                (worker,) = [n for n, p in machines.processes.items() if p.pid == stalled()]
                os.kill(stalled(), signal.SIGCONT)
                machines.processes.pop(worker).wait(60)  # nobody knows it any more
        ran = [written(counts, step) for step in range(1, passes + 1)]
        assert [number for step, number in enumerate(ran, 1) if step != 2] == [SEGMENTS] * 7
        assert SEGMENTS <= ran[1] <= 2 * SEGMENTS
    assert_undisturbed(result, reference)
    assert_undisturbed(dnmf.open(out), reference)
    assert_undisturbed(dnmf.resume(out), reference)
    left = [path.name for path in out.rglob("*.npy")]
    if when == "after the fit":  # nobody is there to take away what it may have written
        assert len(left) <= 1
    else:
        assert not left


def _pids(counts, point, **match):
    return [hit["pid"] for hit in faults.reached(counts, point, **match)]


@pytest.mark.parametrize("memory_limit", [0, "auto"])
def test_workers_join_and_leave(undisturbed, tmp_path, memory_limit):
    sizes = {1: 4, 3: 2}
    with cluster_of(1, 1, memory_limit) as client, faulty(client, tmp_path / "f", []) as counts:

        def scale(event):
            passes = event.rows[-1]["pass"] if isinstance(event, Committed) and event.rows else 0
            if passes in sizes:
                client.cluster.scale(sizes[passes])
                until(lambda: len(workers_of(client)) == sizes[passes])
                everywhere(client, faults.switch, counts)

        result = fit(undisturbed.V, tmp_path / "out", client, on_event=scale)
        once_per_pass(counts)
        shares = [share(counts, step) for step in range(1, 5)]
        assert len(shares[0]) == 1
        if not memory_limit:  # else Dask may leave tiny tasks where their data are
            assert len(shares[1]) == 4  # within one pass, in which they import all that they need
            assert max(shares[2]) <= SEGMENTS // 2
            assert len(shares[3]) == 2
        client.cluster.scale(1)
        until(lambda: len(workers_of(client)) == 1)
    assert_undisturbed(result, undisturbed)


@pytest.mark.parametrize("memory_limit", [0, "auto"], ids=["streaming", "in memory"])
def test_newcomers_have_a_fair_share_of_the_next_pass(undisturbed, tmp_path, memory_limit):
    """Where a pass takes much longer than the first leaf of a newcomer.

    Leaves are slow in the pass before too: by what they took there Dask shares them out.
    """
    slow = [
        Fault("segment-solved", "hang", {"step": step}, times=10**6, seconds=seconds)
        for step, seconds in ((1, 0.2), (2, 1.0))
    ]
    with cluster_of(1, 1, memory_limit) as client, faulty(client, tmp_path / "f", slow) as counts:

        def grow(event):
            if isinstance(event, Committed) and event.rows and event.rows[-1]["pass"] == 1:
                client.cluster.scale(4)
                client.wait_for_workers(4, timeout=60)
                everywhere(client, faults.switch, counts)

        result = fit(undisturbed.V, tmp_path / "out", client, on_event=grow)
        once_per_pass(counts)
        shares = sorted(share(counts, 2))
        client.cluster.scale(1)
        until(lambda: len(workers_of(client)) == 1)
    assert_undisturbed(result, undisturbed)
    assert len(shares) == 4, shares
    assert shares[0] >= SEGMENTS // 4 // 2, shares
    assert shares[-1] <= 2 * SEGMENTS // 4, shares


def share(counts, step):
    """How many segments each process solved."""
    return list(
        Counter(hit["pid"] for hit in faults.reached(counts, "segment-solved", step=step)).values()
    )
