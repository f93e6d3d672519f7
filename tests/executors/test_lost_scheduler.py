"""A scheduler that dies, hangs, comes back or never was there: an error in seconds, or the fit."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time

import dask
import pytest
from executor_tools import (
    SEGMENTS,
    Machines,
    assert_undisturbed,
    connected,
    fit,
    meanwhile,
    once_per_pass,
    until,
    written,
)

import dnmf
from dnmf.errors import ClusterError, ResumableError
from dnmf.executors import watch
from dnmf.executors.local import connect
from dnmf.testing import faults
from dnmf.testing.faults import Fault

pytestmark = [pytest.mark.timeout(180), pytest.mark.cluster]

HANG = Fault("segment-solved", "hang", {"step": 2})


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_scheduler_dies_and_the_fit_resumes_on_another_cluster(client, undisturbed, tmp_path):
    out = tmp_path / "out"
    with faults.active(tmp_path / "faults", [HANG]) as counts, Machines(tmp_path / "a") as machines:
        address = machines.start_scheduler()
        machines.start_worker("worker")
        with connected(address, 1, timeout=3) as short:
            killed = []

            def kill():
                until(lambda: faults.struck(counts))
                killed.append(time.monotonic())
                machines.kill("scheduler")

            with meanwhile(kill), pytest.raises(ResumableError) as caught:
                fit(undisturbed.V, out, short)
            seconds = time.monotonic() - killed[0]
        message = str(caught.value)
        assert seconds < 15
        assert f"no scheduler at {address}" in message
        assert f"safe in {out}; go on with: dnmf resume {out}" in message
        faults.release(counts)
        machines.kill("worker")
        assert written(counts, 1) == SEGMENTS
        assert written(counts, 2) < SEGMENTS
    with faults.active(tmp_path / "again") as counts:
        client.run(faults.switch, counts)
        result = dnmf.resume(out, client=client)
        assert [written(counts, step) for step in (1, 2, 3, 4)] == [0, *[SEGMENTS] * 3]
        client.run(faults.switch, None)
    assert_undisturbed(result, undisturbed)


@pytest.mark.chaos
def test_a_scheduler_comes_back_at_its_address_and_the_fit_goes_on(undisturbed, tmp_path):
    port = free_port()
    with faults.active(tmp_path / "faults", [HANG]) as counts, Machines(tmp_path / "a") as machines:
        machines.start_scheduler(port)
        machines.start_worker("first")

        def restart():
            until(lambda: faults.struck(counts))
            machines.kill("scheduler")
            machines.kill("first")
            machines.start_scheduler(port)
            machines.start_worker("second")

        with connected(f"tcp://127.0.0.1:{port}", 1, timeout=30) as client:
            with meanwhile(restart):
                result = fit(undisturbed.V, tmp_path / "out", client)
            once_per_pass(counts, 2)
    assert_undisturbed(result, undisturbed)
    assert [row["retries"] > 0 for row in result.history] == [False, True, False, False]


@pytest.mark.chaos
def test_a_scheduler_that_stops_answering(undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "ANSWER", 8.0)
    with faults.active(tmp_path / "faults", [HANG]) as counts, Machines(tmp_path / "a") as machines:
        address = machines.start_scheduler()
        machines.start_worker("worker")

        def stop():
            until(lambda: faults.struck(counts))
            machines.kill("scheduler", signal.SIGSTOP)

        with connected(address, 1) as client:
            with meanwhile(stop), pytest.raises(ResumableError, match="has not answered for 8 s"):
                fit(undisturbed.V, tmp_path / "out", client)
            faults.release(counts)
            began = time.monotonic()
            with pytest.raises(ClusterError, match="does not answer"):
                dnmf.resume(tmp_path / "out", client=client)
            assert time.monotonic() - began < 20
            machines.kill("scheduler", signal.SIGCONT)
            result = dnmf.resume(tmp_path / "out", client=client)
    assert_undisturbed(result, undisturbed)


@pytest.mark.chaos
def test_all_workers_are_gone_for_good(undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "NO_WORKERS", 3.0)
    kill = Fault("segment-solved", "kill", {"step": 2}, times=2)
    with faults.active(tmp_path / "faults", [kill]) as counts, Machines(tmp_path / "a") as machines:
        address = machines.start_scheduler()
        machines.start_worker("first")
        machines.start_worker("second")
        with connected(address, 2) as client:
            with pytest.raises(ResumableError, match="has had no worker for 3 s"):
                fit(undisturbed.V, tmp_path / "out", client)
            assert faults.struck(counts) == 2
            with pytest.raises(
                ClusterError, match="has no workers, and none came within 3 s; start"
            ):
                dnmf.resume(tmp_path / "out", client=client)
            machines.start_worker("third")  # on another port
            client.wait_for_workers(1, timeout=60)
            result = dnmf.resume(tmp_path / "out", client=client)
            once_per_pass(counts, 2)
    assert_undisturbed(result, undisturbed)


def test_nobody_listens_at_the_address():
    began = time.monotonic()
    with pytest.raises(ClusterError, match=r"no scheduler answers at tcp://127.0.0.1:\d+ within"):
        connect(f"tcp://127.0.0.1:{free_port()}", timeout=1)
    assert time.monotonic() - began < 10


def test_somebody_listens_who_is_no_scheduler():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(ClusterError, match="no scheduler answers at"):
            connect(f"tcp://127.0.0.1:{silent.getsockname()[1]}", timeout=1)
        assert time.monotonic() - began < 10


def test_somebody_listens_who_speaks_another_protocol():
    """Of the first bytes Dask would make a length, and ask for as much memory."""
    with (
        socket.create_server(("127.0.0.1", 0)) as web,
        meanwhile(lambda: _refuse_one(web)),
        pytest.raises(ClusterError, match="something listens there that is no scheduler"),
    ):
        connect(f"tcp://127.0.0.1:{web.getsockname()[1]}", timeout=5)


def _refuse_one(web):
    with web.accept()[0] as connection:
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_attempts_to_connect_leave_nothing_behind():
    """Neither threads nor a scheduler that Dask's collections would ask from then on."""
    before = set(threading.enumerate())
    scheduler = dask.config.get("scheduler", None)
    for _ in range(2):
        with pytest.raises(ClusterError):
            connect(f"tcp://127.0.0.1:{free_port()}", timeout=0.5)
        with pytest.raises(ClusterError):
            connect("nonsense", timeout=0.5)
        with (
            socket.create_server(("127.0.0.1", 0)) as silent,
            pytest.raises(ClusterError, match="no scheduler answers"),
        ):
            connect(f"tcp://127.0.0.1:{silent.getsockname()[1]}", timeout=0.5)
    until(lambda: not {t for t in set(threading.enumerate()) - before if "IO loop" in t.name}, 10)
    assert not [t for t in set(threading.enumerate()) - before if t.name == "dnmf-connect"]
    assert dask.config.get("scheduler", None) == scheduler


