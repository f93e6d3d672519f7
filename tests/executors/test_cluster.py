"""The cluster executor: the contract."""

from __future__ import annotations

import os

import pytest

from dnmf.executors.cluster import Cluster
from dnmf.executors.local import start_local
from dnmf.testing.executor_contract import ExecutorContract

pytestmark = pytest.mark.timeout(120)


class TestCluster(ExecutorContract):
    kind = "cluster"

    @pytest.fixture
    def executor(self, client):
        return Cluster(client)


def test_workers_keep_the_buffers_that_they_free(monkeypatch):
    """glibc reads these variables when a process starts; what a user set is left alone."""
    names = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_ARENA_MAX")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "3")
    with start_local(1, 1, 10**9, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=60)
        (found,) = client.run(lambda: [os.environ.get(name) for name in names]).values()
    assert found == [str(64 << 20), str(32 << 20), "3"]
