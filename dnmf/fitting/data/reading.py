"""Reading a segment of V: block by block, one ahead, verified, in the dtype to compute in."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
import scipy

from dnmf.errors import CorruptDataError
from dnmf.faultpoints import reach
from dnmf.fitting.data.context import Context, opened
from dnmf.linalg.matrix import Matrix, WeightedCSR, arrays_of, bytes_of, csr_structure, matrix_of
from dnmf.linalg.measure import checksum
from dnmf.linalg.own_state import own_state
from dnmf.planning.memory import needs_of
from dnmf.sources.base import Source
from dnmf.sources.missing import Missing
from dnmf.steps.work import Needs, SegmentLoader

__all__ = ["Loaded", "Loader", "missing_of", "read_segment"]

Loaded: TypeAlias = "list[tuple[tuple[np.ndarray, ...], int, int, int, int]]"
"""A decoded segment: per block its arrays, first row, bytes read, checksum, clipped entries."""


class Loader(SegmentLoader):
    """Decodes whole segments of a run.

    Parameters
    ----------
    context : Context
    """

    def __init__(self, context: Context) -> None:
        self.context = context.whole  # what is kept from the scan on has all columns

    def __reduce__(self) -> tuple[Any, ...]:
        return _cached_loader, (self.context.store.path, self.context.plan.run_id)

    @property
    def run_id(self) -> str:
        return self.context.plan.run_id

    @property
    def needs(self) -> Needs:
        return needs_of(self.context.plan)

    def sizes(self) -> list[int]:
        return self.context.plan.memory_bytes

    def graph(self, segment: int) -> tuple[dict[Any, Any], list[Any]] | None:
        """Return a Dask graph and the keys of the segment's blocks, or None where V is no graph."""
        starts = self.context.plan.segment_block_starts(segment)
        return self.context.source.block_graph(starts)

    def __call__(self, segment: int, raw: list[Matrix] | None = None) -> Loaded:
        if raw is None:
            found = list(read_segment(self.context, segment, None))
        else:
            plan, starts = self.context.plan, self.context.plan.segment_block_starts(segment)
            dtype, missing, clip = plan.dtype, plan.config.missing, plan.config.clip
            found = []
            for block, start in zip(raw, starts, strict=False):
                V, clipped = _clipped(_cast(block, dtype, missing), clip)
                found.append((start, V, bytes_of(block), checksum(block), clipped))
        return [(arrays_of(V), a, size, check, count) for a, V, size, check, count in found]


def _cached_loader(path: str, run_id: str) -> Loader:
    return Loader(opened(path, run_id))


def read_segment(
    context: Context, segment: int, checksums: np.ndarray | None, loaded: Loaded | None = None
) -> Iterator[tuple[int, Matrix, int, int, int]]:
    """Read a segment's blocks in order, one ahead of the caller.

    Parameters
    ----------
    context : Context
        A narrow one reads the columns with entries alone.
    checksums : (blocks,) uint64 array or None
        Checksums of all blocks from the scan; a block that differs is refused.
    loaded : list, optional
        What a `Loader` read before; nothing is read then.

    Yields
    ------
    start : int
        The global index of the block's first row.
    V : (m, d) array, CSR array or WeightedCSR
        In the dtype that the fit computes in. Of weighted data the observed entries, each with
        its weight; of data with missing entries the observed ones as CSR.
    nbytes : int
        Decoded bytes, as stored.
    check : int
        The block's checksum as stored.
    clipped : int
        Entries that were negative and count as 0 (``clip=``).
    """
    starts = context.plan.segment_block_starts(segment)
    first = context.plan.segment_blocks[segment]
    if loaded is not None:
        for position, (arrays, start, size, check, clipped) in enumerate(loaded):
            _verify(context, segment, position, check, checksums, None)
            V = matrix_of(arrays, context.plan.all_columns)
            yield start, context.pick(V), size, check, clipped
        return
    known = checksums if segment in context.verified else None
    blocks = context.source.read_blocks(starts)
    for position, raw in enumerate(_ahead(blocks, len(starts) - 1)):
        reach("block-read", segment=segment, block=first + position)
        check = checksum(raw) if known is None else int(known[first + position])
        _verify(context, segment, position, check, checksums, raw)
        size = bytes_of(raw)
        if isinstance(raw, WeightedCSR):  # what was picked from the bytes of both
            size = context.source.block_bytes(starts[position], starts[position + 1])
        V = _cast(raw, context.plan.dtype, context.plan.config.missing)
        V, clipped = _clipped(V, context.plan.config.clip)
        item = (starts[position], context.pick(V), size, check, clipped)
        del raw, V  # where the dtype differs, only the copy stays
        yield item
        del item
    if checksums is not None and context.source.in_memory:
        context.verified.add(segment)


