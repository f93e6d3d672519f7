"""The sets of ``ends``: those of ``reads --hard``, a stuck column, counts by Kullback-Leibler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.planted import PlantedPoisson, PlantedTopics
from benchmarks.planted_hard import HotPixel, Made
from benchmarks.problems_hard import DRAWS, HardSet, hard_sets
from benchmarks.real_data import documents, expression, signatures, single_cells

__all__ = ["end_sets"]

COUNTS = {"loss": "kullback-leibler"}

_GENES = {"tiny": 150, "quick": 8, "full": 1}
_DOCUMENTS = {"tiny": 300, "quick": None, "full": None}
_POISSON = {
    "tiny": PlantedPoisson(800, 40, 4),
    "quick": PlantedPoisson(5_000, 200, 10),
    "full": PlantedPoisson(20_000, 200, 20),
}
_TOPICS = {
    "tiny": PlantedTopics(800, 100, 3, events=40, sharpness=0.1),
    "quick": PlantedTopics(5_000, 1_000, 10, events=60, sharpness=0.02),
    "full": PlantedTopics(20_000, 2_000, 15, events=60, sharpness=0.02),
}


def end_sets(size: str) -> list[HardSet]:
    """All sets of a size."""
    tiny = size == "tiny"
    pixel = HotPixel(60, 16, 2) if tiny else HotPixel(400, 60, 5)
    return [
        *hard_sets(size),
        HardSet("hot pixel", pixel.k, pixel.make, "other", 1 if tiny else DRAWS),
        *_counts(size),
    ]


def _counts(size: str) -> list[HardSet]:
    genes, most = _GENES[size], _DOCUMENTS[size]
    poisson, topics = _POISSON[size], _TOPICS[size]

    def cells() -> Any:
        V = single_cells(counts=True)
        return None if V is None else V[:, ::genes]

    makers: list[tuple[str, int, Callable[[], Any]]] = [
        ("pbmc1k counts", 9, cells),
        ("pbmc1k counts, genes in rows", 9, lambda: _turned(cells())),
        ("documents", 3 if size == "tiny" else 20, lambda: documents(most)),
        ("leukemia", 4, lambda: expression("leukemia")),
        ("medulloblastoma", 5, lambda: expression("medulloblastoma")),
        ("breast cancers", 4, signatures),
        ("planted Poisson", poisson.k, lambda: poisson.matrix()[0]),
        ("planted sparse", topics.k, lambda: topics.matrix()[0]),
    ]
    return [
        HardSet(f"{name}, Kullback-Leibler", k, _made(make), "other", options=COUNTS)
        for name, k, make in makers
    ]


def _turned(V: Any) -> Any:
    return None if V is None else V.T.tocsr()


def _made(make: Callable[[], Any]) -> Callable[[int], Made | None]:
    """What a function without a draw makes, as a set has it; dense V in float32."""

    def of_draw(draw: int) -> Made | None:
        V = make()
        if isinstance(V, np.ndarray):
            V = np.ascontiguousarray(V, np.float32)
        return None if V is None else Made(V)

    return of_draw