@pytest.mark.parametrize("content", [None, "", "{}", '{"address": "nonsense"}'])
def test_a_scheduler_file_that_names_no_scheduler(tmp_path, content):
    path = tmp_path / "scheduler.json"
    if content is not None:
        path.write_text(content)
    began = time.monotonic()
    with pytest.raises(ClusterError, match=r"scheduler\.json"):
        connect(scheduler_file=str(path), timeout=1)
    assert time.monotonic() - began < 10


CLOSED = """
import sys
import dnmf
from distributed import Client, LocalCluster
from dnmf.errors import ClusterError

with LocalCluster(
    n_workers=1, processes=False, dashboard_address=":0", scheduler_kwargs={"dashboard": False}
) as cluster:
    client = Client(cluster, set_as_default=False)
try:
    dnmf.fit(sys.argv[1], 4, out=sys.argv[2], client=client)
except ClusterError as error:
    print(error)
client.close()
"""


@pytest.mark.chaos
def test_a_client_whose_cluster_is_closed(undisturbed, tmp_path):
    """In a process of its own, where nothing is in the way of a cluster's event loop.

    Late in a session of hundreds of clusters it did not start within the 10 s that Dask allows.
    """
    command = [sys.executable, "-c", CLOSED, undisturbed.V, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "no scheduler answers" in done.stdout
    assert not (tmp_path / "out").exists()
