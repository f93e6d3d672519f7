"""``pass``, out of core: a pass over V on the disk against the device, or the work, alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import dnmf
from benchmarks.clocks import Clock, median_ratio
from benchmarks.clusters import TINY_LIMIT, cluster
from benchmarks.figures import Figure
from benchmarks.floors import CpuTime, PassInput, cpu_of_pass
from benchmarks.goals import DISK_PASS
from benchmarks.planted import PlantedPoisson
from benchmarks.session import Session
from benchmarks.stores import CODECS, can_drop, drop_cache, read_raw, write_dense
from dnmf.steps.serial import Serial

__all__ = [
    "CHUNKS",
    "DISK_SIZES",
    "WORKERS",
    "DiskSize",
    "measure_pass",
    "pass_input",
    "run",
    "write_codec",
]

WORKERS = 2
CHUNKS = (2048, 1000)
ONE_PASS = 1e-6
"""As max_time: ends a fit after its first pass, without the residuals of a last one."""


@dataclass(frozen=True)
class DiskSize:
    """Data, and the memory limit of a worker.

    Attributes
    ----------
    data : PlantedPoisson
    limit : int
        Bytes of each of two workers.
    repetitions : int
    """

    data: PlantedPoisson
    limit: int
    repetitions: int

    @property
    def times_limit(self) -> float:
        """Bytes of V over the workers' limits together: 4 at full size."""
        return 4 * self.data.n * self.data.d / (WORKERS * self.limit)


DISK_SIZES = {
    "tiny": DiskSize(PlantedPoisson(8_000, 100, 5), TINY_LIMIT, 1),
    "quick": DiskSize(PlantedPoisson(120_000, 2_000, 20), 700_000_000, 3),
    "full": DiskSize(PlantedPoisson(400_000, 5_000, 50), 1_000_000_000, 5),
}


@dataclass
class _Times:
    """Interleaved measurements of one codec and one state of the page cache, in seconds."""

    passes: list[float] = field(default_factory=list)
    device: list[float] = field(default_factory=list)
    floors: list[float] = field(default_factory=list)
    cpu: list[dict[str, float]] = field(default_factory=list)
    read_share: list[float] = field(default_factory=list)


def run(session: Session) -> Iterator[Figure]:
    """One ratio per codec and state of the page cache."""
    codecs = ("uncompressed", "zstd") if session.size == "tiny" else tuple(CODECS)
    size = DISK_SIZES[session.size]
    data = size.data
    session.need_room(6 * data.n * data.d)
    start: tuple[np.ndarray, np.ndarray] | None = None
    with cluster(WORKERS, memory=size.limit) as client, session.scratch("pass") as out:
        for codec in codecs:
            path = write_codec(session, data, codec)
            what = pass_input(path, data.k, client, out, start)
            start = what.H, what.W
            yield from _codec(session, size, codec, what, client, out)
            session.drop(path)


def write_codec(session: Session, data: PlantedPoisson, codec: str) -> Path:
    """V on the disk, in chunks of this codec."""
    session.tell(f"writing V, {data.n:,} x {data.d:,} float32, {codec}")
    return write_dense(session.folder / f"disk-{session.size}-{codec}.zarr", data, CHUNKS, codec)


def _codec(
    session: Session, size: DiskSize, codec: str, what: PassInput, client: Any, out: Path
) -> Iterator[Figure]:
    states = ("cold", "warm") if can_drop() else ("warm",)
    times = {state: _Times() for state in states}
    for repetition in range(size.repetitions):
        session.tell(f"{codec}, {repetition + 1} of {size.repetitions}")
        cpu = cpu_of_pass(what)
        for state in states:
            _repeat(times[state], what, client, out, cold=state == "cold", cpu=cpu)
    if not can_drop():
        yield Figure(
            "pass", f"out of core, {codec}, cold", "pass / floor", None,
            skipped="this system cannot drop files from the page cache",
        )  # fmt: skip
    stored = read_raw(what.path, WORKERS)[1]
    for state in states:
        yield _figure(size, f"out of core, {codec}, {state}", times[state], stored)


def _repeat(
    times: _Times, what: PassInput, client: Any, out: Path, *, cold: bool, cpu: CpuTime
) -> None:
    if cold:
        drop_cache(what.path)
    device, _ = read_raw(what.path, WORKERS)
    seconds, share = measure_pass(what, client, out, cold=cold)
    work = (share * cpu.read + cpu.compute) / WORKERS
    times.passes.append(seconds)
    times.device.append(device)
    times.read_share.append(share)
    times.cpu.append(vars(cpu))
    times.floors.append(max(share * device, work))


def _figure(size: DiskSize, case: str, times: _Times, stored: int) -> Figure:
    details = {
        "shape": [size.data.n, size.data.d],
        "k": size.data.k,
        "times_memory_limits": size.times_limit,
        "stored_bytes": stored,
        "pass_seconds": times.passes,
        "floor_seconds": times.floors,
        "device_seconds": times.device,
        "device_gb_per_second": stored / median(times.device) / 1e9,
        "cpu_seconds": times.cpu,
        "share_read": times.read_share,
    }
    ratio = median_ratio(times.passes, times.floors)
    return Figure("pass", case, "pass / floor", ratio, goal=DISK_PASS, details=details)


def pass_input(
    path: Path,
    k: int,
    client: Any,
    out: Path,
    start: tuple[np.ndarray, np.ndarray] | None = None,
) -> PassInput:
    """A pass like the third one of a fit: H, and W of the pass before it.

    Parameters
    ----------
    start : (H, W), optional
        From another layout of the same V.
    """
    plan = dnmf.plan(str(path), k, client=client, sample=0.0).plan
    if start is not None:
        return PassInput(path, plan, *start)
    common: dict[str, Any] = {"client": client, "sample": 0.0, "overwrite": True}
    first = dnmf.fit(str(path), k, out=out / "start.zarr", seed=0, max_passes=2, **common)
    H, W = np.asarray(first.H), np.asarray(first.W)
    second = dnmf.fit(str(path), out=out / "start.zarr", init=H, init_W=W, max_passes=2, **common)
    return PassInput(path, plan, np.asarray(second.H), W)


def measure_pass(
    what: PassInput, client: Any, out: Path, *, cold: bool = False, **options: Any
) -> tuple[float, float]:
    """Seconds of one pass over V from its start, and the share of V that it read.

    The scan before it is not measured; ``cold`` drops V from the page cache in between.
    """

    def after(kind: str) -> None:
        if cold and kind == "scan":
            drop_cache(what.path)

    clock = Clock(after)
    where = {"executor": Serial()} if client is None else {"client": client}
    dnmf.fit(
        str(what.path),
        out=out / "fit.zarr",
        init=what.H,
        init_W=what.W,
        sample=0.0,
        max_time=ONE_PASS,
        overwrite=True,
        on_event=clock,
        **where,
        **options,
    )
    (step,) = clock.of("pass")
    return step.seconds, step.row["bytes_read"] / what.plan.bytes_per_read
