"""The same bits from any number of workers and threads, with segments in memory or not."""

from __future__ import annotations

from collections import Counter

import pytest
from executor_tools import (
    PASSES,
    SEGMENTS,
    assert_undisturbed,
    cluster_of,
    everywhere,
    faulty,
    fit,
    once_per_pass,
    until,
)

from dnmf.executors.watch import workers_of
from dnmf.steps.events import Committed
from dnmf.testing import faults
from dnmf.testing.faults import Fault

pytestmark = [pytest.mark.timeout(180), pytest.mark.cluster]


def test_two_workers_of_two_threads_that_keep_nothing_in_memory(streaming, undisturbed, tmp_path):
    with faulty(streaming, tmp_path / "f") as counts:
        result = fit(undisturbed.V, tmp_path / "out", streaming)
        once_per_pass(counts)
        assert faults.count(counts, "block-read") == (PASSES + 1) * SEGMENTS
    assert_undisturbed(result, undisturbed)


def test_one_worker_of_three_threads(undisturbed, tmp_path):
    with cluster_of(1, 3) as client, faulty(client, tmp_path / "f") as counts:
        result = fit(undisturbed.V, tmp_path / "out", client)
        once_per_pass(counts)
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
@pytest.mark.parametrize("memory_limit", [0, "auto"])
def test_workers_join_and_leave(undisturbed, tmp_path, memory_limit):
    sizes = {1: 4, 3: 2}
    with cluster_of(1, 1, memory_limit) as client, faulty(client, tmp_path / "f", []) as counts:

        def scale(event):
            passes = event.rows[-1]["pass"] if isinstance(event, Committed) and event.rows else 0
            if passes in sizes:
                client.cluster.scale(sizes[passes])
                until(lambda: len(workers_of(client)) == sizes[passes])
                everywhere(client, faults.switch, counts)

        result = fit(undisturbed.V, tmp_path / "out", client, on_event=scale)
        once_per_pass(counts)
        shares = [share(counts, step) for step in range(1, 5)]
        assert len(shares[0]) == 1
        if not memory_limit:  # else Dask may leave tiny tasks where their data are
            assert len(shares[1]) == 4  # within one pass, in which they import all that they need
            assert max(shares[2]) <= SEGMENTS // 2
            assert len(shares[3]) == 2
        client.cluster.scale(1)
        until(lambda: len(workers_of(client)) == 1)
    assert_undisturbed(result, undisturbed)


@pytest.mark.chaos
@pytest.mark.parametrize("memory_limit", [0, "auto"], ids=["streaming", "in memory"])
def test_newcomers_have_a_fair_share_of_the_next_pass(undisturbed, tmp_path, memory_limit):
    """Where a pass takes much longer than the first leaf of a newcomer.

    Leaves are slow in the pass before too: by what they took there Dask shares them out.
    """
    slow = [
        Fault("segment-solved", "hang", {"step": step}, times=10**6, seconds=seconds)
        for step, seconds in ((1, 0.2), (2, 1.0))
    ]
    with cluster_of(1, 1, memory_limit) as client, faulty(client, tmp_path / "f", slow) as counts:

        def grow(event):
            if isinstance(event, Committed) and event.rows and event.rows[-1]["pass"] == 1:
                client.cluster.scale(4)
                client.wait_for_workers(4, timeout=60)
                everywhere(client, faults.switch, counts)

        result = fit(undisturbed.V, tmp_path / "out", client, on_event=grow)
        once_per_pass(counts)
        shares = sorted(share(counts, 2))
        client.cluster.scale(1)
        until(lambda: len(workers_of(client)) == 1)
    assert_undisturbed(result, undisturbed)
    assert len(shares) == 4, shares
    assert shares[0] >= SEGMENTS // 4 // 2, shares
    assert shares[-1] <= 2 * SEGMENTS // 4, shares


def share(counts, step):
    """How many segments each process solved."""
    return list(
        Counter(hit["pid"] for hit in faults.reached(counts, "segment-solved", step=step)).values()
    )
