"""``reads --hard``: reads of V on data where alternation creeps, and how true the end is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks import machine
from benchmarks.courses import Course, components_found, fitted, peer_course
from benchmarks.figures import Figure
from benchmarks.problems_hard import HardSet, hard_sets
from benchmarks.reads_hard_figures import DEFAULT, Measured, SetResult, figures_of, overview
from benchmarks.reads_picture import draw_courses
from benchmarks.references import SMALL, sklearn_run
from benchmarks.session import Session
from benchmarks.stores import write_csr, write_dense
from dnmf.errors import OptionError
from dnmf.linalg.blas import one_thread
from dnmf.sources import open_source

__all__ = ["Options", "measured", "run"]

SHARE = 0.2
TIGHT = 1e-9
PASSES = {"tiny": 8, "quick": 300, "full": 1000}
PEER_WORK = {"tiny": 1e5, "quick": 1.5e8, "full": 2e9}
"""Iterations of scikit-learn times entries of V: small data are run to their end."""

PEER_ITERATIONS = {"tiny": (2, 4), "quick": (150, 4000), "full": (400, 4000)}
"""At least, and at most."""

ABSENT = "no real data (set DNMF_DATA)"

CHUNKS = 16
"""Of rows of a dense V."""

FROBENIUS = "frobenius"

Options = dict[str, Any]


@dataclass(frozen=True)
class _Fits:
    """The fit of one seed at a tolerance that leaves nothing, and by the default rule."""

    path: Path
    k: int
    seed: int
    draw: int
    options: Options
    passes: int
    planted: np.ndarray | None

    def __call__(self) -> Measured:
        longer = {**self.options, "tol": TIGHT, "max_passes": self.passes}
        tight = fitted(self.path, self.k, self.seed, longer, "objective")
        default = fitted(self.path, self.k, self.seed, self.options, "objective")
        return Measured(
            draw=self.draw,
            tight=tight.course,
            ended=tight.kind != "max_passes",
            stopped=default.course.stopped,
            objective=default.objective,
            sentence=default.sentence,
            found=None if self.planted is None else components_found(default.H, self.planted),
            passes=len(default.course.reads),
        )


@dataclass(frozen=True)
class _Peer:
    """scikit-learn from one start."""

    path: Path
    k: int
    seed: int
    iterations: int
    loss: str

    def __call__(self) -> Course:
        if self.loss == FROBENIUS:
            return peer_course(self.path, self.k, self.seed, self.iterations)
        source = open_source(str(self.path))
        (V,) = source.read_blocks([0, source.shape[0]])
        times = {"tol": 0, "max_iter": self.iterations}
        with one_thread():
            end = sklearn_run(V, self.k, self.seed, self.loss, **times)
        return Course([2.0 * self.iterations], [end])


def _call(task: Any) -> Any:
    return task()


@dataclass
class _Waiting:
    """A set whose fits are running."""

    hard: HardSet
    paths: list[Path] = field(default_factory=list)
    fits: dict[str, list[Future[Measured]]] = field(default_factory=dict)
    peers: list[tuple[int, Future[Course]]] = field(default_factory=list)
    absent: bool = False


def run(
    session: Session,
    seeds: int,
    ways: list[Options],
    only: tuple[str, ...] = (),
    picture: Path | None = None,
) -> Iterator[Figure]:
    """Measure every set, with the options of every way; draw what is to be drawn.

    Parameters
    ----------
    ways : list of dict
        Options of fits; goals hold for the first ones.
    only : tuple of str
        Parts of the names of sets; none is all.
    picture : Path, optional
        An SVG file that is written.

    Raises
    ------
    OptionError
        No set has such a name.
    """
    chosen = [
        x for x in hard_sets(session.size) if not only or any(part in x.name for part in only)
    ]
    if not chosen:
        names = ", ".join(hard.name for hard in hard_sets(session.size))
        raise OptionError(f"no set is named like {' or '.join(only)}; there are: {names}")
    results = []
    for result in measured(session, chosen, seeds, ways, SHARE):
        if isinstance(result, HardSet):
            name = "reads until the default rule stops, worst seed"
            yield Figure("reads", result.name, name, None, skipped=ABSENT)
        else:
            results.append(result)
            yield from figures_of(result)
    session.console.print(overview(results))
    if picture is not None:
        draw_courses(picture, [x for x in results if x.hard.pictured or only])
        session.tell(f"wrote {picture}")


def measured(
    session: Session,
    sets: list[HardSet],
    seeds: int,
    ways: list[Options],
    share: float | None = None,
) -> Iterator[SetResult | HardSet]:
    """Fit every set from every seed; a set whose data are absent comes back itself.

    Parameters
    ----------
    share : float, optional
        Of V as sample; None leaves it to the plan.
    """
    with _pool(session.size) as pool:
        running = [_begin(session, pool, hard, seeds, ways, share) for hard in sets]
        for waiting in running:
            yield waiting.hard if waiting.absent else _end(session, waiting)


def _pool(size: str) -> Any:
    """As many processes as there are cores, since reads are counted; none at tiny size."""
    if size == "tiny":
        return nullcontext()
    return ProcessPoolExecutor(machine.cores(), mp_context=get_context("spawn"))


def _submit(pool: Executor | None, task: Any) -> Future[Any]:
    if pool is not None:
        return pool.submit(_call, task)
    done: Future[Any] = Future()
    done.set_result(task())
    return done


def _begin(
    session: Session,
    pool: Executor | None,
    hard: HardSet,
    seeds: int,
    ways: list[Options],
    share: float | None,
) -> _Waiting:
    """Make V of every draw, write it, and submit its fits."""
    session.tell(f"making {hard.name}")
    waiting = _Waiting(hard)
    for draw in range(min(hard.draws, seeds)):
        made = hard.make(draw)
        if made is None:
            waiting.absent = True
            return waiting
        path = _write(session, hard, draw, made.V)
        waiting.paths.append(path)
        entries = made.V.nnz if sp.issparse(made.V) else made.V.size
        least, most = PEER_ITERATIONS[session.size]
        iterations = min(max(int(PEER_WORK[session.size] / entries), least), most)
        whole = sp.issparse(made.V) or not np.isnan(made.V).any()
        sampled = {"sample_bytes": int(share * open_source(str(path)).nbytes)} if share else {}
        common, loss = {**sampled, **hard.options}, hard.options.get("loss", FROBENIUS)
        for seed in range(draw, seeds, hard.draws):
            for way in ways:
                fits = _Fits(
                    path, hard.k, seed, draw, {**common, **way}, PASSES[session.size], made.H
                )
                waiting.fits.setdefault(_label(way), []).append(_submit(pool, fits))
            if entries <= SMALL and whole:
                peer = _submit(pool, _Peer(path, hard.k, seed, iterations, loss))
                waiting.peers.append((draw, peer))
    return waiting


def _label(way: Options) -> str:
    return ", ".join(f"{name}={value}" for name, value in way.items()) or DEFAULT


def _write(session: Session, hard: HardSet, draw: int, V: Any) -> Path:
    name = "".join(c if c.isalnum() else "-" for c in hard.name.lower())
    path = session.folder / f"hard-{session.size}-{name}-{draw}.zarr"
    if sp.issparse(V):
        return write_csr(path, V)
    return write_dense(path, V, (math.ceil(V.shape[0] / CHUNKS), V.shape[1]))


def _end(session: Session, waiting: _Waiting) -> SetResult:
    """Wait for the fits of a set, and delete its data."""
    fits = {label: [one.result() for one in found] for label, found in waiting.fits.items()}
    peers = [(draw, one.result()) for draw, one in waiting.peers]
    for path in waiting.paths:
        session.drop(path)
    return SetResult(waiting.hard, fits, peers)
