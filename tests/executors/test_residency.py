"""Segments that stay in the workers' memory: as many as the plan says; no bit depends on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import zarr

import dnmf
from dnmf.executors.cluster import Cluster
from dnmf.executors.local import local_resources, start_local
from dnmf.steps.residency import RESIDENT, UNEVEN
from dnmf.steps.serial import Serial

pytestmark = [pytest.mark.timeout(180), pytest.mark.cluster]

SHAPE, WORKERS = (6_000, 5_000), 2
OPTIONS: dict[str, Any] = {
    "seed": 0,
    "sample": 0,
    "max_passes": 3,
    "tol": 0,
    "block_size": 4 << 20,
    "segments": 30,
}


class Half(NamedTuple):
    client: Any
    limit: int
    path: str


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Half]:
    """V of 120 MB, and two workers whose room is for about half of it."""
    path = str(tmp_path_factory.mktemp("residency") / "V.zarr")
    array = zarr.create_array(path, shape=SHAPE, chunks=(200, SHAPE[1]), dtype="f4")
    array[:] = np.random.default_rng(0).random(SHAPE, np.float32)
    nbytes = 4 * SHAPE[0] * SHAPE[1]
    large = local_resources(WORKERS, 1, 8 << 30)
    need = dnmf.plan(path, 4, resources=large, **OPTIONS).memory.total
    limit = int((need + 0.5 * nbytes / WORKERS / UNEVEN) / RESIDENT)
    with start_local(WORKERS, 1, limit) as client:
        yield Half(client, limit, path)


def test_a_part_of_v_is_kept_as_the_plan_says(half: Half, tmp_path: Path) -> None:
    report = dnmf.plan(half.path, 4, client=half.client, **OPTIONS)
    kept, segments = report.segments_kept, report.plan.segments
    assert 0.3 * segments < kept < 0.7 * segments
    assert dict(report.lines())["kept in memory"].startswith(f"{kept} of {segments} segments of V")
    executor = Cluster(half.client)
    fit = dnmf.fit(half.path, 4, out=tmp_path / "part", executor=executor, **OPTIONS)
    assert executor.resident() == frozenset(range(kept))
    rest = sum(report.plan.segment_bytes[kept:])
    assert [row["bytes_read"] for row in fit.history] == [rest] * 3
    serial = dnmf.fit(half.path, 4, out=tmp_path / "none", executor=Serial(), **OPTIONS)
    assert {row["bytes_read"] for row in serial.history} == {report.plan.bytes_per_read}
    np.testing.assert_array_equal(np.asarray(fit.W), np.asarray(serial.W))
    np.testing.assert_array_equal(np.asarray(fit.H), np.asarray(serial.H))


def test_nothing_of_it_is_spilled(half: Half, tmp_path: Path) -> None:
    """What is kept stays below where Dask begins to write to the disk."""
    dnmf.fit(half.path, 4, out=tmp_path / "fit", client=half.client, **OPTIONS)

    def written(dask_worker: Any) -> int:
        return int(dask_worker.data.cumulative_metrics.get(("disk-write", "bytes"), 0))

    assert set(half.client.run(written).values()) == {0}
