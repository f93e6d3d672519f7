"""Many passes leave nothing behind: not on the scheduler, not on workers, not in this process."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
from executor_tools import faulty, fit

import dnmf
from dnmf.cli.memory_use import resident
from dnmf.executors.local import start_local
from dnmf.steps.events import Committed
from dnmf.steps.serial import Serial
from dnmf.testing import faults
from dnmf.testing.layouts import write_dense
from dnmf.testing.problems import planted_poisson

pytestmark = pytest.mark.timeout(300)

WORK = {"segments": 4, "slab_size": 1 << 20}


def _scheduler(dask_scheduler):
    state = dask_scheduler
    return [len(state.tasks), len(state.task_groups), len(state.task_prefixes), len(state.clients)]


ONE_STEP = 40  # task states of a step over four segments, at most


def _settled(client):
    """What the scheduler holds, once the notes that let go of an earlier step's tasks arrived.

    They travel in batches, behind the answer that ends the step: on a busy machine two steps'
    tasks are there for a moment. What is left behind stays, however long one waits.
    """
    for _ in range(100):
        held = client.run_on_scheduler(_scheduler)
        if held[0] <= ONE_STEP:
            break
        time.sleep(0.05)
    return held


def _worker(dask_worker):
    return [len(dask_worker.state.tasks), len(os.listdir("/proc/self/fd"))]


def _open_files(client):
    """Of this process and of each worker."""
    return [len(os.listdir("/proc/self/fd")), *(n for _, n in client.run(_worker).values())]


def _watch(client, undisturbed, out, passes, every):
    """What there is after every commit, by name a list."""
    seen = {"scheduler": [], "workers": [], "files": [], "open": [], "memory": []}

    def look(event):
        if not (isinstance(event, Committed) and event.kind == "pass"):
            return
        if event.rows[-1]["pass"] % every:
            return
        seen["scheduler"].append(_settled(client))
        seen["workers"].append([value for pair in client.run(_worker).values() for value in pair])
        seen["files"].append(sum(len(files) for _, _, files in os.walk(out)))
        seen["open"].append(len(os.listdir("/proc/self/fd")))
        seen["memory"].append([resident()[0], *(now for now, _ in client.run(resident).values())])

    result = fit(undisturbed.V, out, client, max_passes=passes, on_event=look, **WORK)
    assert result.passes == passes
    assert len(seen["scheduler"]) == passes // every
    return seen


def _flat(seen):
    """The second half is no larger than the first, besides what is under way at the moment."""
    half = len(seen["scheduler"]) // 2
    for name, rows in seen.items():
        if name == "memory":
            continue
        rows = [row if isinstance(row, list) else [row] for row in rows]
        for column in range(len(rows[0])):
            early = max(row[column] for row in rows[:half])
            late = max(row[column] for row in rows[half:])
            assert late <= 1.2 * early + 3, (name, column, rows)


def _spans(dask_scheduler):
    return len(dask_scheduler.extensions["spans"].spans)


def _measurements(dask_worker):
    return len(dask_worker.digests_total)


def _slopes(rows, every):
    """By how much this process and each worker grow in a pass, by the later two thirds."""
    later = np.array(rows[len(rows) // 3 :], float)
    return [float(np.polyfit(every * np.arange(len(later)), column, 1)[0]) for column in later.T]


@pytest.mark.slow
def test_two_hundred_passes(client, undisturbed, tmp_path):
    before = client.run_on_scheduler(_spans)
    most = max(client.run(_measurements).values())
    seen = _watch(client, undisturbed, tmp_path / "out", 200, 10)
    assert max(tasks for tasks, *_ in seen["scheduler"]) <= ONE_STEP  # of 200
    _flat(seen)
    # what Dask measures it keeps for ever, span by span: a fit is one, not every step of it
    assert client.run_on_scheduler(_spans) <= before + 2
    assert max(client.run(_measurements).values()) <= most + 100


@pytest.mark.chaos
def test_five_hundred_passes(undisturbed, tmp_path, record_property):
    with start_local(2, 1, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        seen = _watch(client, undisturbed, tmp_path / "out", 500, 5)
    assert max(tasks for tasks, *_ in seen["scheduler"]) <= ONE_STEP
    _flat(seen)
    files = [[here, *of[1::2]] for here, of in zip(seen["open"], seen["workers"], strict=True)]
    assert max(_slopes(files, 5)) < 0.01  # 5 in 500 passes
    here, *workers = _slopes(seen["memory"], 5)
    record_property(
        "bytes that each of 500 passes leaves in client and workers",
        str([round(slope) for slope in (here, *workers)]),
    )
    # Measured: 13 kB here (the history, and Dask's scheduler, which keeps a note of every step),
    # 4 to 5 kB on a worker. A pass that left an H or a task behind would show as more.
    assert here < 25_000
    assert max(workers) < 12_000


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_twenty_thousand_chunks_in_two_thousand_segments(client, tmp_path):
    """Every block is read once per pass, and the bits are those of a serial fit."""
    V = planted_poisson(40_000, 8, 3).V
    write_dense(tmp_path / "V.zarr", V, (4, 4), compressors=None)
    options = {"k": 3, "seed": 1, "tol": 0, "max_passes": 2, "sample": 0, "segments": 2000}
    options |= {"block_size": 20 * 64 * 4}  # 20 rows, since rows count as 64 columns
    alone = dnmf.fit(tmp_path / "V.zarr", out=tmp_path / "a", executor=Serial(), **options)
    assert alone.details["layout"] | {"slabs": 1} == {
        "shape": [40_000, 8],
        "blocks": 2000,
        "segments": 2000,
        "slabs": 1,
        "bytes_per_read": V.nbytes,
    }
    before, held = _open_files(client), []

    def look(event):
        if isinstance(event, Committed):
            held.append(client.run_on_scheduler(_scheduler)[0])

    with faulty(client, tmp_path / "f") as counts:
        options["on_event"] = look
        result = dnmf.fit(tmp_path / "V.zarr", out=tmp_path / "b", client=client, **options)
        assert faults.count(counts, "block-read") == 2000  # it stays in memory after the scan
    # segments that are kept, a step's leaves, sums and ends, and those of the step before
    assert len(held) == 4
    assert max(held) <= 2000 + 2 * (2000 + 300)
    assert max(now - then for now, then in zip(_open_files(client), before, strict=True)) <= 20
    np.testing.assert_array_equal(result.W[:], alone.W[:])
    np.testing.assert_array_equal(result.H[:], alone.H[:])
    assert [row["objective"] for row in result.history] == [
        row["objective"] for row in alone.history
    ]
