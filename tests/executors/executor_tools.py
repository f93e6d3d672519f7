"""What the tests of faults share: one small fit, its undisturbed result, and faults on workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from marks import NO_FLUSH

import dnmf
from dnmf.executors.local import connect
from dnmf.executors.watch import workers_of
from dnmf.testing import faults
from dnmf.testing.problems import planted_poisson

SEGMENTS, PASSES, STEPS = 24, 4, 6
"""Steps are the scan (0), the passes (1 to 4) and the publication (5)."""

OPTIONS: dict[str, Any] = {
    "k": 4,
    "seed": 1,
    "tol": 0,
    "max_passes": PASSES,
    "sample": 0,
    "rounds": 0,  # steps are counted; rounds have tests of their own
    "block_size": 10 * 64 * 4,  # 10 rows
    "fan_in": 3,  # 24, 8, 3, 1
    "slab_size": 8 * 4 * 16,  # 16 of 30 columns
}

DECISIONS = ("pass", "accepted", "objective", "relative_error", "kkt_W", "kkt_H", "extrapolation")


class Undisturbed(NamedTuple):
    """A matrix and what a serial fit that nothing disturbed makes of it."""

    V: str
    W: np.ndarray
    H: np.ndarray
    history: list[dict[str, Any]]


def write_V(folder: Path) -> str:
    """240 x 30 counts, one chunk per block."""
    V = planted_poisson(240, 30, 4).V
    path = str(folder / "V.zarr")
    zarr.create_array(path, shape=V.shape, chunks=(10, 30), dtype=V.dtype)[:] = V
    return path


def decisions(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What must be bitwise equal in a history."""
    return [{name: row[name] for name in DECISIONS} for row in history]


def assert_undisturbed(result: Any, reference: Undisturbed) -> None:
    """Bit for bit the fit that nothing disturbed."""
    assert result.done
    np.testing.assert_array_equal(result.W[:], reference.W)
    np.testing.assert_array_equal(result.H[:], reference.H)
    assert decisions(result.history) == decisions(reference.history)


@contextmanager
def faulty(client: Any, folder: Path, plan: list[faults.Fault] | None = None) -> Iterator[str]:
    """Faults in this process, in the workers that are there, and in those that nannies start."""
    count = len(workers_of(client))
    with faults.active(folder, plan or []) as path:
        everywhere(client, faults.switch, path)
        try:
            yield path
        finally:
            faults.release(path)
    client.wait_for_workers(count, timeout=60)
    everywhere(client, faults.switch, None)


def everywhere(client: Any, function: Callable[..., Any], *arguments: Any) -> None:
    """Run a function on all workers, also while some are leaving: those do not answer."""

    def run() -> bool:
        found = client.run(function, *arguments, on_error="return")
        for error in found.values():
            if isinstance(error, Exception) and not isinstance(error, OSError):
                raise error
        return not any(isinstance(error, OSError) for error in found.values())

    until(run)


def written(folder: str, step: int) -> int:
    """How often a segment of W was written in a step."""
    return faults.count(folder, "segment-written", step=step)


def once_per_pass(folder: str, *besides: int) -> None:
    """Every segment of every pass ran exactly once, besides the passes named."""
    for step in range(1, PASSES + 1):
        if step in besides:
            assert SEGMENTS <= written(folder, step) <= 3 * SEGMENTS
        else:
            assert written(folder, step) == SEGMENTS, f"step {step}"
        for segment in range(SEGMENTS):
            assert faults.count(folder, "segment-written", step=step, segment=segment) >= 1


