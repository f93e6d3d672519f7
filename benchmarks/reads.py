"""``reads``: how often V must be read until the fit is as good as it gets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import goals, machine
from benchmarks.courses import first_below, fit_course
from benchmarks.figures import Figure
from benchmarks.problems import Problem, planted_problems, real_problems
from benchmarks.references import converged_runs, load_reference, missing, store
from benchmarks.session import Session

__all__ = ["Task", "parallel", "reference", "run"]

CLOSE = 1.001
LONG = 40
REFERENCE_RUNS = {"tiny": 3, "quick": 6, "full": 9}
"""Of small data whose reference is not stored."""


@dataclass(frozen=True)
class Task:
    """One fit of one seed, and what it is to reach."""

    path: Path
    k: int
    seed: int
    options: dict[str, Any]
    target: float
    value: str = "relative_error"

    def __call__(self) -> tuple[float, float]:
        """Reads until the target, and until the default rule stops.

        Where that stops earlier, the same fit is run again and goes on.
        """
        course = fit_course(self.path, self.k, self.seed, self.options, self.value)
        reached = first_below(course, self.target)
        if math.isinf(reached):
            longer = {**self.options, "tol": 0.0, "max_passes": LONG}
            again = fit_course(self.path, self.k, self.seed, longer, self.value)
            reached = first_below(again, self.target)
        return reached, course.stopped


def call(task: Task) -> tuple[float, float]:
    return task()


def parallel(session: Session, tasks: list[Task]) -> list[tuple[float, float]]:
    """Run tasks, in as many processes as there are cores; reads are counted, not timed."""
    if session.size == "tiny":
        return [task() for task in tasks]
    with ProcessPoolExecutor(machine.cores(), mp_context=get_context("spawn")) as pool:
        return list(pool.map(call, tasks))


def run(session: Session, seeds: int) -> Iterator[Figure]:
    """Planted data, then small real data."""
    for problem in planted_problems(session.size):
        session.tell(f"making {problem.name}")
        V = problem.make()
        entry = load_reference(problem.reference, V)
        if entry is None:
            raise missing(problem.reference, session.size, "frobenius")
        path = problem.write(session, V)
        del V  # the processes that fit need the room
        yield from _planted(session, problem, path, entry["relative_error"], seeds)
        session.drop(path)
    for problem in real_problems(session.size):
        yield from _real(session, problem, seeds)


def _planted(
    session: Session, problem: Problem, path: Path, reference: float, seeds: int
) -> Iterator[Figure]:
    target = CLOSE * reference
    session.tell(f"{problem.name}: {seeds} seeds, with a sample and without")
    ways = [problem.options, {**problem.options, "sample": 0.0}]
    tasks = [
        Task(path, problem.k, seed, options, target) for options in ways for seed in range(seeds)
    ]
    found = parallel(session, tasks)
    sampled, plain = found[:seeds], found[seeds:]
    yield from _figures(problem.name, reference, sampled, plain)


def _figures(
    case: str,
    reference: float,
    sampled: list[tuple[float, float]],
    plain: list[tuple[float, float]],
) -> Iterator[Figure]:
    reached, stopped = [r for r, _ in sampled], [s for _, s in sampled]
    texts = [str(reads) for reads in reached]
    details = {
        "reference": reference,
        "reads_by_seed": texts,
        "seeds_that_never_get_there": [s for s, r in enumerate(reached) if math.isinf(r)],
        "stopped_by_seed": stopped,
    }

    def figure(name: str, value: float, goal: Any = None, **more: Any) -> Figure:
        return Figure("reads", case, name, value, goal=goal, details={**details, **more})

    near = "reads until within 0.1% of the reference"
    yield figure(f"{near}, median", median(reached), goals.READS_MEDIAN)
    yield figure(f"{near}, worst seed", max(reached), goals.READS_WORST)
    yield figure(
        "reads until the default rule stops, worst seed", max(stopped), goals.READS_STOPPED
    )
    for index, name in enumerate((near, "reads until the default rule stops")):
        pairs = [(a[index], b[index]) for a, b in zip(sampled, plain, strict=True)]
        worst = max(_against(a, b) for a, b in pairs)
        without = [str(b) for _, b in pairs]
        text = f"{name}, with the sample / without, worst seed"
        yield figure(text, worst, goals.NOT_MORE, without_by_seed=without)


def _against(reads: float, without: float) -> float:
    """A ratio where both may be infinite."""
    return 1.0 if math.isinf(reads) and math.isinf(without) else reads / without


def _real(session: Session, problem: Problem, seeds: int) -> Iterator[Figure]:
    """Reads in all, and the error at the end, by the default rule."""
    V = problem.make()
    if V is None:
        name, reason = "reads until the default rule stops", "no real data (set DNMF_DATA)"
        yield Figure("reads", problem.name, name, None, goal=goals.READS_SMALL, skipped=reason)
        return
    entry = load_reference(problem.reference, V)
    if entry is None:
        session.tell(f"{problem.name}: no reference of these very data is stored, computing one")
        entry = converged_runs(V, problem.k, REFERENCE_RUNS[session.size], session.tell)
    path = problem.write(session, V)
    courses = [fit_course(path, problem.k, s, {}, "relative_error") for s in range(seeds)]
    session.drop(path)
    reads, errors = [c.stopped for c in courses], [c.values[-1] for c in courses]
    details = {"reference": entry["relative_error"], "reads": reads, "relative_errors": errors}
    yield Figure(
        "reads",
        problem.name,
        "reads until the default rule stops, worst seed",
        max(reads),
        goal=goals.READS_SMALL,
        details=details,
    )
    for which, value in (("median", median(errors)), ("worst seed", max(errors))):
        ratio = value / entry["relative_error"]
        goal = goals.Goal(CLOSE) if which == "median" else None
        name = f"relative error / reference, {which}"
        yield Figure("reads", problem.name, name, ratio, goal=goal, details=details)


def reference(session: Session, runs: int) -> None:
    """Compute the references of this size and store them."""
    seen = set()
    for problem in [*planted_problems(session.size), *real_problems(session.size)]:
        V = None if problem.reference in seen else problem.make()
        if V is None:
            continue
        seen.add(problem.reference)
        session.tell(f"{problem.reference}: {runs} converged runs")
        H = problem.planted.H if problem.planted else None
        store(problem.reference, converged_runs(V, problem.k, runs, session.tell, H))
