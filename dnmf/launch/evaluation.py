"""Lazy data of a run in one process: computed once, then in memory, or staged on disk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from dnmf.config import FitConfig, Resources
from dnmf.conversion.here import CsrRows, as_staged, dense_edges, load_dense, stage_dense
from dnmf.interop.dask_array import PER_CHUNK, DaskArraySource
from dnmf.interop.dask_gather import chunk_bytes, chunk_edges, suited_threads
from dnmf.interop.dask_run import check_memory
from dnmf.launch.room import memory_here
from dnmf.planning.evaluation import Evaluation
from dnmf.planning.memory import BASELINE, MemoryNeed
from dnmf.planning.plan import make_plan
from dnmf.planning.read_groups import with_read_groups
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


def _way(part: DaskArraySource, name: str, room: int, config: FitConfig, counted: bool) -> _Way:
    """Decide where one part goes.

    Parameters
    ----------
    part : DaskArraySource
    name : str
    room : int
        Bytes that there are beside what the run itself needs.
    config : FitConfig
    counted : bool
        Whether the entries of CSR are known; else they are taken to fit.
    """
    n, d = part.shape
    known = counted or not part.is_sparse
    nbytes = part.nbytes if known else 0
    most = max(part.entries) if known and part.is_sparse else None
    used, task = _joining(part, nbytes), chunk_bytes(part, chunk_edges(part), most)
    inside = used + task <= room
    if not inside:  # rows of CSR are in memory until there is no room
        used = max(0, room - task) if part.is_sparse else 0
        edges = chunk_edges(part) if part.is_sparse else dense_edges(part, config.block_size)
        task = chunk_bytes(part, edges, most)
    # what shared tasks wait for; of CSR no more than this
    beside = n * d * part.dtype.itemsize if part.shared else 0
    shared_first = bool(part.shared) and used + task + beside > room
    used += 0 if shared_first else beside
    threads = suited_threads(task, room - used)
    graph = PER_CHUNK * len(part.chunks[0]) * len(part.chunks[1])
    peak = BASELINE + used + threads * task + graph
    where, times = "memory" if inside else "disk", 2 if shared_first else 1
    found = Evaluation(name, where, nbytes, times, len(part.shared), peak)
    return _Way(found, threads, shared_first)


def _joining(part: Source, nbytes: int) -> int:
    """Return the most bytes that data in memory take while they are computed.

    Rows of CSR are there beside the arrays that they are joined to, one of which is made first.
    """
    return nbytes * 3 // 2 if part.is_sparse else nbytes


def _room(resources: Resources, need: MemoryNeed) -> int:
    """Return the bytes that lazy data may take in memory beside what the run needs."""
    return memory_here(resources) - (need.total - BASELINE)


def evaluations_of(
    source: Source, config: FitConfig, need: MemoryNeed, resources: Resources
) -> Evaluations:
    """Return how lazy data will be computed, for a report; entries of CSR are counted."""
    found: list[Evaluation] = []
    for part, name in zip(source.parts, NAMES, strict=False):
        if part.lazy:
            room = _room(resources, need) - sum(some.in_memory for some in found)
            one = _way(cast(DaskArraySource, part), name, room, config, True).evaluation
            if part.is_sparse and one.where == "disk":  # rows stay in memory until it is used up
                one = replace(one, peak=max(one.peak, BASELINE + memory_here(resources)))
            found.append(one)
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
    work = _Work(source, config, mode, resources, folder, listen)
    for number, part in enumerate(source.parts):
        if part.lazy:
            work.compute(number, cast(DaskArraySource, part))
    seen = work.seen
    if alone and all(part.persistent for part in work.read):
        seen = [
            LikeInMemory(one.layout, one.describe(), part, True)
            if isinstance(one, LikeInMemory)
            else one
            for one, part in zip(seen, work.read, strict=True)
        ]
    return _joined(seen, config.missing), tuple(work.found)


class _Work:
    """The evaluation of V and its weights, one after the other."""

    def __init__(
        self,
        source: Source,
        config: FitConfig,
        mode: str,
        resources: Resources,
        folder: str,
        listen: Listener,
    ) -> None:
        self._config, self._mode, self._resources = config, mode, resources
        self._folder, self._listen = folder, listen
        self.seen = list(foreseen(source, config.missing).parts)
        self.read = list(source.parts)
        self.found: list[Evaluation] = []

    def compute(self, number: int, part: DaskArraySource) -> None:
        """Compute a part: ``seen`` has its blocks then, and ``read`` what they are read from."""
        measured, name = part.measured_bytes, NAMES[number]
        way = _way(part, name, self._room() - measured, self._config, False)
        if not part.is_sparse and way.evaluation.where == "disk":
            self._check_staged(number, part)
        lazy = part.with_shared() if way.shared_first else part
        make = self._csr if part.is_sparse else self._dense
        read, evaluation = make(number, lazy, way)
        part.forget()
        inside = evaluation.where == "memory"
        text = f"{part.outline}, computed {'into memory' if inside else 'and staged'}"
        layout = cast(LikeInMemory, self.seen[number]).layout
        self.seen[number], self.read[number] = LikeInMemory(layout, text, read), read
        self.found.append(evaluation)

    def _room(self) -> int:
        plan, _ = make_plan(_joined(self.seen, self._config.missing), self._config, self._mode)
        _, need = with_read_groups(plan, self._resources)
        return _room(self._resources, need) - sum(some.in_memory for some in self.found)

    def _check_staged(self, number: int, part: DaskArraySource) -> None:
        """Refuse what could not run from the disk, or not be written, before it is computed."""
        size, seen = self._config.block_size, cast(LikeInMemory, self.seen[number])
        limit = self._resources.memory_limit
        check_memory(part.chunks, dense_edges(part, size), part.dtype.itemsize, limit, 1)
        before, read = list(self.seen), as_staged(part, size)
        self.seen[number] = LikeInMemory(seen.layout, seen.describe(), read)
        self._room()
        self.seen = before

    def _dense(self, number: int, part: DaskArraySource, way: _Way) -> tuple[Source, Evaluation]:
        if way.evaluation.where == "memory":
            return load_dense(part, way.threads, self._news), way.evaluation
        name, size = STAGED[number], self._config.block_size
        read = stage_dense(part, self._folder, name, way.threads, size, self._news)
        return read, way.evaluation

    def _csr(self, number: int, part: DaskArraySource, way: _Way) -> tuple[Source, Evaluation]:
        room = max(0, self._room() - part.measured_bytes) * 2 // 3
        size = self._config.block_size
        with CsrRows(part, self._folder, STAGED[number], room, size) as rows:
            rows.compute(way.threads, self._news)
            layout = sparse_layout(rows.indptr, part.shape[1], part.dtype)
            self.seen[number] = LikeInMemory(layout, part.outline)
            inside = rows.fits and _joining(part, layout.nbytes) <= self._room()
            used = _joining(part, layout.nbytes) if inside else rows.nbytes
            read = rows.to_memory() if inside else rows.to_disk()
        peak = BASELINE + used + 3 * way.threads * rows.largest
        where = "memory" if inside else "disk"
        peak = max(peak, way.evaluation.peak) if way.evaluation.shared else peak
        return read, replace(way.evaluation, where=where, nbytes=layout.nbytes, peak=peak)

    def _news(self, done: int, total: int) -> None:
        self._listen(Progress("compute", 0, done, total, 0, 0))
