"""Staging: V that other processes cannot open is converted into the run, where all reach it."""

from __future__ import annotations

import os
import shutil

from dnmf.config import MIB
from dnmf.conversion.computed import computed_grid, is_computed
from dnmf.conversion.grid import dense_grid
from dnmf.conversion.job import Conversion
from dnmf.conversion.limits import ConversionLimits
from dnmf.conversion.plan import Budget, DenseLayout, Rectangles, plan_rectangles
from dnmf.conversion.target import Target
from dnmf.errors import RunError
from dnmf.runs.files import sync_folder
from dnmf.runs.folder import FolderStore
from dnmf.runs.layout import STAGED_V
from dnmf.sources import from_spec
from dnmf.sources.base import Source
from dnmf.steps.work import Executor
from dnmf.values import format_bytes

__all__ = ["STAGING", "stage"]

STAGING = ConversionLimits(band=64 * MIB, entries=1 << 20, read_bytes=8 * MIB)
"""How V is cut: with other sizes a fit cuts other blocks, and has other bits."""


def stage(
    source: Source,
    store: FolderStore,
    executor: Executor,
    name: str = STAGED_V,
    limits: ConversionLimits = STAGING,
) -> Source:
    """Convert V into the run folder and return it as a source that all processes can open.

    A Dask array is written by the workers of a cluster, every chunk by one that computes it;
    anything else by this process. Dense V becomes one Zarr array, uncompressed; CSR becomes
    bands (`dnmf.sources.stacked`). It is there as a whole or not at all: what an attempt that
    died has left has another name.

    Parameters
    ----------
    source : Source
        Not persistent.
    store : FolderStore
        Of the new run.
    executor : Executor
        Its cluster, if it has one, computes Dask arrays.
    name : str
        Of what is written, in the run's own folder.
    limits : ConversionLimits

    Raises
    ------
    InputError
        V cannot be computed.
    MemoryPlanError
        A chunk is too large for a worker.
    ClusterError
        The cluster vanished, or workers died while they computed V.
    RunError
        It cannot be written.
    """
    folder, computed = store.state_folder, is_computed(source)
    if not (computed and source.is_sparse):  # whose entries would be counted first
        check_room(folder, source.nbytes)
    task = 8 * limits.band if source.is_sparse else limits.task_bytes
    budget = Budget(task, None, 1, limits, firm=False)
    if computed:
        budget = Budget.of(None, executor.resources(), limits)
    with Target.in_run(folder, name).workplace() as place:
        job = Conversion(source, source.dtype, budget, place, executor)
        if source.is_sparse:
            job.to_stack(limits.entries)
        else:
            job.write_dense(*_dense(source, budget))
        place.publish()
    sync_folder(folder)
    kind = "stacked" if source.is_sparse else "zarr"
    return from_spec({"kind": kind, "location": os.path.join(folder, name)})


def check_room(folder: str, nbytes: int) -> None:
    """Refuse what cannot fit on the file system.

    Raises
    ------
    RunError
        With the numbers.
    """
    free = shutil.disk_usage(folder).free
    if nbytes > free:
        raise RunError(
            f"V is to be written to {folder}, so that all workers can read it; it takes "
            f"{format_bytes(nbytes)}, but {format_bytes(free)} are free there. Make room, give "
            "another out=, or give V as a path of a Zarr array"
        )


def _dense(source: Source, budget: Budget) -> tuple[DenseLayout, Rectangles]:
    """Choose chunks that a fit reads well, and tasks that write them."""
    shape, dtype = source.shape, source.dtype
    if is_computed(source):
        grid = computed_grid(source, dtype.itemsize, None, budget)
        layout = DenseLayout(shape, dtype, grid.chunks, compressed=False)
        return layout, Rectangles(shape, *grid.unit)
    grid = dense_grid(shape, dtype.itemsize, (1, shape[1]), budget.limits)
    layout = DenseLayout(shape, dtype, grid.chunks, compressed=False)
    return layout, plan_rectangles(source, layout, budget)
