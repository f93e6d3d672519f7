"""Writing a dense Zarr array from any source, one rectangle of whole chunks per task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from dnmf.conversion.plan import DenseLayout, Rectangles
from dnmf.conversion.rectangles import cast_into, read_rectangle
from dnmf.conversion.target import open_target, writing
from dnmf.faultpoints import reach
from dnmf.linalg.matrix import Matrix
from dnmf.sources.base import Source
from dnmf.steps.work import Work

__all__ = ["DenseWork", "create_dense"]


def create_dense(path: str, layout: DenseLayout) -> None:
    """Make the empty array."""
    zarr.create_array(
        path,
        shape=layout.shape,
        chunks=layout.chunks,
        dtype=layout.dtype,
        fill_value=0,
        compressors="auto" if layout.compressed else None,
        dimension_names=("row", "column"),
        attributes={"encoding-type": "array", "encoding-version": "0.2.0"},
    )


@dataclass(frozen=True)
class DenseWriter:
    """A function that stores rectangles of whole chunks.

    Attributes
    ----------
    path : str
        Of the array that `create_dense` made.
    layout : DenseLayout
    read_bytes : int
        Bytes to encode at once.
    """

    path: str
    layout: DenseLayout
    read_bytes: int

    def put(self, row: int, column: int, block: Matrix, own: bool = False) -> int:
        """Store a rectangle that begins at ``row`` and ``column``; returns its bytes.

        ``own`` says that the caller lets go of the block when this returns.
        """
        values = block if isinstance(block, np.ndarray) else block.toarray()
        out = values
        if values.dtype != self.layout.dtype:
            out = np.empty(values.shape, self.layout.dtype)
            cast_into(out, values, row, column)
        with writing(self.path):
            self._write(out, row, column, own)
        return out.nbytes

    def _write(self, out: np.ndarray, row: int, column: int, own: bool) -> None:
        target = open_target(self.path)
        tall, wide = self._written_at_once()
        for a in range(0, out.shape[0], tall):
            for p in range(0, out.shape[1], wide):
                few = out[a : a + tall, p : p + wide]
                if own:
                    # Zarr's loop may hold what it wrote for a moment longer, and with a view all
                    # of `out`, while the next task on this thread already allocates its own.
                    few = few.copy()
                r, c = row + a, column + p
                target[r : r + few.shape[0], c : c + few.shape[1]] = few
                reach("chunk-written", row=r, column=c)

    def _written_at_once(self) -> tuple[int, int]:
        """Yield rows and columns of whole chunks, about ``read_bytes`` of them."""
        chunk_rows, chunk_columns = self.layout.chunks
        chunks = max(1, self.read_bytes // self.layout.chunk_bytes)
        wide = min(chunks, -(-self.layout.shape[1] // chunk_columns))
        return chunk_rows * max(1, chunks // wide), chunk_columns * wide


@dataclass
class DenseWork(Work):
    """A work of one leaf per rectangle; its only part counts the bytes written.

    Attributes
    ----------
    source : Source
    writer : DenseWriter
    tasks : Rectangles
    """

    source: Source
    writer: DenseWriter
    tasks: Rectangles

    def __post_init__(self) -> None:
        self.segments = self.tasks.count

    def leaf(self, segment: int, loaded: Any = None) -> list[Any]:
        """Fill one rectangle."""
        rows, columns = self.tasks.bounds(segment)
        out = np.empty((rows[1] - rows[0], columns[1] - columns[0]), self.writer.layout.dtype)
        read_rectangle(self.source, rows, columns, out, self.writer.read_bytes)
        return [self.writer.put(rows[0], columns[0], out, own=True)]

    def combine(self, part: int, values: Sequence[int]) -> int:
        return sum(values)
