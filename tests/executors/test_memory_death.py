"""A task that runs out of memory: one clear error with the numbers, no endless restarts."""

from __future__ import annotations

import pytest
from executor_tools import assert_undisturbed, cluster_of, faulty, fit

import dnmf
from dnmf.errors import WorkersDiedError
from dnmf.testing import faults
from dnmf.testing.faults import Fault

pytestmark = [pytest.mark.timeout(240), pytest.mark.cluster, pytest.mark.chaos]


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
        assert "By the plan a worker needs" in message
        assert "dnmf resume" in message
        result = dnmf.resume(tmp_path / "out", client=client)
    assert_undisturbed(result, undisturbed)
