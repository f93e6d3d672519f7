"""Rechunking and converting a matrix: any source to dense or CSR Zarr, in parallel."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from dnmf.config import OPTIONS
from dnmf.conversion.computed import Computed, band_edges, computed_grid, is_computed
from dnmf.conversion.csr_assemble import AssembleWork, create_csr
from dnmf.conversion.csr_bands import BandsWork, BandWriter, CsrLayout, plan_bands
from dnmf.conversion.dense import DenseWork, DenseWriter, create_dense
from dnmf.conversion.external_sort import Unpacking
from dnmf.conversion.files import needs_unpacking, unpack, unpack_columns
from dnmf.conversion.limits import DEFAULT, ConversionLimits
from dnmf.conversion.plan import (
    Budget,
    DenseLayout,
    Rectangles,
    check_dtype,
    dense_layout,
    given_chunks,
    plan_rectangles,
)
from dnmf.conversion.target import Target, Workplace
from dnmf.errors import OptionError
from dnmf.executors.choose import choose_executor
from dnmf.interop import as_source
from dnmf.linalg.own_state import own_state
from dnmf.names import local_name
from dnmf.planning.versions import compare_versions
from dnmf.sources import Source
from dnmf.sources.missing import check_whole
from dnmf.sources.stacked import StoredBand, create_stack, finish_stack
from dnmf.steps.events import Listener, Notice, Progress, ignore
from dnmf.steps.serial import Serial
from dnmf.steps.work import Executor, Work
from dnmf.values import parse_bytes

if TYPE_CHECKING:
    from dnmf.interop.dask_array import DaskArraySource

__all__ = ["Conversion", "Converted", "convert"]

LAYOUTS = ("dense", "csr")


@dataclass(frozen=True)
class Converted:
    """The result of a conversion.

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


@own_state()
def convert(
    source: Any,
    target: str | os.PathLike[str],
    *,
    to: str | None = None,
    chunks: int | Sequence[int] | None = None,
    dtype: Any = None,
    missing_chunks: str | None = None,
    memory: int | str | None = None,
    client: Any = None,
    overwrite: bool = False,
    executor: Executor | None = None,
    on_event: Listener | None = None,
    limits: ConversionLimits = DEFAULT,
) -> Converted:
    """Write a matrix as Zarr with other chunks, another layout or another type.

    The target is written beside its place under a temporary name
    (``<target>.converting-...``) and renamed at the end, so that whatever goes wrong leaves
    nothing that looks whole. An existing target stays as it is until then.

    Every chunk of the source is decoded once where whole rows of its chunks fit a task's
    memory, or where ``chunks`` is None and one chunk fits (then the target's chunks are made
    as narrow as that needs). Otherwise a chunk is decoded by every task that needs some of it,
    once for every stretch of rows that fits: about (bytes of a row of chunks) / (bytes of a task)
    times. An event says so before it begins, and the result has the number (``decodes``).
    Chunks at the border of two tasks are decoded by both. CSR is read once; its entries are
    stored a second time, uncompressed, until the end. A Dask array is computed once.

    ``.npz`` and Matrix Market files, and CSC, are first written as plain arrays into the
    temporary folder, by this process alone and in bounded memory.

    Parameters
    ----------
    source : path, URL, array or Source
        What `dnmf.fit` takes, or a ``.npz``, ``.mtx`` or ``.mtx.gz`` file. Never modified.
    target : path or URL
        Of the array (dense) or group (CSR, laid out as AnnData does) to write.
    to : {"dense", "csr"}, optional
        By default as the source.
    chunks : int or (int, int), optional
        Dense: rows and columns (one number: rows, all columns). CSR: stored entries.
    dtype : optional
        By default as the source. Floats are rounded to narrower ones; a number that the type
        cannot hold, and a fraction for an integer type, ends the conversion.
    missing_chunks : {"auto", "fill", "error"}, optional
        Whether chunks of the source that are not stored count as filled with its fill value, as
        for `dnmf.fit`, by default ``"auto"``. They are looked for before anything is written.
    memory : int or str, optional
        What one worker process may use, its imports included, such as ``"2GiB"``. The workers
        may have less.
    client : distributed.Client, optional
        By default the active client if there is one, else this process works. A source that
        only this process has is converted by it alone; a Dask array where it is computed.
    overwrite : bool
        Replace a Zarr array or group at ``target``.
    executor : Executor, optional
        Instead of ``client``.
    on_event : callable, optional
        Receives `Progress` (kinds ``"stage"``, ``"convert"``, ``"assemble"``) and `Notice`.
    limits : ConversionLimits, optional
        Sizes of tasks, and of chunks where none are asked for.

    Returns
    -------
    Converted
        Where the matrix was written, its layout, and how often chunks were decoded.

    Raises
    ------
    OptionError, InputError, OutputExistsError
        Before anything is written; InputError also for a number that does not fit ``dtype``,
        and for a Dask array that cannot be computed.
    MemoryPlanError
        It cannot run within the memory: with the numbers and the remedy.
    CorruptDataError
        The source is damaged, or chunks of it are missing.
    RunError
        The target cannot be written.
    """
    tell = on_event or ignore
    if to is not None and to not in LAYOUTS:
        raise OptionError(f"to is {to!r}; it must be one of {', '.join(LAYOUTS)}")
    sizes = None if chunks is None else np.atleast_1d(chunks).tolist()
    option = OPTIONS["missing_chunks"]
    given = option.default if missing_chunks is None else missing_chunks
    how: str = option.metadata["kind"].read(given, "missing_chunks")
    written = Target.at(target, overwrite)
    executor = choose_executor(client, executor)
    file = isinstance(source, (str, os.PathLike)) and needs_unpacking(source)
    opened = None if file else as_source(source, executor.dask_client)
    paths = [local_name(source)] if opened is None else opened.paths()
    written.refuse_to_hold(paths, within=not is_computed(opened))
    compare_versions(executor)
    for note in [] if opened is None else _check_chunks(opened, how):
        tell(Notice(note))
    most = None if memory is None else parse_bytes(memory, "memory")
    budget = Budget.of(most, executor.resources(), limits)
    with written.workplace() as place:
        if opened is None:
            to_folder = Unpacking(Path(place.scratch()), budget.task, _file_news(tell), limits)
            opened = unpack(local_name(source), to_folder)
        elif (columns := _columns_only(opened)) is not None:
            to_folder = Unpacking(Path(place.scratch()), budget.task, _file_news(tell), limits)
            opened = unpack_columns(columns, to_folder)
        kind = check_dtype(opened.dtype, dtype)
        job = Conversion(opened, kind, budget, place, executor, tell)
        layout = to or ("csr" if opened.is_sparse else "dense")
        result = job.to_csr(sizes) if layout == "csr" else job.to_dense(sizes)
        place.publish()
    return Converted(written.path, layout, opened.shape, kind, *result)