def until(true: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Wait until something is true; its value."""
    end = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)
    return value


@contextmanager
def meanwhile(action: Callable[[], None]) -> Iterator[None]:
    """Another thread does something; what it raises is raised here at the end."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    thread.join(30)
    if raised:
        raise raised[0]
    assert not thread.is_alive()


def kill_those_that_hang(folder: str, point: str, count: int, **match: Any) -> None:
    """SIGKILL the processes that hang at a point, all at once, when so many do."""
    reached = until(lambda: _enough(faults.reached(folder, point, **match), count))
    for pid in {details["pid"] for details in reached}:
        os.kill(pid, signal.SIGKILL)
    faults.release(folder)


def _enough(reached: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return reached if len({details["pid"] for details in reached}) >= count else []


def fit_elsewhere(
    V: str, out: Path, address: str, options: dict[str, Any] = OPTIONS, **variables: str
) -> subprocess.Popen[str]:
    """The same fit, begun by a process of its own on a cluster that runs."""
    program = (
        "import sys, dnmf; from distributed import Client;"
        "options = eval(sys.argv[4]); client = Client(sys.argv[3]);"
        "dnmf.fit(sys.argv[1], out=sys.argv[2], client=client, **options)"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, V, str(out), address, repr(options)],
        env={**os.environ, **variables},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def who_executed(result: Any) -> list[tuple[int, int]]:
    """Step and process id of every step of a finished fit."""
    return [(step, pid) for step, _, _, pid, _ in result.details["executed"]]


def fit(V: str, out: Path, client: Any, **options: Any) -> Any:
    """The small fit on a cluster."""
    return dnmf.fit(V, out=out, client=client, **{**OPTIONS, **options})


@contextmanager
def cluster_of(
    workers: int,
    threads: int,
    memory_limit: Any = "auto",
    given_up: str = "1 day",
    preload: str = "",
) -> Iterator[Any]:
    """A client of a local cluster; a memory limit of 0 is none.

    Of workers without a limit nobody knows how much they may keep, so they keep no segments.
    All of its workers, also those that nannies start later, run the code of ``preload`` first.
    """
    import dask.config
    from distributed import Client, LocalCluster

    # who lives for seconds does not spend them on imports, however busy the machine
    code = ["import dnmf.executors.cluster, dnmf.fitting.loop", NO_FLUSH]
    code += [preload] if preload else []
    with ExitStack() as stack:
        late = {"distributed.deploy.lost-worker-timeout": given_up}  # tests/conftest.py
        stack.enter_context(dask.config.set(late))
        with dask.config.set({"distributed.worker.preload": code}):  # not for clusters made inside
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=threads,
                memory_limit=memory_limit,
                dashboard_address=":0",
                scheduler_kwargs={"dashboard": False},
            )
        stack.enter_context(cluster)
        client = stack.enter_context(Client(cluster, set_as_default=False))
        client.wait_for_workers(workers, timeout=60)
        yield client


def in_process(workers: int, **options: Any) -> Any:
    """A cluster whose workers, of one thread each, are in this process."""
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=False,
        dashboard_address=":0",
        scheduler_kwargs={"dashboard": False},
        **options,
    )


class Machines:
    """A scheduler and workers in processes of their own, as on several machines.

    Parameters
    ----------
    folder : Path
        For the scheduler file and what the processes say.
    variables : dict
        Environment of all processes.
    """

    def __init__(self, folder: Path, **variables: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "scheduler.json"
        self._folder = folder
        self._variables = variables
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Machines:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.processes):
            self.kill(name)

    def start_scheduler(self, port: int = 0, **variables: str) -> str:
        """Start it; its address."""
        self.file.unlink(missing_ok=True)
        self._start("scheduler", "scheduler", "--port", str(port), **variables)
        until(lambda: self.file.exists() and self.file.read_text().endswith("}"))
        return str(json.loads(self.file.read_text())["address"])

    def start_worker(self, name: str, *options: str, nanny: bool = False, **variables: str) -> None:
        """Start a worker; without a nanny it is one process, that stays dead when it is killed."""
        kind = "--nanny" if nanny else "--no-nanny"
        self._start(name, "worker", kind, "--nthreads", "1", *options, **variables)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal; without another one, the process is gone afterwards."""
        process = self.processes[name]
        os.killpg(process.pid, number)
        if number == signal.SIGKILL:
            process.wait(30)
            del self.processes[name]

    def _start(self, name: str, kind: str, *options: str, **variables: str) -> None:
        command = [sys.executable, "-m", "dask", kind, "--scheduler-file", str(self.file)]
        command += ["--no-dashboard", "--host", "127.0.0.1", *options]
        with open(self._folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                env={**os.environ, **self._variables, **variables},
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
            )


@contextmanager
def connected(address: str, workers: int, timeout: float = 5.0) -> Iterator[Any]:
    """A client of a scheduler, which gives up soon when that is gone; with its workers."""
    client = connect(address, timeout=timeout)
    try:
        client.wait_for_workers(workers, timeout=60)
        yield client
    finally:
        client.close(timeout=2)
