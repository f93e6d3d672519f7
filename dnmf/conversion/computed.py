"""Sources that tasks compute, such as Dask arrays: work on them is done where they are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeGuard

import numpy as np

from dnmf.conversion.csr_bands import cut_rows
from dnmf.conversion.grid import DenseGrid, dense_grid, grid_of_chunks
from dnmf.conversion.plan import Budget
from dnmf.linalg.matrix import Matrix
from dnmf.sources.base import Source

__all__ = ["Computed", "band_edges", "computed_grid", "is_computed"]


class Computed(Protocol):
    """A source such as a Dask array, whose chunks are made by tasks of a graph."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of V."""
        ...

    @property
    def is_sparse(self) -> bool:
        """Whether its chunks are sparse."""
        ...

    @property
    def chunk_rows(self) -> np.ndarray:
        """Where each row of chunks begins, then n."""
        ...

    @property
    def largest_chunk(self) -> tuple[int, int]:
        """Most rows and most columns of a chunk."""
        ...

    def read_blocks(self, starts: Sequence[int]) -> Iterator[Matrix]:
        """Compute blocks of rows, in order."""
        ...

    def apply(
        self,
        function: Callable[[int, int, Matrix], Any],
        edges: tuple[Sequence[int], Sequence[int]],
        limit: int | None,
        threads: int,
        client: Any,
        on_done: Callable[[int], None],
    ) -> list[Any]:
        """Call a function with every rectangle of a grid, where that is computed."""
        ...


def is_computed(source: Source | None) -> TypeGuard[Computed]:
    """Say whether a source is of this kind; asks for nothing that would have to be counted."""
    return source is not None and source.lazy


def computed_grid(
    source: Computed, item: int, chunks: tuple[int, int] | None, budget: Budget
) -> DenseGrid:
    """Choose chunks of a dense target (those given, or what a fit reads well) and its tasks.

    Raises
    ------
    MemoryPlanError
        Whole rows of chunks do not fit, and sparse rows are not cut.
    """
    (n, d), (tall, wide) = source.shape, source.largest_chunk
    source_chunk = (tall, d if source.is_sparse else wide)
    if chunks is None:
        grid = dense_grid((n, d), item, source_chunk, budget.limits)
        if not source.is_sparse:
            return grid
        chunks = grid.chunks
    grid = grid_of_chunks(
        chunks, item, source_chunk, min(budget.limits.rectangle, budget.task // 3)
    )
    if not source.is_sparse:
        return grid
    rows = grid.unit[0]
    need = 2 * min(n, rows) * d * item
    if not budget.fits(need):
        raise budget.refusal(f"to write {min(n, rows):,} whole rows of {d:,} columns", need)
    return DenseGrid(chunks, (rows, d))


def band_edges(source: Computed, item: int, budget: Budget) -> tuple[list[int], list[int]]:
    """Return the edges of the rows of chunks that become CSR at once, and of all columns.

    Dense ones are cut where many columns make them too large for a task.
    """
    d = source.shape[1]
    starts: list[int] = source.chunk_rows.tolist()
    if source.is_sparse:
        step = -(-(len(starts) - 1) // budget.limits.most_bands)
        return [*starts[:-1:step], starts[-1]], [0, d]
    room = min(budget.limits.rectangle, budget.task // 3)
    return cut_rows(starts, max(1, room // (d * item))), [0, d]
