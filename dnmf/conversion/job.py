"""Rechunking and converting a matrix: any source to dense or CSR Zarr, in parallel."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from dnmf.conversion.csr_assemble import AssembleWork, create_csr
from dnmf.conversion.csr_parts import ENTRIES, CsrLayout, Part, PartsWork, plan_bands
from dnmf.conversion.dense import DenseWork, create_dense
from dnmf.conversion.files import needs_staging, stage, stage_columns
from dnmf.conversion.plan import Budget, check_dtype, dense_layout, plan_rectangles
from dnmf.conversion.target import Target, Workplace
from dnmf.errors import OptionError
from dnmf.names import local_name
from dnmf.planning.versions import compare_versions
from dnmf.sources import Source, open_source
from dnmf.steps.events import Listener, Notice, Progress, ignore
from dnmf.steps.serial import Serial
from dnmf.steps.work import Executor, StepOutcome, Work

__all__ = ["Converted", "convert"]

LAYOUTS = ("dense", "csr")


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes
    ----------
    path : str
    layout : str
        ``"dense"`` or ``"csr"``.
    shape : (int, int)
    dtype : numpy.dtype
    chunks : tuple of int
        Rows and columns, or entries.
    entries : int or None
        Stored entries of CSR.
    decodes : int
        How often the same chunk of the source was decoded, at most.
    bytes_written : int
        Decoded bytes of the result.
    """

    path: str
    layout: str
    shape: tuple[int, int]
    dtype: np.dtype
    chunks: tuple[int, ...]
    entries: int | None
    decodes: int
    bytes_written: int


def convert(
    source: Any,
    target_path: str | os.PathLike[str],
    *,
    to: str | None = None,
    chunks: int | Sequence[int] | None = None,
    dtype: str | np.dtype | None = None,
    memory: int | None = None,
    executor: Executor,
    overwrite: bool = False,
    on_event: Listener | None = None,
) -> Converted:
    """Write a matrix as Zarr with other chunks, another layout or another type.

    The target is written beside ``target_path`` under a temporary name
    (``<target>.converting-...``) and renamed at the end, so that whatever goes wrong leaves
    nothing that looks whole. An existing target stays as it is until then.

    Every chunk of the source is decoded once where whole rows of its chunks fit a task's
    memory, or where ``chunks`` is None and one chunk fits (then the target's chunks are made
    as narrow as that needs). Otherwise a chunk is decoded by every task that needs some of it,
    once for every stretch of rows that fits: about (bytes of a row of chunks) / (bytes of a task)
    times. An event says so before it begins, and the result has the number (``decodes``).
    Chunks at the border of two tasks are decoded by both. CSR is read once; its entries are
    stored a second time, uncompressed, until the end.

    ``.npz`` and Matrix Market files, and CSC, are first written as plain arrays into the
    temporary folder, by this process alone and in bounded memory.

    Parameters
    ----------
    source : path, URL, array or Source
        What `dnmf.sources.open_source` takes, or a ``.npz``, ``.mtx`` or ``.mtx.gz`` file. Never
        modified.
    target_path : path or URL
        Of the array (dense) or group (CSR, laid out as AnnData does) to write.
    to : {"dense", "csr"}, optional
        By default as the source.
    chunks : int or (int, int), optional
        Dense: rows and columns (one number: rows, all columns). CSR: stored entries.
    dtype : optional
        By default as the source. Floats are rounded to narrower ones; a number that the type
        cannot hold, and a fraction for an integer type, ends the conversion.
    memory : int, optional
        Bytes per worker process, its imports included. The executor's workers may have less.
    executor : Executor
        Runs the tasks. A source that only this process has, is converted by it alone.
    overwrite : bool
        Replace a Zarr array or group at ``target_path``.
    on_event : callable, optional
        Receives `Progress` (kinds ``"stage"``, ``"convert"``, ``"assemble"``) and `Notice`.

    Returns
    -------
    Converted

    Raises
    ------
    OptionError, InputError, OutputExistsError
        Before anything is written; InputError also for a number that does not fit ``dtype``.
    MemoryPlanError
        It cannot run within the memory: with the numbers and the remedy.
    CorruptDataError
        The source is damaged.
    RunError
        The target cannot be written.
    """
    tell = on_event or ignore
    if to is not None and to not in LAYOUTS:
        raise OptionError(f"to is {to!r}; it must be one of {', '.join(LAYOUTS)}")
    sizes = None if chunks is None else np.atleast_1d(chunks).tolist()
    target = Target.at(target_path, overwrite)
    staged = isinstance(source, (str, os.PathLike)) and needs_staging(source)
    opened = None if staged else open_source(source)
    target.refuse_to_hold(local_name(source) if opened is None else opened)
    compare_versions(executor)
    budget = Budget.of(memory, executor.resources())
    with target.workplace() as place:
        if opened is None:
            opened = stage(local_name(source), place.scratch(), budget.task, _stage_news(tell))
        elif (columns := _columns_only(opened)) is not None:
            opened = stage_columns(columns, place.scratch(), budget.task, _stage_news(tell))
        run = _runner(executor, opened, place, tell)
        job = _Job(opened, check_dtype(opened.dtype, dtype), sizes, budget, place, run, tell)
        layout = to or ("csr" if opened.is_sparse else "dense")
        written = job.to_csr() if layout == "csr" else job.to_dense()
        place.publish()
    return Converted(target.path, layout, opened.shape, *written)


