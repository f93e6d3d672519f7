"""The second step of writing CSR: whole chunks of the target, gathered from the stored bands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from dnmf.conversion.csr_bands import CsrLayout
from dnmf.conversion.limits import ConversionLimits
from dnmf.conversion.target import open_target, writing
from dnmf.sources.stacked import StoredBand
from dnmf.steps.work import Work

__all__ = ["AssembleWork", "create_csr"]

ARRAYS = ("data", "indices", "indptr")


def create_csr(path: str, layout: CsrLayout, entries: int) -> None:
    """Make the empty group, laid out as AnnData does."""
    group = zarr.create_group(
        path,
        attributes={
            "encoding-type": "csr_matrix",
            "encoding-version": "0.1.0",
            "shape": list(layout.shape),
        },
        zarr_format=3,
    )
    lengths = (entries, entries, layout.shape[0] + 1)
    dtypes = (layout.dtype, layout.index, np.dtype(np.int64))
    for name, length, dtype in zip(ARRAYS, lengths, dtypes, strict=True):
        chunks = (max(1, min(length, layout.entries)),)
        group.create_array(name, shape=(length,), chunks=chunks, dtype=dtype)


@dataclass
class AssembleWork(Work):
    """The second step: every task gathers whole chunks of the target from the stored bands.

    Nothing is reduced.

    Attributes
    ----------
    stack, path : str
        The group of the stored bands, and the target.
    layout : CsrLayout
    bands : list of StoredBand
        In the order of their rows.
    limits : ConversionLimits
    """

    stack: str
    path: str
    layout: CsrLayout
    bands: list[StoredBand]
    limits: ConversionLimits

    def __post_init__(self) -> None:
        self.segments = -(-self._chunks() // self._chunks_per_task())

    @property
    def entries(self) -> int:
        """Stored entries."""
        return sum(band.entries for band in self.bands)

    def _chunks(self) -> int:
        """Chunks along the longer of data and indptr."""
        longest = max(self.entries, self.layout.shape[0] + 1)
        return max(1, -(-longest // self.layout.entries))

    def _chunks_per_task(self) -> int:
        most = -(-self._chunks() // self.limits.most_tasks)
        return max(1, most, self.limits.task_bytes // (self.layout.entries * self.layout.per_entry))

    def leaf(self, segment: int, loaded: Any = None) -> list[Any]:
        """Write some chunks of each of the three arrays."""
        chunk, per_task = self.layout.entries, self._chunks_per_task()
        step = chunk * max(
            1, self.limits.entries // chunk
        )  # small chunks are written many at a time
        with writing(self.path):
            for name in ARRAYS:
                target = open_target(f"{self.path}/{name}")
                starts, base = self._offsets(name)
                stop = min(target.shape[0], (segment + 1) * per_task * chunk)
                for at in range(segment * per_task * chunk, stop, step):
                    values = np.empty(min(step, stop - at), target.dtype)
                    self._gather(name, starts, base, at, values)
                    target[at : at + len(values)] = values
        return [[]]

    def _offsets(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return where every band begins in the target array, and what is added to its values."""
        entries = np.cumsum([0, *(band.entries for band in self.bands)])
        if name != "indptr":
            return entries, np.zeros(len(entries), np.int64)
        return np.cumsum([0, *(band.rows for band in self.bands)]), entries

    def _gather(
        self, name: str, starts: np.ndarray, base: np.ndarray, at: int, out: np.ndarray
    ) -> None:
        """Copy the stretch of the target that begins at ``at``.

        A band's own indptr has one entry more than it has rows: the first of each is the last
        of the band before it, and only the very first is written.
        """
        extra = 1 if name == "indptr" else 0
        if extra and at == 0:
            out[0] = 0
        lowest, stop = max(at, extra), at + len(out)
        first = int(np.searchsorted(starts, lowest - extra, side="right")) - 1
        for number in range(first, len(self.bands)):
            begin = max(lowest, int(starts[number]) + extra)
            end = min(stop, int(starts[number + 1]) + extra)
            if begin >= stop:
                break
            if begin < end:
                path = f"{self.stack}/{self.bands[number].name}/{name}"
                local = slice(begin - int(starts[number]), end - int(starts[number]))
                values: Any = zarr.open_array(path, mode="r")[local]
                out[begin - at : end - at] = values + base[number] if extra else values
