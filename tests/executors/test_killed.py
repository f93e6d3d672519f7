"""SIGKILL of workers and clients at every kind of point: the same bits, and counted executions."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from executor_tools import (
    OPTIONS,
    assert_undisturbed,
    cluster_of,
    decisions,
    faulty,
    fit_elsewhere,
    until,
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

END = -1
"""Stands for the step that publishes."""

RACED = {**OPTIONS, "n_init": 3, "max_passes": 3}
STUDY = {name: OPTIONS[name] for name in OPTIONS if name not in ("k", "seed")}
STUDY |= {"ks": [2, 3, 4], "seeds": 2, "folds": 2, "slab_size": 8 * 20 * 16}


class Subject(NamedTuple):
    """What is disturbed: which fixture's workers run it, its options; ``ks`` make a study."""

    client: str
    options: dict[str, Any]


SUBJECTS = {
    "streaming": Subject("streaming", OPTIONS),
    "in memory": Subject("client", OPTIONS),
    "sampled whole": Subject("streaming", {**RACED, "sample": 1}),
    "sampled": Subject("grouped", {**RACED, "sample": 0.5, "sample_bytes": 8 << 10}),
    "study": Subject("streaming", STUDY),
    "study in memory": Subject("client", STUDY),
    "KL study": Subject("streaming", {**STUDY, "loss": "kullback-leibler"}),
    "KL study in memory": Subject("client", {**STUDY, "loss": "kullback-leibler"}),
    "sampled study": Subject(
        "streaming",
        {**STUDY, "sample": 0.5, "sample_bytes": 8 << 10, "n_init": 2, "max_passes": 2},
    ),
}

Kill = tuple[Fault, int | None]
"""A fault, and the step of which more than once may run; None where none may."""

OUT = {"run": "*/out"}
POINTS: dict[str, Kill] = {
    "scan": (Fault("block-read", "kill", {"segment": 20}), 0),
    "reading": (Fault("block-read", "kill", {"segment": 7}, after=1), 1),
    "solved": (Fault("segment-solved", "kill", {"step": 2, "segment": 11}), 2),
    "writing": (Fault("object-staged", "kill", {"name": "2/W-0-5"}), 2),
    "written": (Fault("segment-written", "kill", {"step": 2, "segment": 11}), 2),
    "combine": (Fault("combine", "kill", {"step": 3, "part": 1}, after=4), 3),
    "finish-small": (Fault("finish", "kill", {"step": 2, "part": 0}), 2),
    "finish-slab": (Fault("finish", "kill", {"step": 4, "part": 2}), 4),
    "publish": (Fault("published", "kill", {"segment": 0}), END),
}
SAMPLE_POINTS: dict[str, Kill] = {
    "racing": (Fault("segment-solved", "kill", {"run": "None"}, after=40), None),
    "raced": (Fault("object-written", "kill", {"kind": "race"}), 1),
    "writing what raced": (Fault("object-staged", "kill", {"kind": "race"}), 1),
    "drawing": (Fault("object-written", "kill", {"kind": "sample"}, after=3), 0),
    "solved": (Fault("segment-solved", "kill", {"step": 3, **OUT}, after=3), 3),
    "writing": (Fault("object-staged", "kill", {"name": "2/W-0-4"}), 2),
    "written": (Fault("segment-written", "kill", {"step": 4, **OUT}), 4),
    "combine": (Fault("combine", "kill", {"step": 3, **OUT, "part": 1}, after=1), 3),
    "finish-small": (Fault("finish", "kill", {"step": 2, **OUT, "part": 0}), 2),
    "finish-slab": (Fault("finish", "kill", {"step": 4, **OUT, "part": 2}), 4),
    "a middle segment": (Fault("segment-written", "kill", {"step": 3, **OUT, "segment": 5}), 3),
}
STUDY_POINTS: dict[str, Kill] = {
    **{name: POINTS[name] for name in ("scan", "solved", "written", "combine", "publish")},
    "finish": (Fault("finish", "kill", {"step": 4, "part": 1}), 4),
}
SAMPLED_STUDY_POINTS: dict[str, Kill] = {
    "raced": (Fault("object-written", "kill", {"kind": "race"}), 1),
    "solved": (Fault("segment-solved", "kill", {"step": 3}), 3),
    "finish": STUDY_POINTS["finish"],
}
OF_SUBJECT = {
    **dict.fromkeys(("streaming", "in memory"), POINTS),
    **dict.fromkeys(("sampled whole", "sampled"), SAMPLE_POINTS),
    **dict.fromkeys(("study", "study in memory", "KL study", "KL study in memory"), STUDY_POINTS),
    "sampled study": SAMPLED_STUDY_POINTS,
}
SHORT = [
    ("streaming", ("scan", "reading", "written", "combine", "finish-slab")),
    ("sampled whole", ("a middle segment",)),
]
LONG = [
    ("study", ("scan", "written", "combine", "finish")),
    *((subject, (name,)) for subject, points in OF_SUBJECT.items() for name in points),
]


