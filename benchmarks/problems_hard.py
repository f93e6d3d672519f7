"""The sets of ``reads --hard``: real data, planted ones, noisy counts, spectra, traffic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.planted import Planted, PlantedPoisson, PlantedTopics, by_strongest
from benchmarks.planted_hard import Made, ScaledCounts, SpectralScene, TrafficWeeks, take_out
from benchmarks.real_data import air, faces, piano, single_cells

__all__ = ["KINDS", "HardSet", "hard_sets"]

KINDS = ("hard", "planted", "missing", "other")
"""Which goals a set has: those of hard data, of planted ones, of gaps, or those of every set."""

MISSING = 0.05
DRAWS = 5


@dataclass(frozen=True)
class HardSet:
    """A matrix, or as many as there are draws of its generator.

    Attributes
    ----------
    name : str
        Of the case.
    k : int
    make : callable
        What a draw gives; None where the data are absent.
    kind : str
        One of `KINDS`.
    draws : int
        Seed s of a fit gets draw s modulo this.
    options : dict
        Of the fit.
    pictured : bool
        Whether the picture shows it.
    """

    name: str
    k: int
    make: Callable[[int], Made | None]
    kind: str = "hard"
    draws: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    pictured: bool = False


@dataclass(frozen=True)
class _Sizes:
    """How large the sets are: a step through pixels, genes and windows, and shapes."""

    faces: tuple[int, int]
    gaps_in_faces: tuple[int, int]
    genes: int
    windows: int
    poisson: PlantedPoisson
    topics: PlantedTopics
    counts: ScaledCounts
    scene: SpectralScene
    traffic: TrafficWeeks


_SIZES = {
    "tiny": _Sizes(
        (8, 4), (8, 4), 150, 8, PlantedPoisson(2_500, 30, 3),
        PlantedTopics(2_500, 200, 3, events=40, sharpness=0.1), ScaledCounts(2_500, 60, 3),
        SpectralScene(20, 20, 3), TrafficWeeks(1, 20, 3, per_day=24),
    ),
    "quick": _Sizes(
        (3, 15), (4, 15), 8, 2, PlantedPoisson(20_000, 300, 10),
        PlantedTopics(20_000, 2_000, 15, events=60, sharpness=0.02),
        ScaledCounts(8_000, 2_000, 15), SpectralScene(80, 150, 8), TrafficWeeks(8, 200, 10),
    ),
    "full": _Sizes(
        (1, 25), (2, 25), 1, 1, PlantedPoisson(50_000, 1_000, 20),
        PlantedTopics(100_000, 4_000, 30, events=60, sharpness=0.02),
        ScaledCounts(20_000, 2_000, 15), SpectralScene(200, 200, 8), TrafficWeeks(16, 800, 10),
    ),
}  # fmt: skip


def hard_sets(size: str) -> list[HardSet]:
    """All sets of a size, those that take long first."""
    sizes = _SIZES[size]
    return [*_real(sizes), *_generated(sizes), *_planted(sizes), *_missing(sizes)]


def _real(sizes: _Sizes) -> list[HardSet]:
    step, k = sizes.faces
    return [
        HardSet("ORL faces", k, _array(lambda: faces(step)), pictured=True),
        HardSet("ORL faces, transposed", k, _array(lambda: faces(step), turned=True)),
        HardSet("pbmc1k log", 12, _cells(sizes.genes, counts=False), pictured=True),
        HardSet("pbmc1k counts", 12, _cells(sizes.genes, counts=True), kind="other"),
        HardSet("piano", 8, _array(lambda: piano(), sizes.windows), pictured=True),
        HardSet("pmf Baton Rouge", 6, _array(lambda: air("BatonRouge")), pictured=True),
        HardSet("pmf St. Louis", 6, _array(lambda: air("StLouis"))),
    ]


def _generated(sizes: _Sizes) -> list[HardSet]:
    counts, scene, traffic = sizes.counts, sizes.scene, sizes.traffic
    return [
        HardSet("scaled counts", counts.k, counts.make, "other", DRAWS, pictured=True),
        HardSet("spectral scene", scene.k, scene.make, pictured=True),
        HardSet("traffic", traffic.k, traffic.make),
    ]


def _planted(sizes: _Sizes) -> list[HardSet]:
    found = []
    for name, data in (("planted Poisson", sizes.poisson), ("planted sparse", sizes.topics)):
        found.append(HardSet(name, data.k, _of_planted(data), kind="planted"))
        found.append(HardSet(f"{name}, sorted", data.k, _of_planted(data, True), kind="planted"))
    return found


def _missing(sizes: _Sizes) -> list[HardSet]:
    step, k = sizes.gaps_in_faces
    which: list[tuple[str, int, Callable[[], np.ndarray | None]]] = [
        ("pmf Baton Rouge", 6, lambda: air("BatonRouge")),
        ("piano", 8, lambda: piano()),
        ("ORL faces", k, lambda: faces(step)),
    ]
    return [
        HardSet(
            f"{name}, {MISSING:.0%} missing",
            k,
            _array(read, sizes.windows if name == "piano" else 1, missing=MISSING),
            kind="missing",
            options={"missing": "nan"},
        )
        for name, k, read in which
    ]


def _array(
    read: Callable[[], np.ndarray | None],
    step: int = 1,
    *,
    turned: bool = False,
    missing: float = 0,
) -> Callable[[int], Made | None]:
    """Every so many rows of what is read, with rows for columns, or with gaps."""

    def make(draw: int) -> Made | None:
        V = read()
        if V is None:
            return None
        V = np.ascontiguousarray(V[::step].T if turned else V[::step])
        return Made(take_out(V, missing, draw) if missing else V)

    return make


def _cells(step: int, counts: bool) -> Callable[[int], Made | None]:
    """Every so many genes of all cells."""

    def make(draw: int) -> Made | None:
        V = single_cells(counts)
        return None if V is None else Made(V[:, ::step])

    return make


def _of_planted(data: Planted, ordered: bool = False) -> Callable[[int], Made | None]:
    def make(draw: int) -> Made:
        V, strongest = data.matrix()
        return Made(by_strongest(V, strongest) if ordered else V, data.H)

    return make
