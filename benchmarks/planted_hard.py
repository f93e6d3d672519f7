"""Matrices on which alternation creeps: noisy scaled counts, spectra, traffic.

The same on every machine: fixed generators, fixed seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.planted import H_STREAM, UNIT, numbers_of

__all__ = ["HotPixel", "Made", "ScaledCounts", "SpectralScene", "TrafficWeeks", "take_out"]


@dataclass(frozen=True)
class Made:
    """A matrix and what it was made from.

    Attributes
    ----------
    V : array or CSR
        float32, but for `HotPixel`.
    H : (k, d) array or None
        The planted column factor, where its rows can be told from one another.
    """

    V: Any
    H: np.ndarray | None = None


@dataclass(frozen=True)
class ScaledCounts:
    """Single-cell counts with genes scaled to unit variance: nine tenths of it are noise.

    Every cell mixes ``k`` programmes; a programme raises a twentieth of the genes above a base
    that all of them share. Counts are Poisson, overdispersed, about 600 a cell.
    """

    n: int
    d: int
    k: int
    types: int = 25

    def make(self, seed: int) -> Made:
        """CSR, and the programmes in the units of the scaled genes."""
        plan = numbers_of(seed, H_STREAM)
        base = plan.lognormal(0, 1.2, self.d)
        raised = plan.lognormal(2.2, 0.6, (self.k, self.d))
        others = plan.lognormal(0, 0.25, (self.k, self.d))
        G = base * np.where(plan.random((self.k, self.d)) < 0.05, raised, others)
        G /= G.sum(axis=1, keepdims=True)
        types = plan.dirichlet(np.full(self.k, 0.35), self.types)
        parts = []
        for unit in range(-(-self.n // UNIT)):
            own, rows = numbers_of(seed, unit), min(UNIT, self.n - unit * UNIT)
            alphas = types[own.integers(0, self.types, rows)] * 12 + 0.02
            usage = own.gamma(alphas)
            usage *= own.lognormal(np.log(600), 0.45, (rows, 1)) / usage.sum(axis=1, keepdims=True)
            rates = _product(usage, G) * own.gamma(2, 0.5, (rows, self.d))
            parts.append(sp.csr_array(own.poisson(rates).astype(np.float32)))
        V = sp.csr_array(sp.vstack(parts))
        scale = _deviations(V)
        V.data /= scale[V.indices].astype(np.float32)
        V.indices = V.indices.astype(np.int32, copy=False)
        return Made(V, G / scale)


def _deviations(V: sp.csr_array) -> np.ndarray:
    """Standard deviations of the columns; 1 for those that are constant."""
    n, d = V.shape
    values = V.data.astype(np.float64)
    sums = np.bincount(V.indices, values, minlength=d)
    squares = np.bincount(V.indices, values * values, minlength=d)
    variance = np.maximum(squares - sums * sums / n, 0) / (n - 1)
    return np.where(variance > 0, np.sqrt(np.where(variance > 0, variance, 1)), 1.0)


@dataclass(frozen=True)
class HotPixel:
    """Counts in which one column is stuck at the largest number that a detector writes.

    Components are nearly parallel once they are normalised: each has to fit that column.
    """

    n: int
    d: int
    k: int

    def make(self, seed: int) -> Made:
        """Dense, in float64: in float32 that column hides all others."""
        plan, own = numbers_of(seed, H_STREAM), numbers_of(seed, 0)
        H = plan.gamma(0.5, size=(self.k, self.d))
        rates = 3 * _product(own.gamma(0.5, size=(self.n, self.k)), H)
        V = own.poisson(rates).astype(np.float64)
        V[:, self.d // 8] = 65535
        return Made(V)


@dataclass(frozen=True)
class SpectralScene:
    """Pixels x bands of a scene: mixed spectra that differ by little above a flat background.

    Attributes
    ----------
    side : int
        Pixels of an edge; neighbours have like mixtures.
    bands, k : int
    noise : float
        Standard deviation beside a background of 1.
    """

    side: int
    bands: int
    k: int
    noise: float = 0.01

    def make(self, seed: int) -> Made:
        """Dense; the spectra are too much alike to be told from one another."""
        plan = numbers_of(seed, H_STREAM)
        band = np.arange(self.bands) / self.bands
        spectra = np.ones((self.k, self.bands))
        for spectrum in spectra:
            for _ in range(4):
                height, centre, width = plan.uniform(-0.3, 0.5), plan.random(), plan.uniform(3, 12)
                spectrum += height * np.exp(-(((band - centre) * width) ** 2))
        own = numbers_of(seed, 0)
        fields = np.stack([_smooth(own, self.side) for _ in range(self.k)], axis=1)
        shares = np.exp(3 * fields)
        shares /= shares.sum(axis=1, keepdims=True)
        light = 1 + 0.2 * _smooth(own, self.side)[:, None]
        V = np.maximum(light, 0.1) * _product(shares, np.maximum(spectra, 0.05))
        V += self.noise * own.standard_normal(V.shape)
        return Made(np.maximum(V, 0).astype(np.float32))


def _smooth(own: np.random.Generator, side: int, coarse: int = 8) -> np.ndarray:
    """A smooth random field over a square, one number a pixel, of unit scale."""
    points = own.standard_normal((coarse, coarse))
    where = np.linspace(0, coarse - 1, side)
    low = np.minimum(where.astype(int), coarse - 2)
    weights = np.zeros((side, coarse))
    rows = np.arange(side)
    weights[rows, low], weights[rows, low + 1] = 1 - (where - low), where - low
    return _product(_product(weights, points), weights.T).ravel()


@dataclass(frozen=True)
class TrafficWeeks:
    """Times x sensors: occupancy of roads with daily and weekly peaks, jams and noise.

    Attributes
    ----------
    weeks, sensors, k : int
        Every sensor mixes ``k`` kinds of road.
    per_day : int
        Measurements.
    """

    weeks: int
    sensors: int
    k: int
    per_day: int = 96

    def make(self, seed: int) -> Made:
        """Dense; kinds of road overlap in all of their sensors."""
        plan = numbers_of(seed, H_STREAM)
        days = 7 * self.weeks
        hour = np.arange(self.per_day) * 24 / self.per_day
        courses = []
        for _ in range(self.k):
            day = np.full(self.per_day, plan.uniform(0.02, 0.08))
            for rush in (8, 17.5):
                centre, width = rush + plan.normal(0, 1.5), plan.uniform(0.8, 3)
                day += plan.gamma(2, 0.5) * np.exp(-(((hour - centre) / width) ** 2))
            day += 0.3 * np.exp(-(((hour - 13) / 5) ** 2))
            weekend = plan.uniform(0.2, 0.9)
            levels = np.where(np.arange(days) % 7 < 5, 1.0, weekend) * plan.gamma(30, 1 / 30, days)
            courses.append(np.outer(levels, day).ravel())
        roads = plan.gamma(0.6, size=(self.k, self.sensors))
        rates = _product(np.stack(courses, axis=1), roads)
        own = numbers_of(seed, 0)
        V = rates * own.gamma(20, 1 / 20, rates.shape)
        jams = own.random(rates.shape) < 0.002
        V[jams] *= own.uniform(2, 5, int(jams.sum()))
        return Made((V / V.max()).astype(np.float32))


def take_out(V: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """A copy in which a share of the entries is missing: NaN."""
    missing = numbers_of(seed, H_STREAM + 1).random(V.shape) < share
    return np.where(missing, np.float32(np.nan), V)


def _product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The product by one thread, so that as many threads as there are change no bit."""
    from dnmf.linalg.blas import one_thread

    with one_thread():
        made: np.ndarray = left @ right
    return made
