"""``reads --loss kullback-leibler``: against scikit-learn's multiplicative updates."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import dnmf
from benchmarks import goals
from benchmarks.clocks import Clock, StepTime
from benchmarks.clusters import TINY_LIMIT, cluster
from benchmarks.figures import Figure
from benchmarks.planted import PlantedPoisson, PlantedTopics
from benchmarks.problems import Problem
from benchmarks.reads import Task, parallel
from benchmarks.real_data import documents, single_cells
from benchmarks.references import fingerprint, load_reference, missing, sklearn_run, store
from benchmarks.session import Session
from benchmarks.stores import write_csr
from dnmf.sources import open_source

__all__ = ["reference", "run"]

LOSS = "kullback-leibler"
CLOSE = 1.002
ITERATIONS = 200
SHARE = 0.2

_POISSON = {
    "tiny": PlantedPoisson(800, 40, 4),
    "quick": PlantedPoisson(20_000, 200, 20),
    "full": PlantedPoisson(50_000, 1_000, 20),
}
_TIMED = {
    "tiny": PlantedTopics(2_000, 300, 4, events=12),
    "quick": PlantedTopics(20_000, 5_000, 20, events=65, sharpness=0.05),
    "full": PlantedTopics(50_000, 20_000, 20, events=84, sharpness=0.05),
}
_SAME_RULES = {"solver": "mu", "sample": 0.0, "max_passes": 8, "tol": 0.0}
"""scikit-learn's updates, one of W and one of H per pass, and nothing else."""

_TIMED_SEEDS = {"tiny": 1, "quick": 1, "full": 3}


def _problems(size: str) -> list[Problem]:
    tiny, data = size == "tiny", _POISSON[size]
    most = 300 if tiny else None
    words, cells = "documents, kullback-leibler", "pbmc1k counts, kullback-leibler"
    found = [
        Problem("standard-library documents", f"{words}, {most or 'all'}", 5 if tiny else 20,
                lambda: documents(most)),
        Problem("planted Poisson", f"planted Poisson, {LOSS}, {size}", data.k,
                lambda: data.matrix()[0]),
    ]  # fmt: skip
    if not tiny:
        found.append(Problem("pbmc1k counts", cells, 9, lambda: single_cells(counts=True)))
    return found


def run(session: Session, seeds: int) -> Iterator[Figure]:
    """Reads until as good as 200 iterations of scikit-learn's, then seconds."""
    for problem in _problems(session.size):
        V = problem.make()
        name = "reads until within 0.2% of scikit-learn's 200 iterations, median"
        if V is None:
            reason = "no real data (set DNMF_DATA)"
            yield Figure("reads", f"{LOSS}, {problem.name}", name, None, skipped=reason)
            continue
        entry = load_reference(problem.reference, V)
        if entry is None and "documents" in problem.reference:  # every Python has its own
            entry = _median_of_sklearn(session, problem, V, 1 if session.size == "tiny" else 3)
        if entry is None:
            raise missing(problem.reference, session.size, LOSS)
        yield from _reads(session, problem, V, entry["divergence"], seeds)
    yield from _seconds(session)


def _reads(
    session: Session, problem: Problem, V: Any, divergence: float, seeds: int
) -> Iterator[Figure]:
    path = problem.write(session, V)
    fifth = {"sample_bytes": int(SHARE * open_source(V).nbytes)}
    for text, options in (("", {}), (", a fifth of the rows as sample", fifth)):
        session.tell(f"{problem.name}{text}: {seeds} seeds")
        chosen = {"loss": LOSS, **options}
        target = CLOSE * divergence
        found = parallel(
            session,
            [Task(path, problem.k, s, chosen, target, "objective") for s in range(seeds)],
        )
        reached = [reads for reads, _ in found]
        yield Figure(
            "reads",
            f"{LOSS}, {problem.name}{text}",
            "reads until within 0.2% of scikit-learn's 200 iterations, median",
            median(reached),
            goal=goals.KL_READS,
            details={
                "divergence": divergence,
                "reads_by_seed": [str(reads) for reads in reached],
                "stopped_by_seed": [stopped for _, stopped in found],
                "seeds_that_never_get_there": [s for s, r in enumerate(reached) if math.isinf(r)],
            },
        )
    session.drop(path)


