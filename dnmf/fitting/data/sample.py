"""The resident sample: which rows it has, where they are stored, and those on which starts race."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dnmf.fitting.data.context import Context
from dnmf.fitting.data.reading import read_segment
from dnmf.fitting.record import Scan
from dnmf.linalg.counter import uniform
from dnmf.linalg.matrix import Matrix, arrays_of, join_rows, matrix_of
from dnmf.linalg.streams import Stream
from dnmf.runs.base import Refs, RunStore

__all__ = [
    "RaceRows",
    "draw",
    "get_rows",
    "put_rows",
    "race_rows",
    "sample_numbers",
    "sample_segments",
    "sampled_rows",
    "stored_rows",
]


def draw(context: Context, start: int, stop: int) -> np.ndarray:
    """Return which of the rows ``start`` to ``stop`` are in the sample, as bool.

    The same rows for every seed: models of several seeds share the sample, and each is what a
    fit of it alone would be.
    """
    return sample_numbers(start, stop) < context.plan.sample


def sample_numbers(start: int, stop: int) -> np.ndarray:
    return uniform(0, Stream.SAMPLE, np.arange(start, stop), np.zeros(1, np.int64))[:, 0]


def put_rows(store: RunStore, name: str, V: Matrix) -> Refs:
    """Store rows; three arrays for CSR, and a fourth for its weights."""
    if isinstance(V, np.ndarray):
        return (store.put(name, V),)
    names = ("data", "indices", "indptr", "weights")
    arrays = zip(names, arrays_of(V), strict=False)
    return tuple(store.put(f"{name}-{what}", array) for what, array in arrays)


def get_rows(store: RunStore, stored: Refs, d: int) -> Matrix:
    """Read what `put_rows` stored."""
    return matrix_of([store.get(ref) for ref in stored], d)


def stored_rows(context: Context, scan: Scan, segment: int) -> Matrix:
    """Read a segment's rows of the sample, in the columns that steps of the context go over."""
    return context.pick(get_rows(context.store, scan.sample[segment], context.plan.all_columns))


def sampled_rows(context: Context, scan: Scan, segment: int) -> Matrix:
    """Get a segment's rows of the sample: stored, or picked again where V is in this memory."""
    if scan.sample[segment]:
        return stored_rows(context, scan, segment)
    parts = []
    for start, V, *_ in read_segment(context, segment, None):
        picked = draw(context, start, start + V.shape[0])
        parts.append(V[np.flatnonzero(picked)])
    return join_rows(parts)


def sample_segments(scan: Scan, nbytes: int) -> list[int]:
    """Join what consecutive segments of V have in the sample to segments of the sample.

    Parameters
    ----------
    scan : Scan
    nbytes : int
        A segment of the sample ends with the segment of V with which it has so many bytes.

    Returns
    -------
    list of int
        First segment of V of each, then their number: a function of the scan and the plan alone.
    """
    row_bytes = scan.sample_bytes / max(sum(scan.sample_rows), 1)
    starts, size = [0], 0.0
    for segment, rows in enumerate(scan.sample_rows):
        if size >= nbytes:
            starts.append(segment)
            size = 0.0
        size += rows * row_bytes
    return [*starts, len(scan.sample_rows)]


@dataclass(frozen=True)
class RaceRows:
    """Rows of the sample on which starts race.

    Attributes
    ----------
    V : (m, d) array or CSR
    order : (m,) float64 array
        The rows' random numbers over the sample's bound: below a share are the rows of that share.
    numbers : (m,) int64 array
        Numbers of the rows in V.
    """

    V: Matrix
    order: np.ndarray
    numbers: np.ndarray

    def part(self, share: float, columns: np.ndarray | None, rows: np.ndarray | None) -> Matrix:
        """Return the rows of a smaller share, without ``rows``, and only ``columns``, if given."""
        racing = self.order < share
        if rows is not None:
            racing &= ~rows
        V = self.V if racing.all() else self.V[np.flatnonzero(racing)]
        return V if columns is None else V[:, np.flatnonzero(columns)]


def race_rows(context: Context, scan: Scan, share: float) -> RaceRows:
    """Return the rows of the sample whose random number is below ``share`` of its bound."""
    plan, parts, orders, numbers = context.plan, [], [], []
    for segment, (first, last) in enumerate(pairwise(plan.row_starts)):
        if not scan.sample_rows[segment]:
            continue
        drawn = sample_numbers(first, last) / plan.sample
        of_rows = first + np.flatnonzero(drawn < 1)
        drawn = drawn[drawn < 1]
        racing = drawn < share
        if racing.any():
            parts.append(sampled_rows(context, scan, segment)[np.flatnonzero(racing)])
            orders.append(drawn[racing])
            numbers.append(of_rows[racing])
    return RaceRows(join_rows(parts), np.concatenate(orders), np.concatenate(numbers))
