"""Writing a dense Zarr array from any source, one rectangle of whole chunks per task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from dnmf.conversion.plan import DenseLayout, Rectangles
from dnmf.conversion.rectangles import read_rectangle
from dnmf.conversion.target import open_target, writing
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
        dimension_names=("row", "column"),
        attributes={"encoding-type": "array", "encoding-version": "0.2.0"},
    )


@dataclass
class DenseWork(Work):
    """One leaf per rectangle; the only piece counts the bytes written.

    Attributes
    ----------
    source : Source
    path : str
        Of the array that `create_dense` made.
    layout : DenseLayout
    tasks : Rectangles
    piece : int
        Bytes to decode and encode at a time.
    """

    source: Source
    path: str
    layout: DenseLayout
    tasks: Rectangles
    piece: int

    def __post_init__(self) -> None:
        self.segments = self.tasks.count

    def leaf(self, segment: int, loaded: Any = None) -> list[Any]:
        """Fill one rectangle."""
        rows, columns = self.tasks.bounds(segment)
        out = np.empty((rows[1] - rows[0], columns[1] - columns[0]), self.layout.dtype)
        read_rectangle(self.source, rows, columns, out, self.piece)
        with writing(self.path):
            self._write(out, rows[0], columns[0])
        return [out.nbytes]

    def _write(self, out: np.ndarray, row: int, column: int) -> None:
        target = open_target(self.path)
        tall, wide = self._written_at_once()
        for a in range(0, out.shape[0], tall):
            for p in range(0, out.shape[1], wide):
                # A copy: Zarr's loop may hold what it wrote for a moment longer, and with a view
                # all of `out`, while the next task on this thread already allocates its own.
                part = out[a : a + tall, p : p + wide].copy()
                r, c = row + a, column + p
                target[r : r + part.shape[0], c : c + part.shape[1]] = part

    def _written_at_once(self) -> tuple[int, int]:
        """Rows and columns of whole chunks, about one piece of them."""
        chunk_rows, chunk_columns = self.layout.chunks
        chunks = max(1, self.piece // self.layout.chunk_bytes)
        wide = min(chunks, -(-self.layout.shape[1] // chunk_columns))
        return chunk_rows * max(1, chunks // wide), chunk_columns * wide

    def combine(self, part: int, values: Sequence[int]) -> int:
        return sum(values)
