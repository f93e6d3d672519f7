"""Several fits on one cluster and in one process; two that want the same run."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from executor_tools import (
    OPTIONS,
    PASSES,
    SEGMENTS,
    assert_undisturbed,
    faulty,
    fit,
    meanwhile,
    until,
    who_executed,
    written,
)

import dnmf
from dnmf.errors import OptionError, RunLockedError
from dnmf.steps.events import Progress
from dnmf.steps.serial import Serial
from dnmf.testing import faults
from dnmf.testing.faults import Fault

pytestmark = pytest.mark.timeout(120)


def test_fits_at_once_on_one_cluster_from_one_process(client, undisturbed, tmp_path):
    from distributed import Client

    told = [[], [], []]
    with (
        Client(client.scheduler.address, set_as_default=False) as other,
        faulty(client, tmp_path / "faults") as counts,
        ThreadPoolExecutor(3) as pool,
    ):
        waiting = [
            pool.submit(fit, undisturbed.V, tmp_path / str(i), runner, on_event=told[i].append)
            for i, runner in enumerate((client, client, other))
        ]
        results = [one.result(timeout=90) for one in waiting]
        assert [written(counts, step) for step in range(1, 5)] == [3 * SEGMENTS] * PASSES
    for result, events in zip(results, told, strict=True):
        assert_undisturbed(result, undisturbed)
        leaves = [event for event in events if isinstance(event, Progress)]
        assert len([event for event in leaves if event.kind == "pass"]) == PASSES * SEGMENTS


def test_a_second_client_of_a_run_is_refused(client, undisturbed, tmp_path):
    hang = Fault("segment-solved", "hang", {"step": 2})
    out = tmp_path / "out"
    with faulty(client, tmp_path / "faults", [hang]) as counts:

        def resume_too():
            until(lambda: faults.struck(counts))
            try:
                with pytest.raises(RunLockedError, match="is being worked on by process"):
                    dnmf.resume(out, client=client)
            finally:
                faults.release(counts)

        with meanwhile(resume_too):
            result = fit(undisturbed.V, out, client)
        assert [written(counts, step) for step in range(1, 5)] == [SEGMENTS] * PASSES
    assert_undisturbed(result, undisturbed)


def test_of_two_processes_that_resume_at_once_one_is_refused(undisturbed, tmp_path):
    """Whoever comes first goes on, and waits here until the other one has ended."""
    out = tmp_path / "out"
    stop = Fault("record-committed", "interrupt", {"index": 2})
    with faults.active(tmp_path / "first", [stop]), pytest.raises(KeyboardInterrupt):
        dnmf.fit(undisturbed.V, out=out, executor=Serial(), **OPTIONS)
    hang = Fault("block-read", "hang", times=2)
    with faults.active(tmp_path / "both", [hang]) as counts:
        command = [sys.executable, "-m", "dnmf", "resume", str(out), "--workers", "0"]
        both = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for _ in range(2)
        ]
        until(lambda: [one for one in both if one.poll() is not None], 60)
        (refused,) = [one for one in both if one.poll() is not None]
        (works,) = [one for one in both if one is not refused]
        said, _ = refused.communicate(timeout=60)
        assert refused.returncode == 2, said
        assert f"is being worked on by process {works.pid}" in said
        assert "Traceback" not in said
        faults.release(counts)
        said, _ = works.communicate(timeout=60)
        assert works.returncode == 0, said
        ran = [written(counts, step) for step in range(1, 5)]
        assert ran == [0, 0, SEGMENTS, SEGMENTS]
    result = dnmf.open(out)
    assert_undisturbed(result, undisturbed)
    assert [pid for step, pid in who_executed(result) if step > 2] == [works.pid] * 3


def test_out_is_needed_on_a_cluster(client, undisturbed):
    with pytest.raises(OptionError, match="needs out: a path that all workers reach"):
        fit(undisturbed.V, None, client)
