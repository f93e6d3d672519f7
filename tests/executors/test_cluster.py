"""The cluster executor: the contract."""

from __future__ import annotations

import os
import sys

import dask
import psutil
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


def test_workers_are_seen_whatever_the_client_asks_meanwhile():
    """It asks for nothing but the scheduler itself, every two seconds, and keeps the answer."""
    with (
        dask.config.set({"distributed.client.scheduler-info-interval": "1ms"}),
        start_local(1, 1, 10**9, set_as_default=False) as client,
    ):
        client.wait_for_workers(1, timeout=60)
        executor = Cluster(client)
        for _ in range(500):
            assert executor.resources().workers == 1


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


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim is glibc's")
def test_a_worker_that_is_nearly_full_gives_back_what_malloc_keeps():
    """Else Dask pauses it, and it has no task any more that could free anything."""

    def of_worker(dask_worker, share):
        from dnmf.executors import cluster, dask_private

        memory = psutil.Process().memory_info().rss
        dask_worker.memory_manager.memory_limit = int(memory / share)
        dask_private.get_worker = lambda: dask_worker
        kept = [bytearray(1 << 20) for _ in range(200)]  # below the threshold of mmap
        last = bytearray(1 << 20)  # so that the top of the heap is in use
        del kept
        before = psutil.Process().memory_info().rss
        cluster._give_back()
        given = before - psutil.Process().memory_info().rss
        del last
        return given

    with start_local(1, 1, None, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=60)
        (little,) = client.run(of_worker, share=0.1).values()
        (much,) = client.run(of_worker, share=0.9).values()
    assert little < 20 << 20 < 150 << 20 < much
