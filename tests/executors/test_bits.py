"""The same bits from any number of workers and threads, with segments in memory or not."""

from __future__ import annotations

import os
from contextlib import contextmanager

import pytest
from executor_tools import (
    PASSES,
    SEGMENTS,
    assert_undisturbed,
    faulty,
    fit,
    once_per_pass,
)

from dnmf.fitting.events import Committed
from dnmf.testing import faults

pytestmark = [pytest.mark.timeout(180), pytest.mark.cluster]


@contextmanager
def cluster_of(workers, threads, memory_limit="auto"):
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            memory_limit=memory_limit,
            dashboard_address=":0",
            scheduler_kwargs={"dashboard": False},
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(workers, timeout=60)
        yield client


def test_one_worker_of_three_threads_that_keeps_nothing_in_memory(undisturbed, tmp_path):
    with cluster_of(1, 3, memory_limit=0) as client, faulty(client, tmp_path / "f") as counts:
        result = fit(undisturbed.V, tmp_path / "out", client)
        once_per_pass(counts)
        assert faults.count(counts, "block-read") == (PASSES + 1) * SEGMENTS
    assert_undisturbed(result, undisturbed)


def test_segments_that_stay_in_memory_are_read_once(client, undisturbed, tmp_path):
    with faulty(client, tmp_path / "f") as counts:
        result = fit(undisturbed.V, tmp_path / "out", client)
        once_per_pass(counts)
        assert faults.count(counts, "block-read") == SEGMENTS
    assert_undisturbed(result, undisturbed)


@pytest.mark.chaos
@pytest.mark.parametrize(("workers", "threads"), [(4, 1), (2, 2)])
def test_more_workers_and_threads(undisturbed, tmp_path, workers, threads):
    with cluster_of(workers, threads) as client, faulty(client, tmp_path / "f") as counts:
        result = fit(undisturbed.V, tmp_path / "out", client)
        once_per_pass(counts)
    assert_undisturbed(result, undisturbed)


@pytest.mark.chaos
def test_workers_join_and_leave(undisturbed, tmp_path):
    sizes = {0: 1, 1: 4, 2: 4, 3: 2}
    with cluster_of(1, 1) as client, faulty(client, tmp_path / "f") as counts:

        def scale(event):
            passes = event.rows[-1]["pass"] if isinstance(event, Committed) and event.rows else None
            if passes in sizes:
                client.cluster.scale(sizes[passes])
                client.wait_for_workers(sizes[passes], timeout=60)
                client.run(faults.switch, counts)

        result = fit(undisturbed.V, tmp_path / "out", client, on_event=scale)
        once_per_pass(counts, 1, 2, 3, 4)  # whatever a leaving worker held may run again
        shares = [
            len({hit["pid"] for hit in faults.reached(counts, "segment-written", step=step)})
            for step in range(1, 5)
        ]
        assert shares[0] == 1
        assert shares[1] >= 3  # new workers take part within one pass
        client.cluster.scale(1)
        client.wait_for_workers(1)
        assert os.path.exists(result.path)
    assert_undisturbed(result, undisturbed)