def _check_chunks(source: Source, how: str) -> list[str]:
    if not source.lazy:
        return check_whole(source, how)
    from dnmf.interop.dask_origins import check_origins  # what needs Dask

    return check_origins(source, how)


def _file_news(tell: Listener) -> Callable[[int, int], None]:
    def news(done: int, total: int) -> None:
        tell(Progress("stage", 0, done, total, 0, 0))

    return news


def _columns_only(source: Source) -> Source | None:
    """Return V' where V is sparse and its rows cannot be read (CSC), else None."""
    return None if source.by_rows else source.transposed()


@dataclass
class Conversion:
    """A conversion whose source is open and whose options are checked.

    Attributes
    ----------
    source : Source
    dtype : numpy.dtype
        Of the target.
    budget : Budget
    place : Workplace
        What it holds as ``new`` will be the target.
    executor : Executor
        Runs the tasks, where other processes reach both the source and the target.
    tell : callable
        Hears of progress.
    """

    source: Source
    dtype: np.dtype
    budget: Budget
    place: Workplace
    executor: Executor
    tell: Listener = ignore

    def to_dense(self, chunks: Sequence[int] | None) -> tuple[tuple[int, ...], None, int, int]:
        """Write one array; returns its chunks, no entries, decodes, and bytes."""
        source, shape = self.source, self.source.shape
        if is_computed(source):
            given = None if chunks is None else given_chunks(shape, chunks)
            grid = computed_grid(source, self.dtype.itemsize, given, self.budget)
            layout = DenseLayout(shape, self.dtype, grid.chunks)
            tasks = Rectangles(shape, *grid.unit)
        else:
            layout = dense_layout(source, self.dtype, chunks, self.budget)
            tasks = plan_rectangles(source, layout, self.budget)
        return layout.chunks, None, tasks.decodes, self.write_dense(layout, tasks)

    def write_dense(self, layout: DenseLayout, tasks: Rectangles) -> int:
        """Write one array as it was planned; returns its bytes."""
        self._warn(tasks.decodes)
        create_dense(self.place.new, layout)
        writer = DenseWriter(self.place.new, layout, self.budget.read_bytes)
        if is_computed(self.source):
            return sum(self._apply(self.source, writer.put, tasks.edges))
        work = DenseWork(self.source, writer, tasks)
        written: int = self._run(work, "convert", self.source.nbytes)
        return written

    def to_csr(self, chunks: Sequence[int] | None) -> tuple[tuple[int, ...], int, int, int]:
        """Write one CSR group; returns its chunks, entries, decodes, and bytes."""
        entries = self.budget.limits.entries
        if chunks is not None:
            if len(chunks) != 1 or chunks[0] < 1:
                raise OptionError(
                    f"chunks is {tuple(chunks)}; for CSR give one number, the stored entries "
                    f"of a chunk, as in {entries}"
                )
            entries = int(chunks[0])
        layout = CsrLayout(self.source.shape, self.dtype, entries)
        stack = self.place.folder("bands")
        bands, decodes = self.write_bands(stack, layout)
        assemble = AssembleWork(stack, self.place.new, layout, bands, self.budget.limits)
        create_csr(self.place.new, layout, assemble.entries)
        nbytes = assemble.entries * layout.per_entry + 8 * (layout.shape[0] + 1)
        self._run(assemble, "assemble", nbytes)
        return (entries,), assemble.entries, decodes, nbytes

    def to_stack(self, entries: int) -> None:
        """Write bands of CSR that a run reads as they are."""
        layout = CsrLayout(self.source.shape, self.dtype, entries)
        bands, _ = self.write_bands(self.place.new, layout)
        with self.place.explained():
            finish_stack(self.place.new, layout.shape[1], layout.dtype, bands)

    def write_bands(self, path: str, layout: CsrLayout) -> tuple[list[StoredBand], int]:
        """Write bands of CSR below ``path``; returns them, and decodes."""
        source, budget = self.source, self.budget
        entries = max(budget.limits.entries, layout.entries)
        if is_computed(source):
            edges = band_edges(source, self.dtype.itemsize, budget)
            create_stack(path)
            writer = BandWriter(path, layout, budget.read_bytes, budget.limits.band, entries)
            return [band for some in self._apply(source, writer.put, edges) for band in some], 1
        planned = plan_bands(source, layout, budget)
        self._warn(planned.decodes)
        create_stack(path)
        writer = BandWriter(path, layout, budget.read_bytes, planned.stored, entries)
        found = self._run(BandsWork(source, writer, planned), "convert", source.nbytes)
        return found, planned.decodes

    def _run(self, work: Work, kind: str, nbytes: int) -> Any:
        """Run a work, tell its progress, and return its result."""
        shared = self.place.reachable and self.source.persistent
        if not (shared or is_computed(self.source)):
            self.tell(
                Notice("converting in this process: others cannot reach the source or the target")
            )
        news = self._news(kind, work.segments, nbytes)
        runner = self.executor if shared else Serial()
        with self.place.explained():
            return runner.run_step(work, news).results[0]

    def _apply(
        self, source: Computed, function: Callable[..., Any], edges: tuple[list[int], list[int]]
    ) -> list[Any]:
        """Apply a function to the rectangles of V, where they are computed if possible."""
        limit, threads = self.budget.limit, self.budget.threads
        client = self.executor.dask_client
        total = (len(edges[0]) - 1) * (len(edges[1]) - 1)
        news = self._news("convert", total, 0)
        with self.place.explained():
            if self.place.reachable:
                return source.apply(function, edges, limit, threads, client, news)
            from dnmf.interop.dask_gather import gather

            return gather(
                cast("DaskArraySource", source),
                function,
                edges,
                threads,
                lambda done, total: news(done),
            )

    def _news(self, kind: str, total: int, nbytes: int) -> Callable[[int], None]:
        done = 0

        def on_done(index: int) -> None:
            nonlocal done
            done += 1
            self.tell(Progress(kind, 0, done, total, nbytes * done // total, nbytes))

        return on_done

    def _warn(self, decodes: int) -> None:
        if decodes > 2:
            self.tell(
                Notice(
                    f"every chunk of V is decoded up to {decodes} times: its chunks are too tall "
                    "for the memory of a task. More memory per worker makes that fewer"
                )
            )
