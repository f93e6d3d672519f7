"""``start``: the whole process of ``dnmf fit`` on a small matrix."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks import goals
from benchmarks.figures import Figure
from benchmarks.planted import PlantedPoisson
from benchmarks.session import Session
from benchmarks.stores import write_dense

__all__ = ["run"]

PROGRAM = "from dnmf.cli.main import main; main()"
IMPORTS = "import numpy, scipy.sparse, numba, zarr, rich"
REPETITIONS = {"tiny": 1, "quick": 3, "full": 7}
DATA = {
    "tiny": PlantedPoisson(500, 50, 4),
    "quick": PlantedPoisson(1_000, 250, 10),
    "full": PlantedPoisson(1_000, 250, 10),
}


def run(session: Session) -> Iterator[Figure]:
    """Seconds of the second and later runs: compiled kernels then come from the disk."""
    data = DATA[session.size]
    V, _ = data.matrix()
    path = write_dense(session.folder / f"start-{session.size}.zarr", V, (100, data.d))
    ways = {"serial": ["--workers", "0"], "cluster": ["--workers", "2"]}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    imports: list[float] = []
    with session.scratch("start") as out:
        if session.size != "tiny":
            session.tell("first runs, which may compile")
            for options in ways.values():
                _fit(path, out / "fit.zarr", data.k, options)
        for repetition in range(REPETITIONS[session.size]):
            session.tell(f"{repetition + 1} of {REPETITIONS[session.size]}")
            imports.append(_timed(["-c", IMPORTS]))
            for way, options in ways.items():
                seconds[way].append(_fit(path, out / "fit.zarr", data.k, options))
    session.drop(path)
    case = f"dnmf fit, {4 * data.n * data.d / 1e6:.3g} MB"
    for way, goal in (("serial", goals.START_SERIAL), ("cluster", goals.START_CLUSTER)):
        details = {"seconds": seconds[way]}
        yield Figure("start", case, way, median(seconds[way]), "s", goal, details=details)
    name = "Python with NumPy, SciPy, numba, Zarr and rich alone"
    yield Figure("start", case, name, median(imports), "s", details={"seconds": imports})


def _fit(path: Path, out: Path, k: int, options: list[str]) -> float:
    arguments = ["fit", str(path), "-k", str(k), "--out", str(out), "--seed", "0", "--overwrite"]
    return _timed(["-c", PROGRAM, *arguments, *options])


def _timed(arguments: list[str]) -> float:
    """Seconds of a Python process, from its start to its end."""
    began = perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=600, check=False
    )
    seconds = perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed: {done.stderr}")
    return seconds
