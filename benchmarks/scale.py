"""``scale``: many blocks, more workers, many tiny chunks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import time
from typing import Any

import numpy as np

import dnmf
from benchmarks import goals
from benchmarks.clocks import Clock, median_ratio
from benchmarks.clusters import TINY_LIMIT, cluster
from benchmarks.figures import Figure
from benchmarks.floors import cpu_of_pass, products_alone
from benchmarks.pass_disk import WORKERS, measure_pass, pass_input
from benchmarks.planted import PlantedPoisson
from benchmarks.session import Session
from benchmarks.stores import read_raw, write_dense
from dnmf.planning.memory import USABLE

__all__ = ["run"]

PASSES = 3
SOME_ROWS = 64_000
"""Of blocks whose products show what a second core is worth on this machine."""


@dataclass(frozen=True)
class _Size:
    """Attributes
    ----------
    blocks : PlantedPoisson
        Cut into blocks of ``block_rows`` rows.
    tiny_chunks : PlantedPoisson
        Stored in chunks of ``chunk``.
    limit : int or None
        Bytes of each worker.
    """

    blocks: PlantedPoisson
    block_rows: int
    tiny_chunks: PlantedPoisson
    chunk: tuple[int, int]
    repetitions: int
    limit: int | None = None


SIZES = {
    "tiny": _Size(
        PlantedPoisson(4_000, 50, 4), 100, PlantedPoisson(2_000, 50, 4), (100, 10), 1, TINY_LIMIT
    ),
    "quick": _Size(
        PlantedPoisson(100_000, 1_000, 20), 50, PlantedPoisson(20_000, 1_000, 20), (40, 100), 3
    ),
    "full": _Size(
        PlantedPoisson(640_000, 2_000, 20), 64, PlantedPoisson(100_000, 2_000, 20), (32, 64), 5
    ),
}


def run(session: Session) -> Iterator[Figure]:
    """Scheduling and workers on many blocks, then many chunks."""
    size = SIZES[session.size]
    session.need_room(6 * size.blocks.n * size.blocks.d)
    yield from _many_blocks(session, size)
    yield from _many_chunks(session, size)


def _many_blocks(session: Session, size: _Size) -> Iterator[Figure]:
    data = size.blocks
    session.tell(f"writing V, {data.n:,} x {data.d:,}")
    chunks = (size.block_rows, data.d)
    path = write_dense(session.folder / f"blocks-{session.size}.zarr", data, chunks)
    options = {"block_size": 4 * size.block_rows * data.d}
    with ExitStack() as stack:
        out = stack.enter_context(session.scratch("scale"))
        one = stack.enter_context(cluster(1, memory=size.limit))
        two = stack.enter_context(cluster(WORKERS, memory=size.limit))
        plan = dnmf.plan(str(path), data.k, client=two, **options).plan
        alone, pair, shares = [], [], []
        some = np.random.default_rng(0).random((min(data.n, SOME_ROWS), data.d), np.float32)
        starts = [*range(0, len(some), size.block_rows), len(some)]
        floors: dict[int, list[float]] = {1: [], WORKERS: []}
        for repetition in range(size.repetitions):
            session.tell(f"{plan.blocks:,} blocks, {repetition + 1} of {size.repetitions}")
            alone += _passes(path, data.k, one, out, options)[0]
            seconds, busy = _passes(path, data.k, two, out, options)
            pair += seconds
            shares.append(1 - busy / (WORKERS * sum(seconds)))
            for threads, times in floors.items():
                times.append(products_alone(some, starts, data.k, threads))
    session.drop(path)
    case = f"{plan.blocks:,} blocks in {plan.segments:,} segments"
    details = {"shape": [data.n, data.d], "k": data.k, "seconds_of_2": pair, "seconds_of_1": alone}
    yield Figure(
        "scale",
        case,
        "share of a pass in which workers run no task",
        median(shares),
        goal=goals.OVERHEAD,
        details={**details, "shares": shares},
    )
    efficiency = median_ratio(alone, pair) / WORKERS
    name = "seconds of 1 worker / (2 x seconds of 2 workers)"
    yield Figure("scale", case, name, efficiency, goal=goals.EFFICIENCY, details=details)
    hardware = median_ratio(floors[1], floors[WORKERS]) / WORKERS
    name = "the same of products alone, in threads"
    yield Figure("scale", case, name, hardware, details={"seconds": list(floors.values())})


def _passes(
    path: Path, k: int, client: Any, out: Path, options: dict[str, Any]
) -> tuple[list[float], float]:
    """Seconds of each full pass, and seconds that workers' threads ran tasks during them."""
    client.get_task_stream(count=0)  # the scheduler records from the first question on
    spans: list[tuple[float, float]] = []
    began = time()

    def after(kind: str) -> None:
        nonlocal began
        now = time()
        if kind == "pass":
            spans.append((began, now))
        began = now

    clock = Clock(after)
    dnmf.fit(
        str(path),
        k,
        out=out / "fit.zarr",
        client=client,
        seed=0,
        max_passes=PASSES + 1,  # the last one also computes residuals
        sample=0.0,
        overwrite=True,
        on_event=clock,
        **options,
    )
    tasks = client.get_task_stream(start=spans[0][0])
    last = spans[PASSES - 1][1]
    busy = sum(_busy(task, last) for task in tasks)
    return clock.seconds("pass")[:PASSES], busy


def _busy(task: dict[str, Any], until: float) -> float:
    """Seconds that a task computed, unless it belongs to a later pass."""
    spans = [x for x in task["startstops"] if x["action"] == "compute" and x["stop"] <= until]
    return float(sum(x["stop"] - x["start"] for x in spans))


def _many_chunks(session: Session, size: _Size) -> Iterator[Figure]:
    data = size.tiny_chunks
    grid = -(-data.n // size.chunk[0]) * -(-data.d // size.chunk[1])
    session.tell(f"writing V in {grid:,} chunks")
    path = write_dense(session.folder / f"chunks-{session.size}.zarr", data, size.chunk)
    passes, floors, devices, shares, cpus = [], [], [], [], []
    limit = size.limit or _too_small_to_keep(path, data.k)
    with cluster(WORKERS, memory=limit) as client, session.scratch("scale") as out:
        what = pass_input(path, data.k, client, out)
        for repetition in range(size.repetitions):
            session.tell(f"{grid:,} chunks, {repetition + 1} of {size.repetitions}")
            cpu = cpu_of_pass(what)
            device, _ = read_raw(path, WORKERS)
            seconds, share = measure_pass(what, client, out)
            passes.append(seconds)
            floors.append(max(share * device, (share * cpu.read + cpu.compute) / WORKERS))
            devices.append(device)
            shares.append(share)
            cpus.append(vars(cpu))
    session.drop(path)
    yield Figure(
        "scale",
        f"{grid:,} chunks of {np.prod(size.chunk) * 4:,} bytes",
        "pass / floor",
        median_ratio(passes, floors),
        goal=goals.CHUNKS_PASS,
        details={
            "shape": [data.n, data.d],
            "k": data.k,
            "worker_limit": limit,
            "share_read": shares,
            "pass_seconds": passes,
            "floor_seconds": floors,
            "device_seconds": devices,
            "cpu_seconds": cpus,
        },
    )


def _too_small_to_keep(path: Path, k: int) -> int:
    """A worker's limit with which a fit runs, and every pass reads all of V."""
    need = dnmf.plan(str(path), k, sample=0.0).memory.total
    return int(need / USABLE) + (1 << 20)
