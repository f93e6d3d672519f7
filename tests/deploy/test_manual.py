"""deploy/manual: a scheduler and workers as processes, fits from other processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

import dnmf
from dnmf.testing.problems import planted_poisson

pytestmark = [pytest.mark.timeout(180), pytest.mark.cluster]

MANUAL = Path(__file__).parents[2] / "deploy" / "manual"
LOCAL = ("--host", "127.0.0.1", "--no-dashboard")
FIT = ("-k", "4", "--seed", "1", "--tol", "0", "--max-passes", "3", "--block-size", str(10 * 256))


@pytest.fixture
def environment():
    """``python`` and ``dask`` are those of this environment, and choose kernels themselves."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**{k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}, "PATH": path}


@contextmanager
def running(command, environment, log):
    """A process with its children, which end with the context."""
    with open(log, "wb") as said:
        process = subprocess.Popen(
            [str(part) for part in command],
            env=environment,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def wait_for(path, process, log):
    """Until the scheduler has written its file; its address."""
    end = time.monotonic() + 60
    while not (path.exists() and path.read_text().endswith("}")):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)
    return json.loads(path.read_text())["address"]


def wait_for_workers(address, count):
    """Until so many workers have joined, none of which samples stacks."""
    from distributed import Client

    with Client(address, timeout=20, set_as_default=False) as client:
        client.wait_for_workers(count, timeout=60)
        callbacks = client.run(lambda dask_worker: list(dask_worker.periodic_callbacks))
        assert len(callbacks) == count
        assert not any("profile" in names for names in callbacks.values())


def fit(folder, name, where, environment):
    """``dnmf fit`` in a process of its own."""
    command = [sys.executable, "-m", "dnmf", "fit", folder / "V.npy", *FIT]
    command += ["--out", folder / f"{name}.zarr", *where]
    return subprocess.Popen(
        [str(part) for part in command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_fits_by_address_and_by_file(tmp_path, environment):
    np.save(tmp_path / "V.npy", planted_poisson(240, 30, 4).V)
    file, log = tmp_path / "cluster.json", tmp_path / "scheduler.log"
    start = [MANUAL / "start-scheduler.sh", file, "--port", "0", *LOCAL]
    with ExitStack() as stack:
        scheduler = stack.enter_context(running(start, environment, log))
        address = wait_for(file, scheduler, log)
        for number in range(2):
            join = [MANUAL / "start-worker.sh", file, "--nthreads", "1", "--memory-limit", "1GiB"]
            join += ["--local-directory", tmp_path / f"worker-{number}", *LOCAL]
            stack.enter_context(running(join, environment, tmp_path / f"worker-{number}.log"))
        wait_for_workers(address, 2)
        outs = {
            "address": ("--scheduler", address),
            "file": ("--scheduler-file", file),
            "serial": ("--workers", "0"),
        }
        fits = {name: fit(tmp_path, name, where, environment) for name, where in outs.items()}
        for process in fits.values():
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, out + err
    found = {name: dnmf.open(tmp_path / f"{name}.zarr") for name in outs}
    for name in ("address", "file"):
        assert found[name].details["layout"]["segments"] == 24
        np.testing.assert_array_equal(found[name].W[:], found["serial"].W[:])
        np.testing.assert_array_equal(found[name].H[:], found["serial"].H[:])


def test_the_scripts_say_how_they_are_used(environment):
    for name in ("start-scheduler.sh", "start-worker.sh"):
        assert name in (MANUAL / "README.md").read_text()
        done = subprocess.run(
            [MANUAL / name], env=environment, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 2
        assert f"{name} FILE" in done.stderr
