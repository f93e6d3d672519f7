"""Lazy data of a run in one process: computed once, then in memory, or staged on disk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from dnmf.config import FitConfig, Resources
from dnmf.conversion.here import CsrRows, dense_edges, load_dense, stage_dense
from dnmf.interop.dask_array import DaskArraySource
from dnmf.interop.dask_gather import chunk_bytes, chunk_edges, suited_threads
from dnmf.interop.dask_run import check_memory
from dnmf.launch.room import memory_here
from dnmf.planning.evaluation import Evaluation
from dnmf.planning.memory import BASELINE, MemoryNeed, predict_memory
from dnmf.planning.plan import make_plan
from dnmf.runs.layout import STAGED
from dnmf.sources.base import Source
from dnmf.sources.like_memory import LikeInMemory, dense_layout, sparse_layout
from dnmf.sources.weighted import WeightedSource
from dnmf.steps.events import Listener, Progress

__all__ = ["Evaluations", "evaluate", "evaluations_of", "foreseen"]

NAMES = ("V", "weights")

Evaluations = tuple[Evaluation, ...]


def foreseen(source: Source, missing: str | None, count: bool = False) -> Source:
    """Return lazy data as a plan sees them before anything is computed.

    Parameters
    ----------
    source : Source
    missing : {None, "nan", "zeros"}
    count : bool
        Count the entries of CSR, which takes an evaluation; else none are assumed.
    """
    parts = [_layout(part, count) if part.lazy else part for part in source.parts]
    return _joined(parts, missing)


def _layout(part: Source, count: bool) -> Source:
    lazy = cast(DaskArraySource, part)
    if not lazy.is_sparse:
        return LikeInMemory(dense_layout(lazy.shape, lazy.dtype), lazy.describe())
    rows, text = lazy.chunk_rows, lazy.outline
    entries = np.zeros(len(rows), np.int64)
    if count:
        entries, text = np.cumsum([0, *lazy.entries]), lazy.describe()
    indptr = np.interp(np.arange(lazy.shape[0] + 1), rows, entries).astype(np.int64)
    return LikeInMemory(sparse_layout(indptr, lazy.shape[1], lazy.dtype), text)


def _joined(parts: list[Source], missing: str | None) -> Source:
    return parts[0] if len(parts) == 1 else WeightedSource(parts[0], parts[1], missing)


@dataclass(frozen=True)
class _Way:
    """Where a lazy part of the data goes, and how it is computed."""

    evaluation: Evaluation
    threads: int
    shared_first: bool


def _way(part: DaskArraySource, name: str, room: int, nbytes: int | None) -> _Way:
    """Decide where one part goes.

    Parameters
    ----------
    part : DaskArraySource
    name : str
    room : int
        Bytes that there are beside what the run itself needs.
    nbytes : int or None
        Of the part in memory; None where CSR is not counted yet.
    """
    n, d = part.shape
    whole = n * d * part.dtype.itemsize  # what shared tasks wait for; of CSR no more than this
    task, size = chunk_bytes(part, chunk_edges(part)), nbytes or 0
    beside = whole if part.shared else 0
    in_memory = size + task <= room
    if not in_memory and not part.is_sparse:
        task = chunk_bytes(part, dense_edges(part))
    used = size if in_memory else 0
    shared_first = bool(part.shared) and used + task + beside > room
    threads = suited_threads(task, room - used - (0 if shared_first else beside))
    peak = BASELINE + used + threads * task + (0 if shared_first else beside)
    where = "memory" if in_memory else "disk"
    times = 2 if shared_first else 1
    found = Evaluation(name, where, size, times, len(part.shared), peak)
    return _Way(found, threads, shared_first)


def _room(resources: Resources, need: MemoryNeed) -> int:
    """Return the bytes that lazy data may take in memory beside what the run needs."""
    return memory_here(resources) - (need.total - BASELINE)


def evaluations_of(source: Source, need: MemoryNeed, resources: Resources) -> Evaluations:
    """Return how lazy data will be computed, for a report; entries of CSR are counted."""
    found: list[Evaluation] = []
    for part, name in zip(source.parts, NAMES, strict=False):
        if part.lazy:
            room = _room(resources, need) - sum(some.in_memory for some in found)
            lazy = cast(DaskArraySource, part)
            found.append(_way(lazy, name, room, part.nbytes).evaluation)
    return tuple(found)


def evaluate(
    source: Source,
    config: FitConfig,
    mode: str,
    resources: Resources,
    folder: str,
    listen: Listener,
    alone: bool = True,
) -> tuple[Source, Evaluations]:
    """Compute lazy data once, into memory where they fit beside the run, else into a folder.

    Parameters
    ----------
    source : Source
        Lazy.
    config, mode
        Arguments of `make_plan`.
    resources : Resources
        Of this process.
    folder : str
        Of this machine.
    listen : Listener
    alone : bool
        Whether the run may name what is staged, so that other processes go on with it.

    Returns
    -------
    source : Source
        With the blocks of the same data in memory.
    evaluations : tuple of Evaluation
    """
    seen = list(foreseen(source, config.missing).parts)
    read: list[Source] = list(source.parts)
    found: list[Evaluation] = []
    for number, (part, name) in enumerate(zip(source.parts, NAMES, strict=False)):
        if not part.lazy:
            continue

        def room(number: int = number) -> int:
            plan, _ = make_plan(_joined(seen, config.missing), config, mode)
            used = sum(some.in_memory for some in found)
            return _room(resources, predict_memory(plan, resources.threads)) - used

        lazy = cast(DaskArraySource, part)
        beside = lazy.measured_bytes
        way = _way(lazy, name, room() - beside, None if part.is_sparse else part.nbytes)
        lazy = lazy.with_shared() if way.shared_first else lazy
        news = _news(listen)
        if part.is_sparse:
            with CsrRows(lazy, folder, STAGED[number], max(0, (room() - beside) * 2 // 3)) as rows:
                rows.compute(way.threads, news)
                layout = sparse_layout(rows.indptr, lazy.shape[1], lazy.dtype)
                seen[number] = LikeInMemory(layout, lazy.outline)
                inside = rows.fits and layout.nbytes <= room()
                read[number] = rows.to_memory() if inside else rows.to_disk()
        else:
            layout, inside = dense_layout(lazy.shape, lazy.dtype), way.evaluation.in_memory > 0
            if inside:
                read[number] = load_dense(lazy, way.threads, news)
            else:
                _check(lazy, resources)
                read[number] = stage_dense(lazy, folder, STAGED[number], way.threads, news)
        lazy.forget()
        cast(DaskArraySource, part).forget()
        where, text = "memory" if inside else "disk", lazy.outline
        text += f", {'computed into memory' if inside else 'computed and staged'}"
        seen[number] = LikeInMemory(layout, text, read[number])
        found.append(replace(way.evaluation, where=where, nbytes=int(layout.nbytes)))
    if alone and all(part.persistent for part in read):
        seen = [
            LikeInMemory(_layout_of(one), one.describe(), part, True) if was.lazy else one
            for one, part, was in zip(seen, read, source.parts, strict=True)
        ]
    return _joined(seen, config.missing), tuple(found)


def _layout_of(seen: Source) -> Source:
    assert isinstance(seen, LikeInMemory)
    return seen.layout


def _check(lazy: DaskArraySource, resources: Resources) -> None:
    """Refuse chunks that this process cannot hold even one at a time."""
    limit = resources.memory_limit
    check_memory(lazy.chunks, dense_edges(lazy), lazy.dtype.itemsize, limit, 1)


def _news(listen: Listener) -> Any:
    def news(done: int, total: int) -> None:
        listen(Progress("compute", 0, done, total, 0, 0))

    return news
