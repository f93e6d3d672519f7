"""The rows that a step goes over: all of V, or those of the resident sample."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from dnmf.fitting.data.context import Context, Loaded, read_segment, refs
from dnmf.linalg.counter import uniform
from dnmf.linalg.matrix import Matrix, arrays_of, bytes_of, join_rows, matrix_of
from dnmf.linalg.streams import Stream
from dnmf.planning.memory import GROUP_BYTES
from dnmf.runs.base import RunStore
from dnmf.sources.base import Block

__all__ = [
    "AllRows",
    "RaceRows",
    "RowSet",
    "SampleRows",
    "draw",
    "moved",
    "open_rows",
    "put_rows",
    "race_rows",
    "start_profile",
]


class RowSet(Protocol):
    """Rows in a fixed order, cut into segments.

    Attributes
    ----------
    starts : list of int
        First row of every segment in the set's own numbering, then the number of rows.
    sumsq : float
        Sum of squares of all entries.
    """

    starts: list[int]
    sumsq: float

    def columns(self) -> np.ndarray:
        """Sums and sums of squares of the columns, (2, d) float64."""
        ...

    def sums(self, segment: int) -> np.ndarray:
        """Sums and sums of squares of a segment's rows, (2, rows) float64."""
        ...

    def numbers(self, segment: int) -> np.ndarray:
        """Global numbers of a segment's rows, (rows,) int64."""
        ...

    def blocks(self, segment: int, loaded: Loaded | None) -> Iterator[tuple[Block, int]]:
        """The segment's blocks, and the bytes of V that were read for each.

        ``loaded`` is the segment, where an executor kept it.
        """
        ...


def open_rows(context: Context, scan: dict[str, Any], rows: str) -> RowSet:
    """The row set of this name."""
    if rows == "all":
        return AllRows(context, scan)
    return SampleRows(context, scan)


def draw(context: Context, start: int, stop: int) -> np.ndarray:
    """Which of the rows ``start`` to ``stop`` are in the sample: bool, by row alone.

    The same rows for every seed: models of several seeds share the sample, and each is what a
    fit of it alone would be.
    """
    return _numbers(start, stop) < context.plan.sample


def _numbers(start: int, stop: int) -> np.ndarray:
    return uniform(0, Stream.SAMPLE, np.arange(start, stop), np.zeros(1, np.int64))[:, 0]


def put_rows(store: RunStore, name: str, V: Matrix) -> list[list[str]]:
    """Store rows; three arrays for CSR, and a fourth for its weights."""
    if isinstance(V, np.ndarray):
        return [store.put(name, V).to_json()]
    parts = zip(("data", "indices", "indptr", "weights"), arrays_of(V), strict=False)
    return [store.put(f"{name}-{part}", array).to_json() for part, array in parts]


def get_rows(store: RunStore, pieces: list[list[str]], d: int) -> Matrix:
    """What `put_rows` stored."""
    return matrix_of([store.get(ref) for ref in refs(pieces)], d)


def sample_piece(context: Context, scan: dict[str, Any], segment: int) -> Matrix:
    """A segment's rows of the sample: stored, or picked again where V is in this memory."""
    if scan["sample"][segment]:
        return get_rows(context.store, scan["sample"][segment], context.plan.shape[1])
    parts = []
    for block, _, _ in read_segment(context, segment, None):
        kept = draw(context, block.start, block.start + block.V.shape[0])
        parts.append(block.V[np.flatnonzero(kept)])
    return join_rows(parts)


def sample_groups(scan: dict[str, Any], row_bytes: float) -> list[int]:
    """Group consecutive segments' pieces of the sample: first segment of each group, then the end.

    A function of the scan alone, so that it is the same for every cluster.
    """
    groups, size = [0], 0.0
    for segment, rows in enumerate(scan["sample_rows"]):
        if size >= GROUP_BYTES:
            groups.append(segment)
            size = 0.0
        size += rows * row_bytes
    return [*groups, len(scan["sample_rows"])]


class AllRows:
    """All rows of V, read from the source, verified against the scan's checksums."""

    def __init__(self, context: Context, scan: dict[str, Any]) -> None:
        self.context = context
        self.scan = scan
        self.starts = context.plan.row_starts
        self.sumsq = float(scan["sumsq"])
        self._checksums: np.ndarray | None = None

    def columns(self) -> np.ndarray:
        return self.context.store.get(refs([self.scan["columns"]])[0])[:2]

    def sums(self, segment: int) -> np.ndarray:
        return self.context.store.get(refs([self.scan["rows"][segment]])[0])

    def numbers(self, segment: int) -> np.ndarray:
        return np.arange(self.starts[segment], self.starts[segment + 1])

    def blocks(self, segment: int, loaded: Loaded | None) -> Iterator[tuple[Block, int]]:
        """From memory, from the sample where that holds every row, else from the source.

        The same blocks each time.
        """
        if loaded is None and self.context.plan.sample >= 1 and self.scan["sample"][segment]:
            yield from self._resident(segment)
            return
        if self._checksums is None:
            self._checksums = self.context.store.get(refs([self.scan["checksums"]])[0])
        for block, nbytes, _ in read_segment(self.context, segment, self._checksums, loaded):
            yield block, nbytes if loaded is None else 0
            del block

    def _resident(self, segment: int) -> Iterator[tuple[Block, int]]:
        plan = self.context.plan
        rows = get_rows(self.context.store, self.scan["sample"][segment], plan.shape[1])
        starts = plan.segment_block_starts(segment)
        for a, b in pairwise(starts):
            yield Block(rows[a - starts[0] : b - starts[0]], a), 0


