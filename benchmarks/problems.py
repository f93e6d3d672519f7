"""The matrices of ``reads``: planted ones, their rows also sorted, and two real ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.planted import Planted, PlantedPoisson, PlantedTopics, by_strongest
from benchmarks.real_data import documents, single_cells
from benchmarks.session import Session
from benchmarks.stores import write_csr, write_dense

__all__ = ["Problem", "planted_problems", "real_problems"]

CHUNK_ROWS = 2000


@dataclass(frozen=True)
class Problem:
    """A matrix to be factorized, and where its reference stands.

    Attributes
    ----------
    name : str
        Of the case.
    reference : str
        Key in ``references.json``: sorting rows changes no optimum.
    k : int
    make : callable
        V in memory; None where the data are absent.
    options : dict
        Of the fit.
    planted : Planted or None
    """

    name: str
    reference: str
    k: int
    make: Callable[[], Any]
    options: dict[str, Any] = field(default_factory=dict)
    planted: Planted | None = None

    def write(self, session: Session, V: Any) -> Path:
        """V on the disk."""
        path = session.folder / f"reads-{session.size}-{self.name.replace(' ', '-')}.zarr"
        if sp.issparse(V):
            return write_csr(path, V)
        return write_dense(path, np.ascontiguousarray(V), (CHUNK_ROWS, V.shape[1]))


_POISSON = {
    "tiny": PlantedPoisson(3_000, 60, 4),
    "quick": PlantedPoisson(100_000, 200, 20),
    "full": PlantedPoisson(200_000, 1_000, 20),
}
_TOPICS = {
    "tiny": PlantedTopics(3_000, 300, 4, events=40, sharpness=0.1),
    "quick": PlantedTopics(100_000, 4_000, 30, events=60, sharpness=0.02),
    "full": PlantedTopics(200_000, 20_000, 30, events=225, sharpness=0.02),
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "tiny": {"sample_bytes": "144kB", "block_size": "100kB"},  # a fifth of V
    "quick": {},
    "full": {},
}


def planted_problems(size: str) -> list[Problem]:
    """Dense and sparse, as they come and with rows sorted by their strongest component."""
    found = []
    for name, data in (("planted Poisson", _POISSON[size]), ("planted sparse", _TOPICS[size])):
        reference = f"{name}, {size}"
        common: dict[str, Any] = {"options": _OPTIONS[size], "planted": data}
        found.append(Problem(name, reference, data.k, _plain(data), **common))
        found.append(Problem(f"{name}, sorted", reference, data.k, _sorted(data), **common))
    return found


def _plain(data: Planted) -> Callable[[], Any]:
    return lambda: data.matrix()[0]


def _sorted(data: Planted) -> Callable[[], Any]:
    return lambda: by_strongest(*data.matrix())


def real_problems(size: str) -> list[Problem]:
    """Small enough to be sampled whole (at tiny size only some documents)."""
    most = 400 if size == "tiny" else None
    words = f"documents, {size}" if most else "documents"
    k = 5 if most else 20
    found = [Problem("standard-library documents", words, k, lambda: documents(most))]
    if size != "tiny":
        found.append(Problem("pbmc1k", "pbmc1k", 9, single_cells))
    return found
