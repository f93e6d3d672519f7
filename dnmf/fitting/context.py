"""What every step needs in whichever process it runs: the run, the plan, the source."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from dnmf.errors import CorruptDataError, InputError, RunError
from dnmf.faultpoints import reach
from dnmf.fitting.plan import Plan
from dnmf.fitting.work import Step
from dnmf.linalg.measure import checksum
from dnmf.runs.base import ObjectRef, RunStore
from dnmf.runs.folder import FolderStore
from dnmf.sources import from_spec
from dnmf.sources.base import Block, Matrix, Source

__all__ = ["Context", "cached_work", "read_segment", "refs"]


@dataclass
class Context:
    """One run as one process sees it.

    Attributes
    ----------
    store : RunStore
    plan : Plan
    source : Source
        Oriented as the plan says: its rows are the blocks' rows.
    """

    store: RunStore
    plan: Plan
    source: Source

    @classmethod
    def open(cls, path: str) -> Context:
        """Open a run from its folder alone, as a worker does."""
        store = FolderStore(path)
        plan = Plan.from_json(store.plan())
        if plan.source is None:
            raise RunError(f"{path}: its data were only in the memory of the process that began it")
        source = from_spec(plan.source)
        if json.loads(json.dumps(source.metadata())) != plan.source_metadata:
            raise InputError(
                f"{source.describe()} changed since the run began (then {plan.description}); "
                f"restore it, or start again with overwrite"
            )
        if plan.axis == "columns":
            transposed = source.transposed()
            if transposed is None:
                raise InputError(f"{source.describe()} can no longer be read by columns")
            source = transposed
        return cls(store, plan, source)

    def record(self, index: int) -> dict[str, Any]:
        return self.store.record(index)


_works: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
_works_lock = threading.Lock()


def cached_work(make: Any, path: str, run_id: str, step: Step) -> Any:
    """The work of a step in this process, made once; two runs' last ones are kept."""
    key = (make, path, run_id, step)
    with _works_lock:
        if key not in _works:
            context = Context.open(path)
            if context.plan.run_id != run_id:
                raise RunError(f"{path} was replaced by another run; this one cannot go on")
            _works[key] = make(context, step)
            for other in [other for other in _works if other[1] == path and other != key]:
                del _works[other]  # the H of an earlier step
            while len(_works) > 2:
                _works.popitem(last=False)
        _works.move_to_end(key)
        return _works[key]


def refs(values: list[list[str]]) -> list[ObjectRef]:
    """References as records keep them."""
    return [ObjectRef.from_json(value) for value in values]


def read_segment(
    context: Context, segment: int, checksums: np.ndarray | None
) -> Iterator[tuple[Block, int, int]]:
    """Read a segment's blocks in order, one ahead of the caller.

    Parameters
    ----------
    checksums : (blocks,) uint64 array or None
        Of all blocks as the scan found them; a block that differs is refused.

    Yields
    ------
    block : Block
        In the dtype that the fit computes in.
    nbytes : int
        Decoded bytes, as stored.
    check : int
        The block's checksum as stored.
    """
    starts = context.plan.segment_block_starts(segment)
    first = context.plan.segment_blocks[segment]
    blocks = context.source.read_blocks(starts)
    for position, raw in enumerate(_ahead(blocks, len(starts) - 1)):
        reach("block-read", segment=segment, block=first + position)
        check = checksum(raw)
        if checksums is not None and check != int(checksums[first + position]):
            raise CorruptDataError(
                f"rows {starts[position]} to {starts[position + 1] - 1} of "
                f"{context.source.describe()} changed since the scan; start a new fit"
            )
        item = Block(_cast(raw, context.plan.dtype), starts[position]), _nbytes(raw), check
        del raw  # where the dtype differs, only the copy stays
        yield item
        del item


def _ahead(blocks: Iterator[Matrix], count: int) -> Iterator[Matrix]:
    """The same blocks, the next one being read by another thread."""
    if count < 2:  # nothing to read ahead
        yield from blocks
        return
    with ThreadPoolExecutor(1, thread_name_prefix="dnmf-read") as reader:
        pending = reader.submit(next, blocks)
        for position in range(count):
            block = pending.result()
            if position + 1 < count:
                pending = reader.submit(next, blocks)
            yield block
            del block


def _cast(raw: Matrix, dtype: str) -> Matrix:
    """The block in the dtype to compute in; a copy only where the dtype differs."""
    if isinstance(raw, np.ndarray):
        return np.ascontiguousarray(raw, dtype=dtype)
    if raw.data.dtype == dtype:
        return raw
    return sp.csr_array((raw.data.astype(dtype), raw.indices, raw.indptr), shape=raw.shape)


def _nbytes(raw: Matrix) -> int:
    if isinstance(raw, np.ndarray):
        return raw.nbytes
    return int(raw.data.nbytes + raw.indices.nbytes + raw.indptr.nbytes)