def _verify(
    context: Context,
    segment: int,
    position: int,
    check: int,
    checksums: np.ndarray | None,
    raw: Matrix | None,
) -> None:
    """Refuse a block that is not the one that the scan saw; ``raw`` is the block as read."""
    if checksums is None:
        return
    if check == int(checksums[context.plan.segment_blocks[segment] + position]):
        return
    start, stop = context.plan.segment_block_starts(segment)[position : position + 2]
    what = f"rows {start} to {stop - 1} of {context.source.describe()}"
    names = _no_longer_stored(context.source, int(start), int(stop), raw)
    if names:
        some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise CorruptDataError(
            f"{len(names):,} chunk(s) of {what} that the scan read are missing now: {some}; "
            f"restore them, then go on with dnmf resume"
        )
    raise CorruptDataError(
        f"{what} changed since the scan; restore V and go on with dnmf resume, or start a new fit"
    )


def missing_of(context: Context, start: int, V: Matrix) -> Missing:
    """Count the chunks of a block, as `read_segment` gave it, that are not stored."""
    stop = start + V.shape[0]
    left_out = not isinstance(V, np.ndarray) and not context.source.is_sparse
    if left_out and context.plan.config.missing == "nan":
        V = _with_nan(V)
    return context.source.missing_chunks(start, stop, V)


def _with_nan(V: Any) -> np.ndarray:
    """Return a block as it was decoded, before the missing entries were left out."""
    dense = np.full(V.shape, np.nan, V.dtype)
    dense[np.repeat(np.arange(V.shape[0]), np.diff(V.indptr)), V.indices] = V.data
    return dense


def _no_longer_stored(source: Source, start: int, stop: int, raw: Matrix | None) -> list[str]:
    """Name the chunks of a changed block that are not stored, as far as the source knows."""
    if raw is None:  # decoded before, perhaps into another form
        if source.in_cluster or source.lazy:
            return []
        raw = next(iter(source.read_blocks((start, stop))))
    return source.unstored(start, stop, raw)


def _ahead(blocks: Iterator[Matrix], count: int) -> Iterator[Matrix]:
    """Yield the blocks while another thread reads the next one."""
    if count < 2:  # nothing to read ahead
        yield from blocks
        return
    with ThreadPoolExecutor(1, thread_name_prefix="dnmf-read") as reader:
        pending = reader.submit(_next, blocks)
        for position in range(count):
            block = pending.result()
            if position + 1 < count:
                pending = reader.submit(_next, blocks)
            yield block
            del block


@own_state()
def _next(blocks: Iterator[Matrix]) -> Matrix:
    return next(blocks)


def _cast(raw: Matrix, dtype: str, missing: str | None) -> Matrix:
    """Return the block in the dtype to compute in; copy it only if its dtype differs.

    Where NaN is missing, the observed entries of a dense block, zeros too, as a sparse one.
    """
    with np.errstate(over="ignore"):  # what becomes infinite is refused with its row and column
        if isinstance(raw, WeightedCSR):
            return raw.astype(dtype)
        if missing == "nan" and isinstance(raw, np.ndarray):
            observed = ~np.isnan(raw)
            data = raw[observed].astype(dtype, copy=False)
            return scipy.sparse.csr_array((data, *csr_structure(observed)), shape=raw.shape)
        if isinstance(raw, np.ndarray):
            return np.ascontiguousarray(raw, dtype=dtype)
        if raw.data.dtype == dtype:
            return raw
        data = raw.data.astype(dtype)
    return scipy.sparse.csr_array((data, raw.indices, raw.indptr), shape=raw.shape)


def _clipped(V: Matrix, clip: float) -> tuple[Matrix, int]:
    """Return the block with entries from -clip to 0 set to 0, and how many were below 0.

    It is copied where there are some: it may be the caller's, or a chunk that a cluster holds.
    """
    if not clip:
        return V, 0
    values = V if isinstance(V, np.ndarray) else V.data
    with np.errstate(invalid="ignore"):
        below = (values < 0) & (values >= values.dtype.type(-clip))
    count = int(np.count_nonzero(below))
    if not count:
        return V, 0
    clean = np.where(below, values.dtype.type(0), values)
    if isinstance(V, np.ndarray):
        return clean, count
    if isinstance(V, WeightedCSR):
        return WeightedCSR(clean, V.weights, V.indices, V.indptr, V.shape[1]), count
    return scipy.sparse.csr_array((clean, V.indices, V.indptr), shape=V.shape), count
