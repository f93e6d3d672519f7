"""``peers``: wall time to an objective that every system reaches, start-up included."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from benchmarks import goals
from benchmarks.figures import Figure, Goal
from benchmarks.planted import Planted, PlantedPoisson, PlantedTopics
from benchmarks.session import Session
from benchmarks.systems import SYSTEMS, System, Task, converge, least_effort

__all__ = ["CASES", "run"]

CLOSE = 1.001
NEAR = 1.01
"""A system that ends further above the best one has not converged: it sets no target."""


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes
    ----------
    ours : str
        Key of the system that the goal is about.
    others : tuple of str
        ``serial`` is shown beside them, and is no peer.
    data : dict
        By size.
    goal : Goal
    repetitions : int
        Of each timed run; short ones are repeated.
    """

    ours: str
    others: tuple[str, ...]
    data: dict[str, Planted]
    goal: Goal
    repetitions: int = 1


CASES = {
    "dense": Case(
        "dnmf",
        ("serial", "cd", "cd-nndsvda", "mini-batch"),
        {
            "tiny": PlantedPoisson(1_500, 80, 4),
            "quick": PlantedPoisson(20_000, 1_000, 20),
            "full": PlantedPoisson(60_000, 5_000, 30),
        },
        goals.PEERS_DENSE,
    ),
    "sparse": Case(
        "dnmf",
        ("serial", "cd", "cd-nndsvda", "mini-batch", "gensim"),
        {
            "tiny": PlantedTopics(1_500, 300, 4, events=30, power=1.0),
            "quick": PlantedTopics(50_000, 10_000, 20, events=90, power=1.0),
            "full": PlantedTopics(300_000, 30_000, 30, events=295, power=1.0),
        },
        goals.PEERS_SPARSE,
    ),
    "small": Case(
        "serial",
        ("cd", "cd-nndsvda"),
        {
            "tiny": PlantedPoisson(300, 60, 4),
            "quick": PlantedPoisson(2_000, 500, 10),
            "full": PlantedPoisson(2_000, 500, 10),
        },
        goals.PEERS_SMALL,
        repetitions=5,
    ),
}


def run(session: Session, kinds: tuple[str, ...], seeds: int) -> Iterator[Figure]:
    """The chosen comparisons, one after the other."""
    for kind in kinds:
        case = CASES[kind]
        data = case.data[session.size]
        session.tell(f"{kind}: making V, {data.n:,} x {data.d:,}")
        V, _ = data.matrix()
        yield from _compare(session, kind, case, V, data.k, seeds)


def _compare(
    session: Session, kind: str, case: Case, V: Any, k: int, seeds: int
) -> Iterator[Figure]:
    keys = [key for key in (case.ours, *case.others) if not SYSTEMS[key].absent]
    for key in case.others:
        if SYSTEMS[key].absent:
            system = SYSTEMS[key]
            yield Figure("peers", kind, f"{system.name}, seconds", None, skipped=system.absent)
    seconds: dict[str, list[float]] = {key: [] for key in keys}
    with session.scratch("peers") as folder:
        tasks = [Task(V, k, seed, folder, session.size == "tiny") for seed in range(seeds)]
        SYSTEMS["serial"].run(replace(tasks[0], V=V[:200], k=2), 2)  # loads compiled kernels
        converged, courses = _converge(session, case, keys, tasks)
        limit = NEAR * min(converged.values())
        target = CLOSE * max(value for value in converged.values() if value <= limit)
        for seed, task in enumerate(tasks):
            turned = keys[seed % len(keys) :] + keys[: seed % len(keys)]
            for key in turned:
                known = courses[seed] if key in (case.ours, "serial") else []
                if converged.get(key, 0.0) > target:
                    taken = math.inf  # not with any effort
                else:
                    taken = _seconds(SYSTEMS[key], task, target, known, case.repetitions)
                seconds[key].append(taken)
                session.tell(f"{kind}, seed {seed}, {SYSTEMS[key].name}: {taken:.4g} s")
    yield from _figures(kind, case, keys, seconds, {"target": target, "converged": converged})


def _converge(
    session: Session, case: Case, keys: list[str], tasks: list[Task]
) -> tuple[dict[str, float], list[list[float]]]:
    """The worst converged objective of each system, and the courses of ours by seed.

    Systems that have no rule of their own to stop by, which is slow to find out, converge from
    one seed only; the serial fit has the bits of the other one.
    """
    worst: dict[str, float] = {}
    courses = []
    for task in tasks:
        for key in keys:
            if key == "serial" != case.ours or (task.seed and not SYSTEMS[key].rule):
                continue
            attempt, value = converge(SYSTEMS[key], task)
            about = f"seed {task.seed}, {SYSTEMS[key].name} converged"
            session.tell(f"{about} at {value:.6g} in {attempt.seconds:.3g} s")
            worst[key] = max(value, worst.get(key, 0.0))
            if key == case.ours:
                courses.append(attempt.course)
    return worst, courses


def _seconds(
    system: System, task: Task, target: float, course: list[float], repetitions: int
) -> float:
    """Median seconds of the run that just reaches the target; infinite where none does."""
    found = least_effort(system, task, target, course)
    if found is None:
        return math.inf
    again = [system.run(task, found.effort).seconds for _ in range(repetitions - 1)]
    return median([found.seconds, *again])


def _figures(
    kind: str,
    case: Case,
    keys: list[str],
    seconds: dict[str, list[float]],
    about: dict[str, Any],
) -> Iterator[Figure]:
    middle = {key: median(times) for key, times in seconds.items()}
    for key in keys:
        details = {"seconds_by_seed": [*map(str, seconds[key])], **about}
        name = f"{SYSTEMS[key].name}, seconds"
        yield Figure("peers", kind, name, middle[key], "s", details=details)
    peers = [key for key in keys if key not in (case.ours, "serial")]
    best = min(peers, key=lambda key: middle[key])
    yield Figure(
        "peers",
        kind,
        f"seconds of the best peer / {SYSTEMS[case.ours].name}",
        middle[best] / middle[case.ours],
        goal=case.goal,
        details={"best_peer": SYSTEMS[best].name},
    )
