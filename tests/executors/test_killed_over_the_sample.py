"""SIGKILL of workers during a race and passes over the resident sample: same bits, counted."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from executor_tools import (
    OPTIONS,
    SEGMENTS,
    Undisturbed,
    assert_undisturbed,
    cluster_of,
    faulty,
    fit,
    fit_elsewhere,
    who_executed,
)

import dnmf
from dnmf.planning import limits
from dnmf.steps.serial import Serial
from dnmf.testing import faults
from dnmf.testing.faults import Fault

pytestmark = [pytest.mark.timeout(240), pytest.mark.cluster]

GROUP = 1024
"""Bytes of the sample that a task takes at least; 32 MiB would be all of it."""

SAMPLES: dict[str, dict[str, Any]] = {
    "a part": {"sample": 0.5, "sample_bytes": 8 << 10},
    "every row": {"sample": 1},
}
COMMON = {"n_init": 3, "max_passes": 3}

OVER_THE_SAMPLE = (2, 3, 4)
"""Steps; 0 is the scan and 1 the race. The passes that follow over V are 5 to 7, if any."""

RACE = "race"


class Sampled(NamedTuple):
    """What a serial fit makes, how often what ran in it, and the segments of its sample."""

    reference: Undisturbed
    ran: dict[int | str, int]
    segments: int


def what_ran(counts: str) -> dict[int | str, int]:
    """By step how many segments of W were stored, and how many starts' H."""
    ran: dict[int | str, int] = {
        step: faults.count(counts, "object-written", name=f"{step}/W-*") for step in range(2, 8)
    }
    return {**ran, RACE: faults.count(counts, "object-written", kind="race")}


@pytest.fixture(scope="module", autouse=True)
def _small_groups() -> Iterator[None]:
    with limits.using(sample_segment_bytes=GROUP):
        yield


@pytest.fixture(scope="module")
def workers() -> Iterator[Any]:
    """2 processes of 2 threads."""
    with cluster_of(2, 2, memory_limit=0) as client:
        yield client


@pytest.fixture(scope="module")
def serially(
    undisturbed: Undisturbed, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Sampled]:
    """Serial fits that begin with a race and passes over a resident sample."""

    @cache
    def run(name: str) -> Sampled:
        folder: Path = tmp_path_factory.mktemp("sampled")
        options = {**OPTIONS, **COMMON, **SAMPLES[name]}
        with faults.active(folder / "f") as counts:
            result = dnmf.fit(undisturbed.V, out=folder / "out", executor=Serial(), **options)
        ran, here = what_ran(counts), {"step": 3, "run": str(folder / "out")}
        segments = {hit["segment"] for hit in faults.reached(counts, "segment-solved", **here)}
        over = {hit["rows"] for hit in faults.reached(counts, "segment-solved", **here)}
        assert over == {"sample" if name == "a part" else "all"}
        assert len(segments) >= (7 if name == "a part" else SEGMENTS)
        passes = 3 * SEGMENTS if name == "a part" else 0
        assert sum(ran.values()) == 3 + 3 * len(segments) + passes
        assert ran[RACE] == COMMON["n_init"]
        reference = Undisturbed(undisturbed.V, result.W[:], result.H[:], result.history)
        return Sampled(reference, ran, len(segments))

    return run


def check(client: Any, sampled: Sampled, name: str, folder: Path, fault: Fault, again: Any) -> None:
    """The bits, and what ran: once each, besides in the step of the death, which names it."""
    with faulty(client, folder / "faults", [fault]) as counts:
        result = fit(sampled.reference.V, folder / "out", client, **COMMON, **SAMPLES[name])
        assert faults.struck(counts) == 1
        ran = what_ran(counts)
        over = {hit["step"] for hit in faults.reached(counts, "finish", run=str(folder / "out"))}
        assert over == {step for step, number in sampled.ran.items() if step != RACE and number}
    for step, number in sampled.ran.items():
        assert number <= ran[step] <= (3 if step == again else 1) * number, step
    assert_undisturbed(result, sampled.reference)


def test_a_worker_dies_in_a_pass_over_the_sample(streaming, serially, tmp_path):
    kill = Fault("segment-written", "kill", {"step": 3, "run": "*/out", "segment": 5})
    check(streaming, serially("every row"), "every row", tmp_path, kill, 3)


POINTS = {
    "racing": (Fault("segment-solved", "kill", {"run": "None"}, after=40), None),
    "raced": (Fault("object-written", "kill", {"kind": "race"}), RACE),
    "writing what raced": (Fault("object-staged", "kill", {"kind": "race"}), RACE),
    "drawing": (Fault("object-written", "kill", {"kind": "sample"}, after=3), None),
    "solved": (Fault("segment-solved", "kill", {"step": 3, "run": "*/out"}, after=3), 3),
    "writing": (Fault("object-staged", "kill", {"name": "2/W-0-4"}), 2),
    "written": (Fault("segment-written", "kill", {"step": 4, "run": "*/out"}), 4),
    "combine": (Fault("combine", "kill", {"step": 3, "run": "*/out", "part": 1}, after=1), 3),
    "finish-small": (Fault("finish", "kill", {"step": 2, "run": "*/out", "part": 0}), 2),
    "finish-slab": (Fault("finish", "kill", {"step": 4, "run": "*/out", "part": 2}), 4),
}


@pytest.mark.chaos
@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("point", POINTS)
def test_a_worker_dies_over_the_sample(workers, serially, tmp_path, name, point):
    fault, again = POINTS[point]
    check(workers, serially(name), name, tmp_path, fault, again)


@pytest.mark.chaos
def test_all_workers_die_over_the_sample(workers, serially, tmp_path):
    """Both processes, one after the other: what they cached of the sample comes from the run."""
    kill = Fault("segment-written", "kill", {"step": 3, "run": "*/out"}, times=2, after=2)
    sampled = serially("a part")
    with faulty(workers, tmp_path / "faults", [kill]) as counts:
        result = fit(sampled.reference.V, tmp_path / "out", workers, **COMMON, **SAMPLES["a part"])
        assert faults.struck(counts) == 2
        ran = what_ran(counts)
    for step, number in sampled.ran.items():
        assert number <= ran[step] <= (5 if step == 3 else 1) * number, step
    assert_undisturbed(result, sampled.reference)


@pytest.mark.chaos
@pytest.mark.parametrize("index", [1, 3], ids=["race", "pass"])
@pytest.mark.parametrize(("point", "first"), [("record-staged", 0), ("record-committed", 1)])
def test_the_client_dies_around_a_commit(streaming, serially, tmp_path, point, first, index):
    """Resume executes only what was not committed, of a race and of passes over the sample too."""
    sampled, out = serially("every row"), tmp_path / "out"
    with faulty(streaming, tmp_path / "f", [Fault(point, "kill", {"index": index})]) as counts:
        process = fit_elsewhere(
            sampled.reference.V,
            out,
            streaming.scheduler.address,
            {**OPTIONS, **COMMON, **SAMPLES["every row"]},
            DNMF_FAULTS=counts,
        )
        _, said = process.communicate(timeout=100)
        assert process.returncode == -signal.SIGKILL, said
        result = dnmf.resume(out, client=streaming)
        ran = what_ran(counts)
    twice = {1: RACE, 3: 3}[index] if first == 0 else None
    assert ran == {step: n * (1 + (step == twice)) for step, n in sampled.ran.items()}
    assert_undisturbed(result, sampled.reference)
    mine = [step for step, pid in who_executed(result) if pid == os.getpid()]
    assert mine == list(range(index + first, 6))
