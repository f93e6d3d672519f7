"""Matrices with planted factors, the same on every machine: fixed generators, fixed seeds.

Rows come in units; the numbers of a unit depend on the seed and its index alone, so that any
part can be made anywhere, and nothing larger than a unit is needed to write V to a disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

__all__ = [
    "H_STREAM",
    "UNIT",
    "Planted",
    "PlantedPoisson",
    "PlantedTopics",
    "Unit",
    "by_strongest",
    "numbers_of",
]

UNIT = 2000
H_STREAM = 1 << 32


@dataclass(frozen=True)
class Unit:
    """Rows of V and the component that is strongest in each."""

    V: Any
    strongest: np.ndarray


def numbers_of(seed: int, stream: int) -> np.random.Generator:
    """Random numbers that depend on these two alone."""
    return np.random.Generator(np.random.Philox(key=[seed, stream]))


@dataclass(frozen=True)
class Planted:
    """Shape and seed of a planted matrix.

    Attributes
    ----------
    n, d, k : int
    seed : int
    """

    n: int
    d: int
    k: int
    seed: int = 0

    @property
    def H(self) -> np.ndarray:
        """The planted column factor, (k, d) float64."""
        raise NotImplementedError

    @property
    def units(self) -> int:
        return -(-self.n // UNIT)

    def rows(self, unit: int) -> int:
        return min(UNIT, self.n - unit * UNIT)

    def unit(self, unit: int) -> Unit:
        raise NotImplementedError

    def all_units(self, threads: int = 2) -> Iterator[Unit]:
        """In order; a few are made ahead."""
        yield from in_order(self.unit, self.units, threads)

    def matrix(self) -> tuple[Any, np.ndarray]:
        """V in memory (float32, dense or CSR), and the strongest component of its rows."""
        raise NotImplementedError


def in_order(make: Callable[[int], Unit], count: int, threads: int) -> Iterator[Unit]:
    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(make, i) for i in range(min(threads + 1, count))]
        for index in range(count):
            unit = waiting.pop(0).result()
            if index + threads + 1 < count:
                waiting.append(pool.submit(make, index + threads + 1))
            yield unit


@dataclass(frozen=True)
class PlantedPoisson(Planted):
    """Dense counts, Poisson(W H) with W and H from gamma distributions of shape 1/2.

    Attributes
    ----------
    mean : float
        Of the entries.
    """

    mean: float = 1.0

    @cached_property
    def H(self) -> np.ndarray:
        """(k, d) float64."""
        return numbers_of(self.seed, H_STREAM).gamma(0.5, size=(self.k, self.d))

    def unit(self, unit: int) -> Unit:
        from dnmf.linalg.blas import one_thread

        generator = numbers_of(self.seed, unit)
        scale = self.mean / (0.5 * self.k)  # an entry of H has mean 1/2
        W = generator.gamma(0.5, 2 * scale, size=(self.rows(unit), self.k))
        with one_thread():
            rates = W @ self.H
        return Unit(generator.poisson(rates).astype(np.float32), np.argmax(W, axis=1))

    def matrix(self) -> tuple[np.ndarray, np.ndarray]:
        V = np.empty((self.n, self.d), np.float32)
        strongest = np.empty(self.n, np.int64)
        for index, unit in enumerate(self.all_units()):
            rows = slice(index * UNIT, index * UNIT + len(unit.V))
            V[rows], strongest[rows] = unit.V, unit.strongest
        return V, strongest


@dataclass(frozen=True)
class PlantedTopics(Planted):
    """Sparse counts: every row draws events from its mixture of k topics over the columns.

    Attributes
    ----------
    events : float
        Mean number of events of a row; repeated ones add up in one entry.
    sharpness : float
        Shape of the gamma distribution of H: the smaller, the fewer columns a topic has.
    power : float
        Columns are popular as rank to the minus this; 0 makes them alike.
    """

    events: float = 250.0
    sharpness: float = 0.1
    power: float = 0.0

    @cached_property
    def H(self) -> np.ndarray:
        """(k, d) float64, rows of sum 1."""
        generator = numbers_of(self.seed, H_STREAM)
        H = generator.gamma(self.sharpness, size=(self.k, self.d))
        H *= generator.permutation(np.arange(1, self.d + 1) ** -self.power)
        return H / H.sum(axis=1, keepdims=True)

    @cached_property
    def _cumulative(self) -> np.ndarray:
        sums = np.cumsum(self.H, axis=1)
        return sums / sums[:, -1:]

    def unit(self, unit: int) -> Unit:
        generator = numbers_of(self.seed, unit)
        m = self.rows(unit)
        length = generator.gamma(2.0, self.events / 2, size=(m, 1))
        W = generator.dirichlet(np.full(self.k, 0.15), size=m) * length
        counts = generator.poisson(W)
        parts = [self._draw(generator, counts[:, t], t) for t in range(self.k)]
        rows = np.concatenate([part[0] for part in parts])
        columns = np.concatenate([part[1] for part in parts])
        V = sp.coo_array((np.ones(len(rows), np.float32), (rows, columns)), shape=(m, self.d))
        return Unit(_canonical(V), np.argmax(W, axis=1))

    def _draw(
        self, generator: np.random.Generator, counts: np.ndarray, topic: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of every event of one topic."""
        rows = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        numbers = generator.random(len(rows))
        columns = np.searchsorted(self._cumulative[topic], numbers, side="right")
        return rows, np.minimum(columns, self.d - 1).astype(np.int32)

    def matrix(self) -> tuple[sp.csr_array, np.ndarray]:
        units = list(self.all_units())
        strongest = np.concatenate([unit.strongest for unit in units])
        return _canonical(sp.vstack([unit.V for unit in units])), strongest


def _canonical(V: Any) -> sp.csr_array:
    """CSR with sorted, unique int32 column indices."""
    csr = sp.csr_array(V)
    csr.sum_duplicates()
    csr.sort_indices()
    csr.indices = csr.indices.astype(np.int32, copy=False)
    return csr


def by_strongest(V: Any, strongest: np.ndarray) -> Any:
    """The same rows, sorted by their strongest component: whole blocks are then alike."""
    return V[np.argsort(strongest, kind="stable")]
