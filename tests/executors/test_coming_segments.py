"""While a segment is computed, the first block of the one that comes next is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from executor_tools import cluster_of

import dnmf
from dnmf.executors.serial import Serial
from dnmf.executors.threads import Threads
from dnmf.fitting.work import coming_segment, followed_by
from dnmf.sources.zarr_dense import ZarrDense

pytestmark = pytest.mark.timeout(120)

SEGMENTS = 12
OPTIONS: dict[str, Any] = {
    "k": 3, "seed": 0, "sample": 0, "max_passes": 2, "tol": 0, "segments": SEGMENTS,
    "block_size": 10 * 30 * 4,
}  # fmt: skip


@pytest.fixture
def stored(tmp_path: Path) -> str:
    """24 blocks of 10 rows, two a segment."""
    V = np.random.default_rng(0).random((240, 30), np.float32)
    path = str(tmp_path / "V.zarr")
    zarr.create_array(path, shape=V.shape, chunks=(10, 30), dtype="f4")[:] = V
    return path


def test_nothing_comes_after_what_nobody_told() -> None:
    assert coming_segment() is None
    with followed_by(lambda: 3):
        with followed_by(lambda: 1):  # a race's leaf runs fits of its own
            assert coming_segment() == 1
        assert coming_segment() == 3
    assert coming_segment() is None


@pytest.mark.parametrize("threads", [1, 2])
def test_in_this_process(stored: str, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(ZarrDense, "expect", lambda _, a, b: asked.append((a, b)))
    executor = Serial() if threads == 1 else Threads(threads)
    fit = dnmf.fit(stored, executor=executor, **OPTIONS)
    reads = 1 + len(fit.history)
    wanted = [(20 * s, 20 * s + 10) for s in range(threads, SEGMENTS)]
    assert sorted(asked) == sorted(wanted * reads)


def _record(folder: str) -> None:
    """In a worker: each hint is a file."""
    import uuid

    def expect(_: Any, start: int, stop: int) -> None:
        (Path(folder) / f"{start}-{stop}-{uuid.uuid4().hex}").touch()

    ZarrDense.expect = expect  # type: ignore[method-assign]


@pytest.mark.cluster
@pytest.mark.parametrize("kept", [False, True])
def test_on_a_cluster(stored: str, tmp_path: Path, kept: bool) -> None:
    """From the worker's own queue; what is in memory is not asked for."""
    hints = tmp_path / "hints"
    hints.mkdir()
    with cluster_of(1, 1, memory_limit="2 GB" if kept else 0) as client:
        client.run(_record, str(hints))
        fit = dnmf.fit(stored, out=tmp_path / "out", client=client, **OPTIONS)
    found = [path.name.split("-") for path in hints.iterdir()]
    starts = {int(start) for start, _, _ in found}
    assert {int(stop) - int(start) for start, stop, _ in found} <= {10}
    if kept:
        assert not found
        return
    passes = 1 + len(fit.history)
    assert starts <= {20 * s for s in range(SEGMENTS)}
    assert passes * SEGMENTS / 2 < len(found) <= passes * (SEGMENTS - 1)
