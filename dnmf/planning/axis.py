"""Whether blocks are rows of V or columns, and how these are cut."""

from __future__ import annotations

import itertools

import numpy as np

from dnmf.config import MIB, FitConfig
from dnmf.errors import InputError, MemoryPlanError
from dnmf.sources.base import Source

__all__ = ["choose_axis"]

NARROWEST = 64
"""Rows of fewer columns count as this many, so that W and V H' stay in proportion."""


def choose_axis(
    source: Source, config: FitConfig, dtype: np.dtype, mode: str, block_size: int, times: int
) -> tuple[str, Source, list[int]]:
    """Choose rows where a chunk-row fits, else columns where a chunk-column does (rule 8).

    Of columns those without entries are left out, where that is worth it: H is 0 there, whatever
    it starts from.

    Parameters
    ----------
    source : Source
    config : FitConfig
    dtype : numpy.dtype
        The dtype to compute in.
    mode : {"fit", "transform"}
    block_size : int
        Bytes of a block.
    times : int
        As for `Source.filled_columns`.

    Returns
    -------
    axis : {"rows", "columns"}
    source : Source
        ``source``, or its transpose where columns of V are the blocks.
    starts : list of int
        First row of every block, then the number of rows.

    Raises
    ------
    MemoryPlanError
        Neither rows nor columns can be decoded within ``config.max_block``.
    """
    found = []
    choices = [("rows", source)]
    transposed = source.filled_columns(times)
    if mode == "fit" and transposed is not None:  # a row of W at a fixed H needs its row of V
        choices.append(("columns", transposed))
    for axis, candidate in choices:
        try:
            starts = _cut(candidate, config, dtype, min(block_size, config.max_block))
        except InputError:  # a layout that has no rows, such as CSC
            if axis == choices[-1][0]:
                raise
            continue
        sizes = [candidate.block_bytes(a, b) for a, b in itertools.pairwise(starts)]
        most = max(candidate.tallest, *sizes)
        if most > config.max_block:
            found.append((axis, most))
        elif block_size > config.max_block:
            return axis, candidate, _cut(candidate, config, dtype, block_size)
        else:
            return axis, candidate, starts
    what = " and ".join(f"{size / MIB:,.0f} MiB by {axis}" for axis, size in found)
    raise MemoryPlanError(
        f"the smallest block that can be read takes {what}, more than max_block "
        f"({config.max_block / MIB:,.0f} MiB). Rewrite V in smaller chunks "
        f"(dnmf convert IN OUT --chunks ROWS,COLUMNS), or allow larger blocks with max_block"
    )


def _cut(source: Source, config: FitConfig, dtype: np.dtype, block_size: int) -> list[int]:
    max_rows = max(1, config.block_size // (dtype.itemsize * NARROWEST))
    itemsize = max(dtype.itemsize, source.dtype.itemsize)
    return [int(x) for x in source.block_starts(block_size, itemsize, max_rows)]
