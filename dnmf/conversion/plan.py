"""The plan of a conversion: tasks that fit their memory. It reads nothing of V."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm

import numpy as np

from dnmf.config import Resources
from dnmf.conversion.limits import DEFAULT, ConversionLimits
from dnmf.conversion.rectangles import read_need, read_unit
from dnmf.errors import MemoryPlanError, OptionError
from dnmf.planning.memory import USABLE
from dnmf.sources.base import Source

__all__ = [
    "Budget",
    "DenseLayout",
    "Rectangles",
    "check_dtype",
    "dense_layout",
    "given_chunks",
    "plan_rectangles",
]

WORTH_IT = 0.7
"""Larger and fewer tasks must decode fewer chunks than this share."""


@dataclass(frozen=True)
class Budget:
    """The memory that one task may use.

    Attributes
    ----------
    task : int
        Bytes.
    limit : int or None
        The worker's limit that it comes from; None where there is none.
    threads : int
        Tasks that share the worker.
    limits : ConversionLimits
    firm : bool
        Whether what needs more is refused.
    """

    task: int
    limit: int | None
    threads: int
    limits: ConversionLimits = DEFAULT
    firm: bool = True

    @classmethod
    def of(
        cls, memory: int | None, resources: Resources, limits: ConversionLimits = DEFAULT
    ) -> Budget:
        """Return the budget under the smaller of ``memory`` and what the executor's workers have.

        Raises
        ------
        MemoryPlanError
            The limit is less than what the process needs before it does anything.
        """
        given = [limit for limit in (memory, resources.memory_limit) if limit is not None]
        limit = min(given, default=None)
        if limit is None:
            return cls(limits.unlimited, None, resources.threads, limits)
        task = (int(USABLE * limit) - limits.baseline) // resources.threads
        budget = cls(task, limit, resources.threads, limits)
        if task < limits.least:
            raise budget.refusal("a task", limits.least)
        return budget

    @property
    def read_bytes(self) -> int:
        """Bytes to decode or encode at once."""
        return min(self.limits.read_bytes, max(1, self.task // 16))

    def fits(self, need: int) -> bool:
        """Return whether a task may use ``need`` bytes."""
        return need <= self.task or not self.firm

    def refusal(self, what: str, need: int) -> MemoryPlanError:
        """Return the error for a need that exceeds this budget."""
        if self.limit is None:
            return MemoryPlanError(
                f"{what} needs {_mb(need)}, and {_mb(self.task)} are used where no limit is given; "
                f"give one that allows it (--memory {_mb(self._limit_for(need))})"
            )
        threads = f" x {self.threads} threads" if self.threads > 1 else ""
        fewer = ", or use fewer threads per worker (--threads 1)" if self.threads > 1 else ""
        return MemoryPlanError(
            f"{what} needs {_mb(need)}{threads} beside {_mb(self.limits.baseline)} for the process "
            f"itself, but only {USABLE:.0%} of the limit of {_mb(self.limit)} can be planned. Give "
            f"each worker {_mb(self._limit_for(need))} (--memory){fewer}"
        )

    def _limit_for(self, need: int) -> int:
        return int((need * self.threads + self.limits.baseline) / USABLE) + 1


def _mb(size: int) -> str:
    """Return bytes as ``--memory`` takes them, rounded up."""
    return f"{-(-size // 10**6)}MB"


def check_dtype(source: np.dtype, wanted: str | np.dtype | None) -> np.dtype:
    """Return the target's dtype, or refuse it.

    Raises
    ------
    OptionError
        It is not a real type.
    """
    try:
        dtype = np.dtype(source if wanted is None else wanted)
    except TypeError:
        raise OptionError(f"dtype is {wanted!r}; give one such as float32 or uint16") from None
    if dtype.kind not in "buif" or dtype.itemsize > 8:
        raise OptionError(f"dtype is {dtype}; give a real type such as float32 or uint16")
    return dtype.newbyteorder("=")


@dataclass(frozen=True)
class DenseLayout:
    """The dense array to write.

    Attributes
    ----------
    shape : (int, int)
    dtype : numpy.dtype
    chunks : (int, int)
    compressed : bool
        By Zarr's default codec.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    chunks: tuple[int, int]
    compressed: bool = True

    @property
    def chunk_bytes(self) -> int:
        return self.chunks[0] * self.chunks[1] * self.dtype.itemsize


def given_chunks(shape: tuple[int, int], chunks: Sequence[int]) -> tuple[int, int]:
    """Return rows and columns of a chunk from what the user gave.

    Raises
    ------
    OptionError
        ``chunks`` is impossible.
    """
    if len(chunks) not in (1, 2) or min(chunks) < 1:
        raise OptionError(f"chunks is {tuple(chunks)}; give rows and columns, as in 1000,5000")
    rows, columns = (*chunks, shape[1])[:2]
    return min(shape[0], int(rows)), min(shape[1], int(columns))


