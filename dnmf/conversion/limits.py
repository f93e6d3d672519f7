"""The limits of a conversion."""

from __future__ import annotations

from dataclasses import dataclass

from dnmf.config import MIB
from dnmf.planning.memory import BASELINE

__all__ = ["DEFAULT", "ConversionLimits"]


@dataclass(frozen=True)
class ConversionLimits:
    """Sizes of chunks, of tasks, and of what a task reads at once.

    They decide memory and speed. Where V is staged they also decide how a fit cuts its blocks,
    and so its bits.

    Attributes
    ----------
    chunk : int
        Decoded bytes of a chunk where none is asked for.
    chunk_row : int
        Decoded bytes that a row of chunks should not exceed: one block of a fit.
    rectangle : int
        Bytes of a dense target that a task holds, where more would not save many reads.
    unlimited : int
        Bytes that a task may use where no limit is given.
    least : int
        Bytes that a task must at least have.
    baseline : int
        Bytes of a process that does nothing.
    read_bytes : int
        Bytes that are decoded or encoded at once, where a chunk is not larger.
    entries : int
        Stored entries of a chunk of CSR where none are asked for.
    band : int
        Bytes of a stored band of CSR, at most about.
    task_bytes : int
        Bytes of CSR that a task reads or writes, at least about.
    most_tasks : int
        Tasks of a step on CSR.
    most_bands : int
        Stored bands of CSR that comes in many small chunks.
    triplets : int
        Entries (row, column, value) that are sorted into files at once.
    text_bytes : int
        Bytes of a Matrix Market file that are parsed at once; the triplets take up to 24 bytes
        per 6 of text.
    sort_bytes : int
        Bytes that sorting triplets may use, where it is given less.
    """

    chunk: int = 8 * MIB
    chunk_row: int = 32 * MIB
    rectangle: int = 128 * MIB
    unlimited: int = 512 * MIB
    least: int = MIB
    baseline: int = BASELINE
    read_bytes: int = 16 * MIB
    entries: int = 1 << 19
    band: int = 16 * MIB
    task_bytes: int = 64 * MIB
    most_tasks: int = 2000
    most_bands: int = 10_000
    triplets: int = 1 << 20
    text_bytes: int = 16 * MIB
    sort_bytes: int = 4 * MIB


DEFAULT = ConversionLimits()
