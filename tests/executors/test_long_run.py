"""Many passes leave nothing behind: not on the scheduler, not on workers, not in this process."""

from __future__ import annotations

import os

import pytest
from executor_tools import fit

from dnmf.fitting.events import Committed

pytestmark = pytest.mark.timeout(300)

WORK = {"segments": 4, "slab_size": 1 << 20}


def _scheduler(dask_scheduler):
    state = dask_scheduler
    return [len(state.tasks), len(state.task_groups), len(state.task_prefixes), len(state.clients)]


def _worker(dask_worker):
    return [len(dask_worker.state.tasks), len(os.listdir("/proc/self/fd"))]


def _watch(client, undisturbed, out, passes, every):
    """What there is after every commit, by name a list."""
    seen = {"scheduler": [], "workers": [], "files": []}

    def look(event):
        if not (isinstance(event, Committed) and event.kind == "pass"):
            return
        if event.rows[-1]["pass"] % every:
            return
        seen["scheduler"].append(client.run_on_scheduler(_scheduler))
        seen["workers"].append([value for pair in client.run(_worker).values() for value in pair])
        seen["files"].append(sum(len(files) for _, _, files in os.walk(out)))

    result = fit(undisturbed.V, out, client, max_passes=passes, on_event=look, **WORK)
    assert result.passes == passes
    assert len(seen["scheduler"]) == passes // every
    return seen


def _flat(seen):
    """The second half is no larger than the first, besides what is under way at the moment."""
    half = len(seen["scheduler"]) // 2
    for name, rows in seen.items():
        rows = [row if isinstance(row, list) else [row] for row in rows]
        for column in range(len(rows[0])):
            early = max(row[column] for row in rows[:half])
            late = max(row[column] for row in rows[half:])
            assert late <= 1.2 * early + 3, (name, column, rows)


def test_two_hundred_passes(client, undisturbed, tmp_path):
    seen = _watch(client, undisturbed, tmp_path / "out", 200, 10)
    assert max(tasks for tasks, *_ in seen["scheduler"]) <= 40  # one step's, of 200
    _flat(seen)


@pytest.mark.chaos
def test_five_hundred_passes(client, undisturbed, tmp_path):
    seen = _watch(client, undisturbed, tmp_path / "out", 500, 5)
    assert max(tasks for tasks, *_ in seen["scheduler"]) <= 40
    _flat(seen)
