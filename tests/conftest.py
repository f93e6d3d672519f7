"""What several test folders share: the real data, and one small cluster."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from marks import FLUSHED, NO_FLUSH, NOT_QUICK

from dnmf import faultpoints
from dnmf.testing import faults

if TYPE_CHECKING:
    from distributed import Client

ROOT = Path(__file__).parents[1]
CLUSTERS = {"client", "streaming"}
"""Fixtures that start workers."""

STRUCK = pytest.StashKey[Counter[str]]()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real data: ``DNMF_DATA``, else ``../shared/data`` beside the project.

    Tests skip where it is absent, and fail instead under ``DNMF_REQUIRE_DATA=1``.
    """
    named = os.environ.get("DNMF_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if folder.is_dir():
        return folder.resolve()
    reason = f"no real data at {folder} (set DNMF_DATA to the folder that has them)"
    if os.environ.get("DNMF_REQUIRE_DATA") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """A client of a local cluster: 2 processes of 1 thread, no dashboard."""
    import dask.config
    from distributed import Client, LocalCluster

    # else the cluster gives up a worker that happens to restart when it looks
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1 day"}):
        with dask.config.set({"distributed.worker.preload": [NO_FLUSH]}):
            cluster = LocalCluster(
                n_workers=2,
                threads_per_worker=1,
                processes=True,
                dashboard_address=":0",  # any free port; None still tries one, and warns
                scheduler_kwargs={"dashboard": False},
            )
        with cluster, Client(cluster, set_as_default=False) as connected:
            connected.wait_for_workers(2, timeout=60)
            yield connected


@pytest.fixture(autouse=True)
def _environment_is_left_as_it_was() -> Iterator[None]:
    """What a test leaves in it reaches all processes that later tests start."""
    before = _environment()
    yield
    assert _environment() == before, "the test left another environment behind"


def _environment() -> dict[str, str]:
    """What decides results or places; Dask leaves variables of its own behind."""
    watched = ("DNMF_", "NUMBA_", "OPENBLAS_CORETYPE", "PATH", "PYTHONPATH", "TMPDIR", "XDG_")
    return {name: value for name, value in os.environ.items() if name.startswith(watched)}


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever uses a shared cluster is a cluster test; what takes no time is a quick one.

    What asks for a cluster by name, with ``request.getfixturevalue``, has the mark of its own.
    """
    for item in items:
        if not CLUSTERS.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.cluster)
        marks = {mark.name for mark in item.iter_markers()}
        path = item.path.relative_to(ROOT / "tests").as_posix()
        if marks.isdisjoint({"slow", "chaos", "cluster"}) and not (
            path in NOT_QUICK or path.split("/")[0] in NOT_QUICK
        ):
            item.add_marker(pytest.mark.quick)


@pytest.fixture(autouse=True)
def _nobody_cuts_the_power(request: pytest.FixtureRequest) -> Iterator[None]:
    """Files need not reach the disk: thousands of small ones, of which each is waited for."""
    if {request.path.stem, request.path.parent.name}.isdisjoint(FLUSHED):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", lambda handle: None)
            yield
    else:
        yield


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard() -> None:
    """What a shell puts into the background ignores SIGINT, and so would all that a test starts."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _count_of_faults(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Count at the end what faults struck, by action; a plan of them lies in a folder of its own.

    Only those of ``dnmf.testing.faults``: what a test does to a process itself is not in it.
    """
    yield
    struck: Counter[str] = Counter()
    for plan in tmp_path_factory.getbasetemp().rglob(faultpoints.PLAN):
        for number, fault in enumerate(json.loads(plan.read_text(encoding="utf-8"))):
            struck[fault["action"]] += faults.struck(plan.parent, number)
    request.config.stash[STRUCK] = struck
    if hasattr(request.config, "workeroutput"):  # one of several processes of pytest-xdist
        request.config.workeroutput["struck"] = dict(struck)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_testnodedown(node: Any, error: object) -> None:
    """Add up what its processes counted."""
    stash = node.config.stash
    counted = getattr(node, "workeroutput", {}).get("struck", {})
    stash[STRUCK] = stash.get(STRUCK, Counter()) + Counter(counted)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say what tests measured, how many cases of bad input were tried and faults injected."""
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, ())]
    cases = 0
    for report in (report for report in reports if report.when == "call"):
        for name, value in report.user_properties:
            if name == "cases":
                cases += value
            else:
                terminalreporter.write_line(f"{name}: {value}")
    if cases:
        terminalreporter.write_line(f"cases of damaged or bad input: {cases}")
    struck = +config.stash.get(STRUCK, Counter())
    if struck:
        each = ", ".join(f"{action} {times}" for action, times in struck.most_common())
        terminalreporter.write_line(f"faults injected: {struck.total()} ({each})")
