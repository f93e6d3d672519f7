"""A task that runs out of memory: one clear error with the numbers, no endless restarts."""

from __future__ import annotations

import contextlib
import re

import pytest
from executor_tools import OPTIONS, assert_undisturbed, cluster_of, faulty, fit

import dnmf
from dnmf.errors import OutOfMemoryError, WorkersDiedError
from dnmf.steps.serial import Serial
from dnmf.testing import faults
from dnmf.testing.faults import Fault

pytestmark = pytest.mark.timeout(240)


@pytest.mark.parametrize("point", ["segment-solved", "combine", "finish"])
@pytest.mark.parametrize("where", ["serial", pytest.param("cluster", marks=pytest.mark.cluster)])
def test_the_system_refuses_memory(request, undisturbed, tmp_path, point, where):
    """As under a limit of the process (ulimit), or where overcommitting is off."""
    refuse = Fault(point, "no-memory", {"step": 2}, times=10**6)
    client = request.getfixturevalue("streaming") if where == "cluster" else None
    runner = {"client": client} if client else {"executor": Serial()}
    with contextlib.ExitStack() as stack:
        folder = tmp_path / "f"
        stack.enter_context(faulty(client, folder, [refuse]) if client else active(folder, refuse))
        with pytest.raises(OutOfMemoryError) as caught:
            dnmf.fit(undisturbed.V, out=tmp_path / "out", **runner, **OPTIONS)
    message = str(caught.value)
    assert "ran out of memory" in message
    assert f"planned fault at {point}" in message
    assert re.search(r"By the plan a worker needs \d[\d,]* MB", message)
    assert f"dnmf resume {tmp_path / 'out'}" in message
    assert_undisturbed(dnmf.resume(tmp_path / "out", **runner), undisturbed)


def active(folder, fault):
    return faults.active(folder, [fault])


@pytest.mark.chaos
@pytest.mark.cluster
def test_out_of_memory(undisturbed, tmp_path):
    eat = Fault("segment-solved", "eat", {"step": 2, "segment": 5}, times=10**6, seconds=30)
    with cluster_of(2, 1, memory_limit="700MB") as client:
        with (
            faulty(client, tmp_path / "f", [eat]) as counts,
            pytest.raises(WorkersDiedError) as caught,
        ):
            fit(undisturbed.V, tmp_path / "out", client)
        message = str(caught.value)
        assert faults.struck(counts) == 8  # twice as often as Dask allows a task
        assert "8 workers died one after the other" in message
        assert "memory limit was 700 MB" in message
        assert "8 times a nanny restarted a worker because of its memory" in message
        assert re.search(r"By the plan a worker needs \d[\d,]* MB", message)
        assert "dnmf resume" in message
        result = dnmf.resume(tmp_path / "out", client=client)
    assert_undisturbed(result, undisturbed)