class SampleRows:
    """The rows that the scan kept, from the run; reads nothing of V."""

    def __init__(self, context: Context, scan: dict[str, Any]) -> None:
        self.context = context
        self.scan = scan
        counts = scan["sample_rows"]
        row_bytes = scan["sample_bytes"] / max(sum(counts), 1)
        self.groups = sample_groups(scan, row_bytes)
        self.starts = [sum(counts[:first]) for first in self.groups]
        self.sumsq = float(scan["sample_sumsq"])

    def columns(self) -> np.ndarray:
        return self.context.store.get(refs([self.scan["columns"]])[0])[2:4]

    def sums(self, segment: int) -> np.ndarray:
        return np.concatenate([self._sums(s) for s in self._members(segment)], axis=1)

    def _members(self, group: int) -> range:
        return range(self.groups[group], self.groups[group + 1])

    def _sums(self, segment: int) -> np.ndarray:
        first, last = self.context.plan.row_starts[segment : segment + 2]
        whole = self.context.store.get(refs([self.scan["rows"][segment]])[0])
        return whole[:, draw(self.context, first, last)]

    def numbers(self, segment: int) -> np.ndarray:
        starts = self.context.plan.row_starts
        drawn = [
            starts[s] + np.flatnonzero(draw(self.context, starts[s], starts[s + 1]))
            for s in self._members(segment)
        ]
        return np.concatenate(drawn)

    def blocks(self, segment: int, loaded: Loaded | None) -> Iterator[tuple[Block, int]]:
        """Pieces joined to blocks of at least the planned size, so that products are not thin."""
        start = self.starts[segment]
        waiting: list[Matrix] = []
        size = 0
        for member in self._members(segment):
            if not self.scan["sample_rows"][member]:
                continue
            waiting.append(sample_piece(self.context, self.scan, member))
            size += bytes_of(waiting[-1])
            if size >= self.context.plan.config.block_size:
                block = Block(join_rows(waiting), start)
                start += block.V.shape[0]
                waiting, size = [], 0
                yield block, 0
        if waiting:
            yield Block(join_rows(waiting), start), 0


@dataclass(frozen=True)
class RaceRows:
    """Rows of the sample on which starts race.

    Attributes
    ----------
    V : (m, d) array or CSR
    order : (m,) float64 array
        The rows' random numbers over the sample's bound: below a share are the rows of that share.
    numbers : (m,) int64 array
        Their global numbers.
    """

    V: Matrix
    order: np.ndarray
    numbers: np.ndarray

    def part(self, share: float, columns: np.ndarray | None, rows: np.ndarray | None) -> Matrix:
        """Those of a smaller share; of some columns, without some rows, where masks are given."""
        kept = self.order < share
        if rows is not None:
            kept &= ~rows
        V = self.V if kept.all() else self.V[np.flatnonzero(kept)]
        return V if columns is None else V[:, np.flatnonzero(columns)]


def race_rows(context: Context, scan: dict[str, Any], share: float) -> RaceRows:
    """Rows of the sample whose number is below ``share`` of the sample's bound: nested in it."""
    plan, parts, orders, numbers = context.plan, [], [], []
    for segment, (first, last) in enumerate(pairwise(plan.row_starts)):
        if not scan["sample_rows"][segment]:
            continue
        drawn = _numbers(first, last) / plan.sample
        of_rows = first + np.flatnonzero(drawn < 1)
        drawn = drawn[drawn < 1]
        keep = drawn < share
        if keep.any():
            parts.append(sample_piece(context, scan, segment)[np.flatnonzero(keep)])
            orders.append(drawn[keep])
            numbers.append(of_rows[keep])
    return RaceRows(join_rows(parts), np.concatenate(orders), np.concatenate(numbers))


def moved(first: tuple[int, int, float] | None, start: int) -> tuple[int, int, float] | None:
    """Where an entry of a block is in V."""
    return None if first is None else (start + first[0], first[1], first[2])


def start_profile(columns: np.ndarray) -> np.ndarray:
    """The row that random starts vary where entries have weights: means of what was observed.

    Of 20 starts each on five such problems 32 found the best known optimum, 17 from weighted
    means.

    Parameters
    ----------
    columns : (r, d) array
        As the scan stores them: the last two rows are `column_counts`.
    """
    sums, counts = columns[-2:]
    return np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