def _stage_news(tell: Listener) -> Callable[[int, int], None]:
    def news(done: int, total: int) -> None:
        tell(Progress("stage", 0, done, total, 0, 0))

    return news


def _columns_only(source: Source) -> Source | None:
    """V' where V is sparse and its rows cannot be read (CSC), else None."""
    return None if source.by_rows else source.transposed()


Runner = Callable[[Work, str, int], StepOutcome]


def _runner(executor: Executor, source: Source, place: Workplace, tell: Listener) -> Runner:
    """Runs a work, with progress; here, where other processes would not see what it needs."""
    shared = source.persistent and place.reachable
    if not shared:
        tell(Notice("converting in this process: others cannot reach the source or the target"))

    def run(work: Work, kind: str, nbytes: int) -> StepOutcome:
        done = 0

        def on_leaf(segment: int) -> None:
            nonlocal done
            done += 1
            read = nbytes * done // work.segments
            tell(Progress(kind, 0, done, work.segments, read, nbytes))

        with place.explained():
            return (executor if shared else Serial()).run_step(work, on_leaf)

    return run


@dataclass
class _Job:
    """A conversion whose source is open and whose options are checked."""

    source: Source
    dtype: np.dtype
    chunks: list[int] | None
    budget: Budget
    place: Workplace
    run: Runner
    tell: Listener

    def to_dense(self) -> tuple[np.dtype, tuple[int, ...], None, int, int]:
        layout = dense_layout(self.source, self.dtype, self.chunks, self.budget)
        tasks = plan_rectangles(self.source, layout, self.budget)
        self._warn(tasks.decodes)
        create_dense(self.place.new, layout)
        work = DenseWork(self.source, self.place.new, layout, tasks, self.budget.piece)
        nbytes = self.run(work, "convert", self.source.nbytes).results[0]
        return layout.dtype, layout.chunks, None, tasks.decodes, nbytes

    def to_csr(self) -> tuple[np.dtype, tuple[int, ...], int, int, int]:
        entries = ENTRIES
        if self.chunks is not None:
            if len(self.chunks) != 1 or self.chunks[0] < 1:
                raise OptionError(
                    f"chunks is {tuple(self.chunks)}; for CSR give one number, the stored entries "
                    f"of a chunk, as in {ENTRIES}"
                )
            entries = int(self.chunks[0])
        layout = CsrLayout(self.source.shape, self.dtype, entries)
        bands = plan_bands(self.source, layout, self.budget)
        self._warn(bands.decodes)
        parts_path = self.place.folder("parts")
        zarr.create_group(parts_path)
        work = PartsWork(self.source, parts_path, layout, bands, self.budget.piece)
        found = self.run(work, "convert", self.source.nbytes).results[0]
        parts = [Part(*part) for part in found]
        assemble = AssembleWork(parts_path, self.place.new, layout, parts)
        create_csr(self.place.new, layout, assemble.entries)
        nbytes = assemble.entries * layout.per_entry + 8 * (layout.shape[0] + 1)
        self.run(assemble, "assemble", nbytes)
        return layout.dtype, (entries,), assemble.entries, bands.decodes, nbytes

    def _warn(self, decodes: int) -> None:
        if decodes > 2:
            self.tell(
                Notice(
                    f"every chunk of V is decoded up to {decodes} times: its chunks are too tall "
                    "for the memory of a task. More memory per worker makes that fewer"
                )
            )
