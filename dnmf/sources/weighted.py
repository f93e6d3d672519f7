"""V with a weight for every entry: two sources, each with a chunk grid of its own, read as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from dnmf.errors import InputError, OptionError
from dnmf.labels import Labels, check_alike
from dnmf.linalg.matrix import WeightedCSR
from dnmf.linalg.weighted import weigh
from dnmf.sources.base import INDEX_BYTES, Source
from dnmf.sources.missing import Missing

__all__ = ["WeightedSource"]


class WeightedSource(Source):
    """V with weights as blocks of `WeightedCSR`, the entries whose weight is not 0.

    Parameters
    ----------
    V, weights : Source
        Sources of one shape.
    missing : {None, "nan", "zeros"}
        Entries of V that are unobserved besides those of weight 0.

    Raises
    ------
    InputError
        The shapes differ.
    OptionError
        V is sparse, the weights are dense, and what V does not store counts as zero.
    """

    kind = "weighted"
    is_sparse = True

    def __init__(self, V: Source, weights: Source, missing: str | None = None) -> None:
        if V.shape != weights.shape:
            raise InputError(
                f"V is {V.shape[0]} x {V.shape[1]}, but its weights are "
                f"{weights.shape[0]} x {weights.shape[1]}; every entry of V needs a weight"
            )
        if V.is_sparse and not weights.is_sparse and missing != "zeros":
            raise OptionError(
                f"V is sparse ({V.describe()}), but its weights are dense ({weights.describe()}): "
                f"every zero of V would be stored. Give the weights sparse (what they do not store "
                f"is unobserved), or say missing='zeros' if V's zeros are unobserved"
            )
        super().__init__(V.shape, V.dtype)
        for axis, name in enumerate(("rows", "columns")):
            if (named := weights.labels(axis)) is not None:
                check_alike(named, V.labels(axis), "weights", name)
        self.V, self.weights, self.missing = V, weights, missing

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> WeightedSource:
        from dnmf.sources import from_spec

        return cls(from_spec(spec["V"]), from_spec(spec["weights"]), spec["missing"])

    @property
    def parts(self) -> tuple[Source, ...]:
        return self.V, self.weights

    def labels(self, axis: int) -> Labels | None:
        return self.V.labels(axis)

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    @property
    def persistent(self) -> bool:
        return all(part.persistent for part in self.parts)

    @property
    def in_memory(self) -> bool:
        return all(part.in_memory for part in self.parts)

    @property
    def lazy(self) -> bool:
        return any(part.lazy for part in self.parts)

    def paths(self) -> list[str]:
        return [path for part in self.parts for path in part.paths()]

    @property
    def stored_entry(self) -> int:
        """Fewest bytes that an observed entry takes as stored."""
        if not any(part.is_sparse for part in self.parts):
            return sum(part.dtype.itemsize for part in self.parts)
        return min(part.dtype.itemsize + INDEX_BYTES for part in self.parts if part.is_sparse)

    def growth(self, itemsize: int, missing: str | None) -> float:
        return (2 * itemsize + INDEX_BYTES) / self.stored_entry

    @property
    def tallest(self) -> int:
        # of the weights; blocks are cut by the chunks of V
        if self.weights.is_sparse:  # which can be read from any row on
            return 0
        return max(self.weights.block_bytes(a, b) for a, b in pairwise(_finest(self.weights)))

    def block_starts(self, block_size: int, itemsize: int, max_rows: int) -> np.ndarray:
        # where chunk-rows of both end, if such blocks fit
        size = max(1, block_size * itemsize // (2 * itemsize + INDEX_BYTES))
        if self.V.is_sparse:
            both = [x.block_starts(size, itemsize, max_rows) for x in (self.V, self.weights)]
            return np.union1d(*both) if self.weights.is_sparse else both[0]
        if self.weights.is_sparse:
            return self.V.block_starts(size, itemsize, max_rows)
        fine, common = _finest(self.V), np.intersect1d(_finest(self.V), _finest(self.weights))
        most = max(1, min(max_rows, size // (itemsize * self.shape[1])))
        starts = [0]
        while starts[-1] < self.shape[0]:
            starts.append(_next_cut(starts[-1], most, common, fine))
        return np.array(starts, np.int64)

    def segment_cuts(self, starts: Sequence[int]) -> list[int]:
        if self.weights.is_sparse:
            return super().segment_cuts(starts)
        # so that no chunk of weights is read twice
        return np.flatnonzero(np.isin(starts, _finest(self.weights))).tolist()

    def block_bytes(self, start: int, stop: int) -> int:
        return self.V.block_bytes(start, stop) + self.weights.block_bytes(start, stop)

    def read_overhead(self, start: int, stop: int, alone: bool = False) -> int:
        # of both, and the entries being picked, then cast
        entries = self.block_bytes(start, stop) // self.stored_entry
        item = max(4, self.V.dtype.itemsize, self.weights.dtype.itemsize)
        parts = self.V.read_overhead(start, stop) + self.weights.read_overhead(start, stop)
        return parts + entries * (2 * (2 * item + INDEX_BYTES) + 1)

    def read_blocks(self, starts: Sequence[int]) -> Iterator[WeightedCSR]:
        blocks, weights = self.V.read_blocks(starts), self.weights.read_blocks(starts)
        for _ in range(len(starts) - 1):
            yield weigh(next(blocks), next(weights), self.missing)

    def unstored(self, start: int, stop: int, V: Any, begun: bool = False) -> list[str]:
        of_V, of_weights = self._unstored(start, stop, V, begun)
        return [*of_V, *(f"{name} of the weights" for name in of_weights)]

    def missing_chunks(self, start: int, stop: int, V: Any) -> Missing:
        return Missing.of(*self._unstored(start, stop, V, True))

    def _unstored(self, start: int, stop: int, V: Any, begun: bool) -> tuple[list[str], list[str]]:
        """Name missing chunks of V, where they have observed entries at all, and of the weights."""
        if V is None:
            both = (part.unstored(start, stop, None, begun) for part in self.parts)
            return next(both), next(both)
        values = None if self.V.is_sparse else _dense(self.V, V, V.data)
        names = self.V.unstored(start, stop, values, begun)
        if names and values is not None and self.missing is None:
            # entries of weight 0 may be anything; those that are unobserved may be what was lost
            other = np.full(len(V.data), float(_fill(self.V) == 0), V.dtype)
            values = _dense(self.V, V, other)
            unseen = set(self.V.unstored(start, stop, values, begun))
            names = [name for name in names if name not in unseen]
        plain = not self.weights.is_sparse and _fill(self.weights) == 0
        values = _dense(self.weights, V, V.weights) if plain else None
        return names, self.weights.unstored(start, stop, values, begun)

    def transposed(self) -> Source | None:
        V, weights = self.V.transposed(), self.weights.transposed()
        return None if V is None or weights is None else WeightedSource(V, weights, self.missing)

    def filled_columns(self, times: int) -> Source | None:
        """Leave out the columns in which neither V nor its weights have entries."""
        V, weights = (part.filled_columns(times) for part in self.parts)
        if V is not None and weights is not None and V.empty_rows and weights.empty_rows:
            rows = np.union1d(V.numbers(), weights.numbers())
            if times * rows.size <= self.shape[1]:
                return WeightedSource(V.with_rows(rows), weights.with_rows(rows), self.missing)
        return self.transposed()

    @property
    def empty_rows(self) -> int:
        return self.V.empty_rows

    @property
    def opening_bytes(self) -> int:
        return max(part.opening_bytes for part in self.parts)

    def numbers(self) -> np.ndarray:
        return self.V.numbers()

    def number(self, row: int) -> int:
        return self.V.number(row)

    def describe(self) -> str:
        return f"{self.V.describe()} with weights {self.weights.describe()}"

    def metadata(self) -> dict[str, Any]:
        own = {"kind": self.kind, "weights": self.weights.metadata(), "missing": self.missing}
        return {**own, "V": self.V.metadata(), "chunks": self.V.metadata().get("chunks")}

    def spec(self) -> Mapping[str, Any]:
        parts = {"V": dict(self.V.spec()), "weights": dict(self.weights.spec())}
        return {"kind": self.kind, **parts, "missing": self.missing}


def _fill(source: Source) -> Any:
    """Return what chunks of a dense source read as that are not stored."""
    return next((array.fill for array in source.stored_arrays), 0)


def _dense(source: Source, block: WeightedCSR, values: np.ndarray) -> np.ndarray:
    """Return values of the observed entries as a dense array, with the fill value elsewhere."""
    fill = _fill(source)
    out = np.full(block.shape, fill, np.result_type(values.dtype, np.min_scalar_type(fill)))
    out[np.repeat(np.arange(block.shape[0]), np.diff(block.indptr)), block.indices] = values
    return out


def _finest(source: Source) -> np.ndarray:
    """Return the smallest blocks that a source can be read in."""
    return source.block_starts(1, max(1, source.dtype.itemsize), 1)


def _next_cut(start: int, most: int, common: np.ndarray, fine: np.ndarray) -> int:
    """Return the last good cut within ``most`` rows, else the first one after them."""
    for cuts in (common, fine):
        last = int(cuts[np.searchsorted(cuts, start + most, side="right") - 1])
        if last > start:
            return last
    return int(fine[np.searchsorted(fine, start, side="right")])
