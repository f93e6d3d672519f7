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
from benchmarks.systems import (
    SYSTEMS,
    Attempt,
    Least,
    Task,
    converge,
    known_effort,
    least_effort,
)

__all__ = ["CASES", "run"]

CLOSE = 1.001
PATIENCE = 10.0
"""A peer whose single run takes so many times our whole default fit gets no more effort."""

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
        Other ways to run dnmf are shown beside them, and are no peers.
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


OURS = ("dnmf", "threads", "serial", "one-start")

CASES = {
    "dense": Case(
        "dnmf",
        ("threads", "serial", "cd", "cd-nndsvda", "mini-batch"),
        {
            "tiny": PlantedPoisson(1_500, 80, 4),
            "quick": PlantedPoisson(20_000, 1_000, 20),
            "full": PlantedPoisson(60_000, 5_000, 30),
        },
        goals.PEERS_DENSE,
    ),
    "sparse": Case(
        "dnmf",
        ("threads", "serial", "cd", "cd-nndsvda", "mini-batch", "gensim"),
        {
            "tiny": PlantedTopics(1_500, 300, 4, events=30, power=1.0),
            "quick": PlantedTopics(50_000, 10_000, 20, events=90, power=1.0),
            "full": PlantedTopics(300_000, 30_000, 30, events=295, power=1.0),
        },
        goals.PEERS_SPARSE,
    ),
    "small": Case(
        "one-start",
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
    found: dict[str, list[Least]] = {key: [] for key in keys}
    with session.scratch("peers") as folder:
        tasks = [Task(V, k, seed, folder, session.size == "tiny") for seed in range(seeds)]
        SYSTEMS["serial"].run(replace(tasks[0], V=V[:200], k=2), 2)  # loads compiled kernels
        goal = _converge(session, case, keys, tasks)
        for seed, task in enumerate(tasks):
            for key in keys[seed % len(keys) :] + keys[: seed % len(keys)]:
                found[key].append(_time(goal, case, key, task))
                taken = f"{found[key][-1].seconds:.4g} s"
                session.tell(f"{kind}, seed {seed}, {SYSTEMS[key].name}: {taken}")
    yield from _figures(kind, case, found, goal)


@dataclass(frozen=True)
class _Goal:
    """What all systems are to reach.

    Attributes
    ----------
    target : float
        0.1% above the worst objective at which a system converged.
    converged : dict of str to float
        Where each did; ours: the median of its seeds.
    courses : list of list of float
        Of ours, by seed.
    patience : float
        Seconds after which a peer is run with no more effort.
    """

    target: float
    converged: dict[str, float]
    courses: list[list[float]]
    patience: float


def _converge(session: Session, case: Case, keys: list[str], tasks: list[Task]) -> _Goal:
    """Ours from every seed, the others from one; the serial fit has the bits of the other one."""

    def once(key: str, task: Task, patience: float) -> tuple[Attempt, float]:
        attempt, value = converge(SYSTEMS[key], task, patience)
        about = f"seed {task.seed}, {SYSTEMS[key].name} converged"
        session.tell(f"{about} at {value:.6g} in {attempt.seconds:.3g} s")
        return attempt, value

    ours = [once(case.ours, task, math.inf) for task in tasks]
    patience = PATIENCE * median(attempt.seconds for attempt, _ in ours)
    converged = {case.ours: median(value for _, value in ours)}
    for key in keys:
        if key not in OURS:
            converged[key] = once(key, tasks[0], patience)[1]
    limit = NEAR * min(converged.values())
    target = CLOSE * max(value for value in converged.values() if value <= limit)
    return _Goal(target, converged, [attempt.course for attempt, _ in ours], patience)


def _time(goal: _Goal, case: Case, key: str, task: Task) -> Least:
    """The run that just reaches the target; short ones are repeated, and the median counts."""
    system = SYSTEMS[key]
    if key in OURS:
        found = known_effort(system, task, goal.target, goal.courses[task.seed])
    elif goal.converged[key] > goal.target:
        return Least(math.inf, None)  # not with any effort
    else:
        found = least_effort(system, task, goal.target, goal.patience)
    if found.effort is None:
        return found
    again = [system.run(task, found.effort).seconds for _ in range(case.repetitions - 1)]
    return Least(median([found.seconds, *again]), found.effort)


def _figures(kind: str, case: Case, found: dict[str, list[Least]], goal: _Goal) -> Iterator[Figure]:
    middle = {key: median(run.seconds for run in runs) for key, runs in found.items()}
    for key, runs in found.items():
        details = {
            "seconds_by_seed": [str(run.seconds) for run in runs],
            "effort_by_seed": [run.effort for run in runs],
            "target": goal.target,
            "converged": goal.converged,
        }
        bound = any(run.effort is None and math.isfinite(run.seconds) for run in runs)
        unit = "s (at least)" if bound else "s"
        yield Figure(
            "peers", kind, f"{SYSTEMS[key].name}, seconds", middle[key], unit, details=details
        )
    peers = [key for key in found if key not in OURS]
    best = min(peers, key=lambda key: middle[key])
    yield Figure(
        "peers",
        kind,
        f"seconds of the best peer / {SYSTEMS[case.ours].name}",
        middle[best] / middle[case.ours],
        goal=case.goal,
        details={"best_peer": SYSTEMS[best].name},
    )
