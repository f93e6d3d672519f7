"""``memory``: what workers really took, against their limit and against the plan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dnmf
from benchmarks.clusters import baseline, cluster, spilled_bytes, troubles
from benchmarks.figures import Figure
from benchmarks.goals import MEMORY_LIMIT, MEMORY_PREDICTION, NOTHING
from benchmarks.pass_disk import DISK_SIZES, WORKERS, DiskSize, write_codec
from benchmarks.planted import PlantedPoisson
from benchmarks.session import Session
from benchmarks.stores import CODECS
from dnmf.cli.memory_use import resident, worker_peaks

__all__ = ["run"]

PASSES = 4
WARM_UP = PlantedPoisson(2_000, 40, 3)


def run(session: Session) -> Iterator[Figure]:
    """A whole fit of data four times the limits, for every codec, each on fresh workers."""
    size = DISK_SIZES[session.size]
    session.need_room(6 * size.data.n * size.data.d)
    for codec in ("zstd",) if session.size == "tiny" else CODECS:
        path = write_codec(session, size.data, codec)
        with cluster(WORKERS, memory=size.limit) as client, session.scratch("memory") as out:
            session.tell(f"{codec}: fitting")
            yield from _measure(size, codec, path, client, out)
        session.drop(path)


def _measure(size: DiskSize, codec: str, path: Path, client: Any, out: Path) -> Iterator[Figure]:
    _import_everything(client, out)
    before = baseline(client)
    client_before = resident()[0]
    plan = dnmf.plan(str(path), size.data.k, client=client)
    # segments lie whole on one worker or another
    kept = -(-plan.segments_kept // WORKERS) * max(plan.plan.memory_bytes)
    need = plan.memory
    dnmf.fit(str(path), size.data.k, out=out / "fit.zarr", client=client, seed=0, max_passes=PASSES)
    peaks = worker_peaks(client)
    growth = {worker: peak - before[worker] for worker, peak in peaks.items() if worker in before}
    lost = set(before) - set(peaks)
    details = {
        "shape": [size.data.n, size.data.d],
        "k": size.data.k,
        "times_memory_limits": size.times_limit,
        "limit": size.limit,
        "baselines": list(before.values()),
        "peaks": list(peaks.values()),
        "workers_lost": len(lost),
        "predicted": vars(need),
        "segments_kept": plan.segments_kept,
        "kept_bytes_per_worker": kept,
        "client_growth": resident()[0] - client_before,
    }
    case = f"out of core, {codec}"
    share = max(peaks.values()) / size.limit
    yield Figure(
        "memory", case, "largest worker / limit", share, goal=MEMORY_LIMIT, details=details
    )
    planned, grown = need.total - need.baseline + kept, max(growth.values())
    yield Figure(
        "memory",
        case,
        "prediction / measured, above imports",
        planned / max(grown, 1),
        goal=MEMORY_PREDICTION,
        details={"planned": planned, "grown": grown},
    )
    planned, peak = need.total + kept, max(peaks.values())
    details = {"planned": planned, "peak": peak}
    name = "prediction / measured, imports included"
    yield Figure("memory", case, name, planned / peak, details=details)
    troubled = troubles(client)
    counts = {"bytes spilled": spilled_bytes(client), **troubled, "workers lost": len(lost)}
    for name, count in counts.items():
        yield Figure("memory", case, name, count, goal=NOTHING)


def _import_everything(client: Any, out: Path) -> None:
    """A small fit on every worker, so that imports and compiled kernels count as baseline."""
    V, _ = WARM_UP.matrix()
    for _ in range(2):  # the second one reaches workers that the first one passed by
        dnmf.fit(
            V,
            WARM_UP.k,
            out=out / "warm.zarr",
            client=client,
            seed=0,
            max_passes=2,
            block_size=1 << 14,
            overwrite=True,
        )