def dense_layout(
    source: Source, dtype: np.dtype, chunks: Sequence[int] | None, budget: Budget
) -> DenseLayout:
    """Lay out a dense target: shape, dtype and chunks.

    Without ``chunks`` these are whole rows of about 8 MiB. Where the source's chunks are so tall
    that whole rows of them exceed the budget, the target's chunks are as wide as some of the
    source's, so that every chunk is still decoded only once; a row of them is then at most one
    block of a fit (32 MiB).

    Raises
    ------
    OptionError
        ``chunks`` is impossible.
    """
    n, d = source.shape
    if chunks is not None:
        return DenseLayout((n, d), dtype, given_chunks((n, d), chunks))
    item = dtype.itemsize
    size = min(budget.limits.chunk, budget.task // 16)
    rows = min(n, max(1, size // (d * item)))
    columns = min(d, max(1, size // item))
    tall, wide = read_unit(source)
    if tall > rows and tall * d * item > (free := _free(source, budget)):
        rows = min(tall, max(1, min(budget.limits.chunk_row, budget.task // 4) // (d * item)))
        rows = next((r for r in range(rows, rows // 2, -1) if tall % r == 0), rows)
        fitting = free // (min(n, -(-tall // rows) * rows) * item)
        if wide <= fitting:
            columns = min(d, fitting // wide * wide)
    return DenseLayout((n, d), dtype, (rows, columns))


def _free(source: Source, budget: Budget) -> int:
    """Return the bytes of the target that a task may have in memory at once."""
    return budget.task - read_need(source, budget.read_bytes) - 2 * budget.read_bytes


@dataclass(frozen=True)
class Rectangles:
    """Tasks that each write some whole chunks of a dense target.

    Attributes
    ----------
    shape : (int, int)
        Of V.
    rows, columns : int
        Of a task's rectangle (the last ones may be smaller); multiples of the chunks, or all.
    decodes : int
        How many tasks at most decode the same chunk of the source.
    need : int
        Bytes that a task holds at its peak; 0 where it is not known.
    """

    shape: tuple[int, int]
    rows: int
    columns: int
    decodes: int = 1
    need: int = 0

    @property
    def count(self) -> int:
        return -(-self.shape[0] // self.rows) * -(-self.shape[1] // self.columns)

    @property
    def edges(self) -> tuple[list[int], list[int]]:
        """Where rectangles begin, then n and d."""
        (n, d), rows, columns = self.shape, self.rows, self.columns
        return [*range(0, n, rows), n], [*range(0, d, columns), d]

    def bounds(self, index: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return rows and columns (start, stop) of one task."""
        r, c = divmod(index, -(-self.shape[1] // self.columns))
        return (
            (r * self.rows, min(self.shape[0], (r + 1) * self.rows)),
            (c * self.columns, min(self.shape[1], (c + 1) * self.columns)),
        )


def plan_rectangles(source: Source, layout: DenseLayout, budget: Budget) -> Rectangles:
    """Choose the rectangle that decodes the fewest chunks twice.

    Raises
    ------
    MemoryPlanError
        One chunk of the source and one of the target do not fit together.
    """
    overhead = read_need(source, budget.read_bytes) + 2 * max(budget.read_bytes, layout.chunk_bytes)
    free = budget.task - overhead
    if not budget.fits(overhead + layout.chunk_bytes):
        unit = " x ".join(map(str, read_unit(source)))
        target, most = " x ".join(map(str, layout.chunks)), budget.limits.read_bytes
        need = read_need(source, most) + 2 * max(most, layout.chunk_bytes) + layout.chunk_bytes
        raise budget.refusal(f"to decode {unit} entries and write a chunk of {target}", need)
    free = max(free, layout.chunk_bytes)
    found = [
        rectangles
        for room in (min(free, budget.limits.rectangle), free)
        if (rectangles := _best(source, layout, room, overhead)) is not None
    ]
    reads, comfortable = found[0]
    fewer, largest = found[-1]
    return largest if fewer < WORTH_IT * reads else comfortable


def _best(
    source: Source, layout: DenseLayout, room: int, overhead: int
) -> tuple[int, Rectangles] | None:
    """Find the rectangles of at most ``room`` bytes that decode the fewest chunks, and how many.

    None where not even one chunk of the target is that small.
    """
    best: tuple[tuple[int, int], Rectangles] | None = None
    for rows, columns in _shapes(layout, read_unit(source), room):
        (tall, most_tall), (wide, most_wide) = (
            _decodes(length, unit, size)
            for length, unit, size in zip(
                layout.shape, read_unit(source), (rows, columns), strict=True
            )
        )
        need = overhead + rows * columns * layout.dtype.itemsize
        found = Rectangles(layout.shape, rows, columns, most_tall * most_wide, need)
        if best is None or (tall * wide, found.count) < best[0]:
            best = ((tall * wide, found.count), found)
    return None if best is None else (best[0][0], best[1])


def _shapes(layout: DenseLayout, grid: tuple[int, int], room: int) -> list[tuple[int, int]]:
    """Yield rectangles worth trying: of several widths, as tall as ``room`` allows."""
    (n, d), (chunk_rows, chunk_columns) = layout.shape, layout.chunks
    common = lcm(chunk_columns, grid[1])
    widths = {d} | {min(d, chunk_columns << i) for i in range(d.bit_length())}
    widths |= {min(d, common << i) for i in range(d.bit_length())}
    found = []
    for width in widths:
        tall = room // (width * layout.dtype.itemsize) // chunk_rows * chunk_rows
        aligned = tall // lcm(chunk_rows, grid[0]) * lcm(chunk_rows, grid[0])
        found += [(min(n, rows), width) for rows in {tall, aligned} if rows]
        if not tall and n * width * layout.dtype.itemsize <= room:
            found.append((n, width))
    return found


def _decodes(length: int, unit: int, size: int) -> tuple[int, int]:
    """Return how often stretches of ``size`` touch stretches of ``unit``: in all, at most."""
    starts = np.arange(0, length, unit, dtype=np.int64)
    last = np.minimum(starts + unit, length) - 1
    touched = last // size - starts // size + 1
    return int(touched.sum()), int(touched.max())