class Serially(NamedTuple):
    """A result that nothing disturbed, and how often what ran in each step."""

    result: Any
    ran: Counter[int]


def what_ran(counts: str) -> Counter[int]:
    """By step how many segments were scanned, raced on, solved or published."""
    ran = Counter({END: faults.count(counts, "published")})
    for kind in ("row_sums", "race", "W"):
        written = faults.reached(counts, "object-written", kind=kind)
        ran.update(int(hit["name"].split("/")[0]) for hit in written)
    return ran


@pytest.fixture(scope="session")
def grouped() -> Iterator[Any]:
    """2 processes of 2 threads."""
    with cluster_of(2, 2, memory_limit=0) as client:
        yield client


@contextmanager
def groups_of(subject: str) -> Iterator[None]:
    """Plan a subject with small segments of the sample, where it has several."""
    grouped = SUBJECTS[subject].client == "grouped"
    with limits.using(sample_segment_bytes=GROUP) if grouped else nullcontext():
        yield


def run(subject: str, V: str, out: Path, **runner: Any) -> Any:
    options = SUBJECTS[subject].options
    with groups_of(subject):
        begin: Any = dnmf.fit_many if "ks" in options else dnmf.fit
        return begin(V, out=out, **runner, **options)


@pytest.fixture(scope="session")
def serially(
    undisturbed: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Serially]:
    """Subjects that nothing disturbs."""

    @cache
    def of(subject: str) -> Serially:
        folder = tmp_path_factory.mktemp("serially")
        with faults.active(folder / "f") as counts:
            result = run(subject, undisturbed.V, folder / "out", executor=Serial())
        if subject.startswith("sampled") and "ks" not in SUBJECTS[subject].options:
            over = {hit["rows"] for hit in faults.reached(counts, "segment-solved", step=3, **OUT)}
            assert over == {"sample" if subject == "sampled" else "all"}
            assert what_ran(counts)[1] == RACED["n_init"] + 1  # one from the singular vectors
            assert what_ran(counts)[3] >= 7  # several groups
        return Serially(result, what_ran(counts))

    return of


def same(result: Any, expected: Any) -> None:
    """Bit for bit: factors and decisions of every model."""
    if not hasattr(expected, "models"):
        assert_undisturbed(result, expected)
        return
    assert result.done
    assert result.models == expected.models  # and what the folds measured
    for one, other in zip(result.results, expected.results, strict=True):
        np.testing.assert_array_equal(one.W[:], other.W[:])
        np.testing.assert_array_equal(one.H[:], other.H[:])
        assert decisions(one.history) == decisions(other.history)


def check_deaths(
    client: Any, expected: Serially, subject: str, V: str, folder: Path, kills: list[Kill]
) -> None:
    """Workers die: the bits, and each part ran once, besides in the steps of the deaths."""
    plan, again = [fault for fault, _ in kills], {step for _, step in kills}
    with faulty(client, folder / "faults", plan) as counts:
        result = run(subject, V, folder / "out", client=client)
        struck = [faults.struck(counts, number) for number in range(len(plan))]
        assert struck == [fault.times for fault in plan]
        ran = what_ran(counts)
    most = 1 + 2 * max(struck)
    assert ran.keys() == expected.ran.keys()
    for step, number in expected.ran.items():
        assert number <= ran[step] <= (most if step in again else 1) * number, step
    same(result, expected.result)
    if "ks" not in SUBJECTS[subject].options:
        assert not any(row["retries"] for row in result.history)  # Dask ran them again