def _seconds(session: Session) -> Iterator[Figure]:
    """Wall time per iteration, also of the same updates, and to scikit-learn's 200 iterations."""
    data = _TIMED[session.size]
    V, _ = data.matrix()
    path = write_csr(session.folder / f"kl-{session.size}.zarr", V)
    theirs: list[tuple[float, float]] = []
    ours: dict[str, list[_Timed]] = {}
    limit = TINY_LIMIT if session.size == "tiny" else None
    with cluster(2, memory=limit) as client, session.scratch("kl") as out:
        on_cluster = {"client": client, "out": out / "fit.zarr", "overwrite": True}
        ways: dict[str, tuple[Any, dict[str, Any]]] = {
            "dnmf, threads of this process": (V, {}),
            "dnmf, 2 workers": (str(path), on_cluster),
        }
        for seed in range(_TIMED_SEEDS[session.size]):
            session.tell(f"timing seed {seed}")
            theirs.append(_timed_sklearn(V, data.k, seed))
            target = CLOSE * theirs[-1][1]
            for name, (matrix, options) in ways.items():
                ours.setdefault(name, []).append(_timed(matrix, data.k, seed, target, options))
    session.drop(path)
    case = f"{LOSS}, {data.n:,} x {data.d:,} with {V.nnz:,} nonzeros, k={data.k}"
    for name, times in ours.items():
        yield from _ratios(case, name, theirs, times)


@dataclass(frozen=True)
class _Timed:
    """Seconds of a fit: of a pass, of a pass by scikit-learn's rules, until a target."""

    iteration: float
    same_rules: float
    objective: float


def _timed(V: Any, k: int, seed: int, target: float, options: dict[str, Any]) -> _Timed:
    passes = _passes(V, k, seed, options)
    classic = _passes(V, k, seed, {**options, **_SAME_RULES})
    good = [step.elapsed for step in passes if step.row["objective"] <= target]
    return _Timed(
        median(step.seconds for step in passes),
        median(step.seconds for step in classic),
        good[0] if good else math.inf,
    )


def _ratios(
    case: str, name: str, theirs: list[tuple[float, float]], ours: list[_Timed]
) -> Iterator[Figure]:
    iteration = [seconds / ITERATIONS for seconds, _ in theirs]
    compared = {
        "per iteration": (iteration, [run.iteration for run in ours]),
        'per iteration with solver="mu"': (iteration, [run.same_rules for run in ours]),
        "to its 200 iterations": ([s for s, _ in theirs], [run.objective for run in ours]),
    }
    for what, (their, our) in compared.items():
        yield Figure(
            "reads",
            case,
            f"seconds of scikit-learn / {name}, {what}",
            median(a / b for a, b in zip(their, our, strict=True)),
            goal=goals.KL_PER_ITERATION,
            details={"scikit_learn_seconds": their, "dnmf_seconds": [*map(str, our)]},
        )


def _timed_sklearn(V: Any, k: int, seed: int) -> tuple[float, float]:
    """Seconds of 200 iterations in float32, and the divergence that they reach."""
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    model = NMF(
        k, init="random", solver="mu", beta_loss=LOSS, tol=0, max_iter=ITERATIONS,
        random_state=seed,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        began = perf_counter()
        model.fit(V)
        seconds = perf_counter() - began
    return seconds, float(model.reconstruction_err_) ** 2 / 2


def _passes(V: Any, k: int, seed: int, options: dict[str, Any]) -> list[StepTime]:
    clock = Clock()
    dnmf.fit(V, k, loss=LOSS, seed=seed, on_event=clock, **options)
    return clock.of("pass")


def _median_of_sklearn(session: Session, problem: Problem, V: Any, runs: int) -> dict[str, Any]:
    found = []
    for seed in range(runs):
        found.append(sklearn_run(V, problem.k, seed, LOSS, tol=0, max_iter=ITERATIONS))
        session.tell(f"{problem.name}, scikit-learn mu, seed {seed}: {found[-1]:.6g}")
    return {"divergence": median(found), "k": problem.k, "data": fingerprint(V), "runs": found}


def reference(session: Session, runs: int) -> None:
    """Compute and store what scikit-learn reaches after 200 iterations: the median of runs."""
    for problem in _problems(session.size):
        V = problem.make()
        if V is not None:
            store(problem.reference, _median_of_sklearn(session, problem, V, runs))
