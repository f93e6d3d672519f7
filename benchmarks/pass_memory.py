"""``pass``, in memory: full passes over V against the two matrix products alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import dnmf
from benchmarks.clocks import Clock, median_ratio, stopwatch
from benchmarks.clusters import TINY_LIMIT, cluster
from benchmarks.figures import Figure
from benchmarks.floors import products_alone
from benchmarks.goals import memory_pass
from benchmarks.planted import PlantedPoisson
from benchmarks.session import Session
from benchmarks.stores import write_dense
from dnmf.executors.threads import Threads
from dnmf.steps.serial import Serial
from dnmf.steps.work import Executor

__all__ = ["run"]

PASSES = 2
CHUNK_ROWS = 1024


@dataclass(frozen=True)
class _Size:
    """``clusters`` are (workers, threads of each, bytes of each)."""

    data: PlantedPoisson
    repetitions: int
    clusters: tuple[tuple[int, int, int | None], ...] = ((2, 1, None), (1, 2, None))


SIZES = {
    "tiny": _Size(PlantedPoisson(4_000, 100, 5), 1, ((2, 1, TINY_LIMIT),)),
    "quick": _Size(PlantedPoisson(30_000, 2_000, 50), 3),
    "full": _Size(PlantedPoisson(100_000, 5_000, 50), 5),
}


@dataclass
class _Setup:
    """One way to run, and what was measured of it.

    Attributes
    ----------
    name : str
    threads : int
        That compute, in all processes together.
    fit : callable
        Runs a fit with a clock as its listener.
    starts : sequence of int
        The blocks.
    """

    name: str
    threads: int
    fit: Callable[[Clock], Any]
    starts: Sequence[int]
    floors: list[float] = field(default_factory=list)
    passes: list[list[float]] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    bytes_read: list[int] = field(default_factory=list)


def run(session: Session) -> Iterator[Figure]:
    """Ratios of the first and the second full pass to their floor, on every setup."""
    size = SIZES[session.size]
    data = size.data
    session.need_room(6 * data.n * data.d)
    session.tell(f"making V, {data.n:,} x {data.d:,} float32")
    V, _ = data.matrix()
    path = write_dense(session.folder / f"memory-{session.size}.zarr", V, (CHUNK_ROWS, data.d))
    with ExitStack() as stack:
        out = stack.enter_context(session.scratch("pass"))
        setups = []
        for shape in size.clusters:
            client = stack.enter_context(cluster(*shape))
            setups.append(_on_cluster(shape[0], shape[1], client, path, data, out))
        setups.append(_here("this process x 2 threads", 2, Threads(2), V, data))
        setups.append(_here("serial, 1 thread", 1, Serial(), V, data))
        for repetition in range(size.repetitions):
            for setup in setups:
                session.tell(f"{setup.name}, {repetition + 1} of {size.repetitions}")
                _measure(setup, V, data)
    session.drop(path)
    for setup in setups:
        yield from _figures(setup, data)


def _on_cluster(
    workers: int, threads: int, client: Any, path: Path, data: PlantedPoisson, out: Path
) -> _Setup:
    plan = dnmf.plan(str(path), data.k, client=client).plan

    def fit(clock: Clock) -> Any:
        return dnmf.fit(
            str(path),
            data.k,
            out=out / "fit.zarr",
            client=client,
            seed=0,
            max_passes=PASSES + 1,  # the last one also computes residuals
            overwrite=True,
            on_event=clock,
        )

    name = f"{workers} worker(s) x {threads} thread(s)"
    return _Setup(name, workers * threads, fit, plan.block_starts)


def _here(
    name: str, threads: int, executor: Executor, V: np.ndarray, data: PlantedPoisson
) -> _Setup:
    plan = dnmf.plan(V, data.k).plan

    def fit(clock: Clock) -> Any:
        return dnmf.fit(V, data.k, executor=executor, seed=0, max_passes=PASSES + 1, on_event=clock)

    return _Setup(name, threads, fit, plan.block_starts)


def _measure(setup: _Setup, V: np.ndarray, data: PlantedPoisson) -> None:
    """The floor, a fit, and the floor again: the load of the machine changes slowly."""
    before = products_alone(V, setup.starts, data.k, setup.threads)
    clock = Clock()
    if setup.threads == 1:
        setup.shares.append(_with_share(setup.fit, clock))
    else:
        setup.fit(clock)
    after = products_alone(V, setup.starts, data.k, setup.threads)
    setup.floors.append((before + after) / 2)
    setup.passes.append(clock.seconds("pass")[:PASSES])
    setup.bytes_read = [int(step.row["bytes_read"]) for step in clock.of("pass")[:PASSES]]


def _with_share(fit: Callable[[Clock], Any], clock: Clock) -> float:
    """Fit with a stopwatch; the share of full passes spent on blocks, but not on products."""
    from dnmf.losses import frobenius

    marks: list[float] = []
    products = ("product_VHt", "add_WtV")
    watched = [(frobenius, name) for name in products]
    with stopwatch((frobenius.Frobenius, "update_block"), *watched) as seconds:

        def mark(kind: str) -> None:
            marks.append(seconds["update_block"] - sum(seconds[name] for name in products))

        clock.after = mark
        fit(clock)
    first = [step.kind for step in clock.steps].index("pass")
    spent = marks[first + PASSES - 1] - marks[first - 1]
    return spent / sum(clock.seconds("pass")[:PASSES])


def _figures(setup: _Setup, data: PlantedPoisson) -> Iterator[Figure]:
    case = f"in memory, {setup.name}"
    flops = 4.0 * data.n * data.d * data.k
    details = {
        "shape": [data.n, data.d],
        "k": data.k,
        "floor_seconds": setup.floors,
        "pass_seconds": setup.passes,
        "bytes_read": setup.bytes_read,
    }
    for index, which in enumerate(("first", "second")):
        seconds = [passes[index] for passes in setup.passes]
        ratio = median_ratio(seconds, setup.floors)
        name = f"{which} full pass / products alone"
        yield Figure("pass", case, name, ratio, goal=memory_pass(), details=details)
        speed = flops / median(seconds) / 1e9
        yield Figure("pass", case, f"{which} full pass", speed, "GFLOP/s")
    yield Figure("pass", case, "products alone", flops / median(setup.floors) / 1e9, "GFLOP/s")
    if setup.shares:
        yield Figure("pass", case, "W-step's share of full passes", median(setup.shares))