@pytest.mark.parametrize(
    ("subject", "names"),
    [*SHORT, *(pytest.param(*case, marks=pytest.mark.chaos) for case in LONG)],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_a_worker_dies(request, undisturbed, serially, tmp_path, subject, names):
    kills = [OF_SUBJECT[subject][name] for name in names]
    if (subject, names) == ("in memory", ("reading",)):
        kills = [(replace(kills[0][0], after=0), 0)]  # there is but one read
    client = request.getfixturevalue(SUBJECTS[subject].client)
    check_deaths(client, serially(subject), subject, undisturbed.V, tmp_path, kills)


@pytest.mark.chaos
def test_all_workers_die_over_the_sample(grouped, undisturbed, serially, tmp_path):
    """Both processes, one after the other: what they cached of the sample comes from the run."""
    kill = Fault("segment-written", "kill", {"step": 3, **OUT}, times=2, after=2)
    check_deaths(grouped, serially("sampled"), "sampled", undisturbed.V, tmp_path, [(kill, 3)])


COMMIT = {"record-writing": 0, "record-staged": 0, "record-linked": 1, "record-committed": 1}
"""Points of a commit, and whether the step counts as committed from there on."""

AROUND = [("in memory", "record-staged", 2), ("in memory", "record-committed", 2)]
"""What dies around which commit."""

MORE_AROUND = [
    *(("in memory", point, index) for index in range(6) for point in COMMIT),
    *(
        ("sampled whole", point, index)
        for index in (1, 3)  # the race, a pass over the sample
        for point in ("record-staged", "record-committed")
    ),
    ("in memory", "result-finishing", None),
    ("in memory", "result-published", None),
]


@pytest.mark.parametrize(
    ("subject", "point", "index"),
    [
        *AROUND,
        *(pytest.param(*x, marks=pytest.mark.chaos) for x in MORE_AROUND if x not in AROUND),
    ],
)
def test_the_client_dies(request, undisturbed, serially, tmp_path, subject, point, index):
    """Resume executes what was not committed, and nothing else."""
    client, options = request.getfixturevalue(SUBJECTS[subject].client), SUBJECTS[subject].options
    kill, out = Fault(point, "kill", {} if index is None else {"index": index}), tmp_path / "out"
    with faulty(client, tmp_path / "faults", [kill]) as counts:
        process = fit_elsewhere(
            undisturbed.V, out, client.scheduler.address, options, DNMF_FAULTS=counts
        )
        _, said = process.communicate(timeout=100)
        assert process.returncode == -signal.SIGKILL, said
        assert faults.struck(counts) == 1
        result = dnmf.resume(out, client=client)
        ran = what_ran(counts)
    expected = serially(subject)
    same(result, expected.result)
    steps = who_executed(result)
    assert [step for step, _ in steps] == list(range(len(steps)))  # each committed once
    first = len(steps) if index is None else index + COMMIT[point]
    assert [step for step, pid in steps if pid == os.getpid()] == list(range(first, len(steps)))
    twice = None if first != index else END if index == len(steps) - 1 else index
    assert ran == {step: n * (1 + (step == twice)) for step, n in expected.ran.items()}


@pytest.mark.chaos
def test_the_client_dies_during_a_pass(client, undisturbed, serially, tmp_path):
    hang = Fault("segment-solved", "hang", {"step": 2}, times=1)
    with faulty(client, tmp_path / "faults", [hang]) as counts:
        process = fit_elsewhere(
            undisturbed.V, tmp_path / "out", client.scheduler.address, DNMF_FAULTS=counts
        )
        until(lambda: process.poll() is not None or faults.struck(counts))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        faults.release(counts)  # the worker goes on, late
        result = dnmf.resume(tmp_path / "out", client=client)
        ran = what_ran(counts)
    for step, number in serially("in memory").ran.items():
        assert number <= ran[step] <= (3 if step == 2 else 1) * number
    assert_undisturbed(result, undisturbed)
    assert [step for step, pid in who_executed(result) if pid == os.getpid()] == [2, 3, 4, 5]
