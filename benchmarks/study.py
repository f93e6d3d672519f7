"""``study``: many models in the same reads, against the same fits one after the other."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import zarr

import dnmf
from benchmarks import goals
from benchmarks.figures import Figure
from benchmarks.planted import PlantedPoisson
from benchmarks.session import Session
from benchmarks.stores import write_dense
from dnmf.linalg.blas import one_thread
from dnmf.steps.serial import Serial

__all__ = ["run"]

PEER_FITS = 5


@dataclass(frozen=True)
class _Size:
    """Attributes
    ----------
    data : PlantedPoisson
    ks : range
    seeds : int
    options : dict
        Of every fit.
    """

    data: PlantedPoisson
    ks: range
    seeds: int
    options: dict[str, Any]


SIZES = {
    "tiny": _Size(
        PlantedPoisson(3_000, 60, 4), range(2, 4), 2, {"sample_bytes": "144kB", "max_passes": 10}
    ),
    "quick": _Size(PlantedPoisson(60_000, 500, 8), range(2, 13), 3, {}),
    "full": _Size(PlantedPoisson(200_000, 1_000, 10), range(2, 21), 5, {}),
}


def run(session: Session) -> Iterator[Figure]:
    """Reads of V and wall time, in one process of one thread that keeps nothing of V."""
    size = SIZES[session.size]
    data, count = size.data, len(size.ks) * size.seeds
    session.need_room(6 * data.n * data.d * 4)
    path = session.folder / f"study-{session.size}.zarr"
    if not path.exists():
        session.tell(f"writing V, {data.n:,} x {data.d:,}")
        write_dense(path, data, (2000, data.d))
    case = f"k = {size.ks[0]} to {size.ks[-1]} x {size.seeds} seeds"
    session.tell(f"{case} together")
    with session.scratch("study") as out:
        together, study = _timed(
            lambda: dnmf.fit_many(
                str(path),
                size.ks,
                size.seeds,
                holdout=None,
                n_init=1,
                out=out / "study.zarr",
                executor=Serial(),
                **size.options,
            )
        )
    objectives = {(x["k"], x["seed"]): x["objective"] for x in study.models}
    session.tell(f"the same {count} fits one after the other")
    apart, reads, differences = _one_by_one(session, path, size, objectives)

    def figure(name: str, value: float, unit: str = "", goal: Any = None, **details: Any) -> Figure:
        return Figure("study", case, name, value, unit, goal, details=details)

    ratio = study.reads / max(reads)
    yield figure(
        "reads of V / those of the longest single fit",
        ratio,
        goal=goals.STUDY_READS,
        reads=study.reads,
        longest=max(reads),
        all_single=sum(reads),
    )
    yield figure("wall time of the study", together, "s", models=count)
    yield figure(
        "wall time one after the other / together",
        apart / together,
        goal=goals.STUDY_SINGLE,
        seconds=apart,
    )
    yield figure("largest relative difference of an objective", max(differences), goal=goals.SAME)
    session.tell(f"scikit-learn, {PEER_FITS} of the {count} fits")
    peer = _peer(path, size)
    yield figure(
        f"wall time of scikit-learn ({PEER_FITS} fits, scaled to {count}) / together",
        count * mean(peer) / together,
        goal=goals.STUDY_PEER,
        seconds=peer,
        scaled=True,
    )
    session.drop(path)


def _timed(call: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    found = call()
    return time.perf_counter() - began, found


def _one_by_one(
    session: Session, path: Path, size: _Size, objectives: dict[tuple[int, int], float]
) -> tuple[float, list[float], list[float]]:
    """Seconds of all fits, the reads of each, and how far each ends from the study's model."""
    seconds, reads, differences = 0.0, [], []
    for k in size.ks:
        for seed in range(size.seeds):
            with session.scratch("single") as out:
                took, fit = _timed(lambda: _single(path, k, seed, out, size.options))  # noqa: B023
            seconds += took
            once = fit.details["layout"]["bytes_per_read"]
            reads.append(1 + sum(row["bytes_read"] for row in fit.history) / once)
            differences.append(abs(fit.objective / objectives[k, seed] - 1))
    return seconds, reads, differences


def _single(path: Path, k: int, seed: int, out: Path, options: dict[str, Any]) -> Any:
    where = {"out": out / "fit.zarr", "executor": Serial()}
    return dnmf.fit(str(path), k, seed=seed, n_init=1, **where, **options)


def _peer(path: Path, size: _Size) -> list[float]:
    """Seconds of scikit-learn's fits over the range of k, V in memory, one thread too."""
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    V = np.asarray(zarr.open_array(str(path), mode="r")[:])
    ks = [int(k) for k in np.linspace(size.ks[0], size.ks[-1], PEER_FITS).round()]
    found = []
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for seed, k in enumerate(ks):
            model = NMF(k, init="random", random_state=seed)
            found.append(_timed(lambda: model.fit(V))[0])  # noqa: B023
    return found
