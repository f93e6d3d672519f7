"""The data of a run: V and its weights as one source, where they are kept, and their plan."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from dnmf.config import FitConfig, Resources
from dnmf.errors import InputError
from dnmf.interop import as_source
from dnmf.launch.request import Request
from dnmf.launch.room import memory_here
from dnmf.planning.evaluation import with_evaluations
from dnmf.planning.memory import MemoryNeed, needs_of
from dnmf.planning.narrow import columns_of
from dnmf.planning.plan import Plan, make_plan
from dnmf.planning.read_groups import with_read_groups
from dnmf.planning.report import PlanReport
from dnmf.runs.folder import FolderStore
from dnmf.runs.layout import STAGED, STAGED_V, STAGED_WEIGHTS
from dnmf.sources.base import Source
from dnmf.sources.checks import masked_array
from dnmf.sources.missing import check_whole
from dnmf.sources.weighted import WeightedSource
from dnmf.steps.work import Executor

__all__ = [
    "drop_staged",
    "evaluated_here",
    "lay_out",
    "matrix",
    "offered",
    "place",
    "plan_report",
]


def matrix(
    V: Any, weights: Any, missing: str | None, client: Any = None, executor: Executor | None = None
) -> Source:
    """Make one source of V and its weights, if it has some; ``executor`` runs them, if given.

    Chunks of unknown sizes that are computed for these stay in memory for the run, if it is of this
    process and they take no more than a third of it: they are copied from there.
    """
    room = 0
    if executor is not None and executor.in_process:
        room = memory_here(executor.resources()) // (3 if weights is None else 6)
    if weights is None:
        return as_source(V, client, room)
    return WeightedSource(as_source(V, client, room), _weights(weights, client, room), missing)


def _weights(weights: Any, client: Any, room: int) -> Source:
    """Make a source of the weights; an error about them names them, not V."""
    if isinstance(weights, np.ma.MaskedArray):
        raise masked_array("weights", "weights")
    try:
        return as_source(weights, client, room)
    except InputError as error:
        one_each = False
        with suppress(Exception):  # of a dataset whose file was closed
            one_each = weights.ndim == 1
        remedy = (
            ". For one number per row give a matrix: np.broadcast_to(weights[:, None], V.shape)"
            if one_each
            else ""
        )
        text = re.sub(r"\bV\b", "weights", str(error))
        raise type(error)(f"weights: {text}{remedy}") from error


def place(
    source: Source, config: FitConfig, mode: str, store: FolderStore, executor: Executor
) -> Source:
    """Bring V to where the workers find it: into their memory, or once into the run."""
    for part in source.parts:
        if not part.persistent:  # copies have all their chunks, zeros too
            check_whole(part, config.missing_chunks)
    if len(source.parts) == 2:
        V, weights = source.parts
        V = V if V.persistent else _staged(V, config, store, executor)
        if not weights.persistent:
            weights = _staged(weights, config, store, executor, STAGED_WEIGHTS)
        return WeightedSource(V, weights, config.missing)
    if source.lazy:
        from dnmf.interop.in_cluster import in_cluster_if_it_fits

        in_cluster = in_cluster_if_it_fits(source, config, mode, executor)
        if in_cluster is not None:
            return in_cluster
    return _staged(source, config, store, executor)


def _staged(
    source: Source,
    config: FitConfig,
    store: FolderStore,
    executor: Executor,
    name: str = STAGED_V,
) -> Source:
    from dnmf.conversion.staging import stage  # few fits stage anything: 12 modules for those alone

    return stage(source, store, executor, name)


def lay_out(
    source: Source, request: Request, executor: Executor
) -> tuple[Plan, Source, MemoryNeed]:
    """Make the plan, the source as it will be read, and the memory that the plan needs."""
    laid_out, oriented = make_plan(source, request.config, request.mode)
    H = request.given.H if request.mode == "transform" else None
    support = 0 if H is None else columns_of(H).size
    laid_out = replace(laid_out, support=support, published=request.out is not None)
    laid_out, need = with_read_groups(laid_out, offered(executor, laid_out, source))
    return laid_out, oriented, need


def evaluated_here(source: Source, executor: Executor) -> bool:
    """Return whether this process computes lazy data, once, before the run reads them."""
    return source.lazy and executor.in_process


def plan_report(
    source: Source, config: FitConfig, executor: Executor, resources: Resources | None
) -> PlanReport:
    """Lay a run out for people, on these resources or on what the executor has."""
    serial = executor.in_process if resources is None else resources.serial
    here = serial and source.lazy
    seen = source
    if here:
        from dnmf.launch.evaluation import foreseen

        seen = foreseen(source, config.missing, count=True)
    laid_out, _ = make_plan(seen, config)
    there = resources or offered(executor, laid_out, seen)
    laid_out, need = with_read_groups(laid_out, there)
    if not here:
        return PlanReport(laid_out, there, need)
    from dnmf.launch.evaluation import evaluations_of

    found = evaluations_of(source, config, need, there)
    return PlanReport(laid_out, there, with_evaluations(need, found), found)


def offered(executor: Executor, plan: Plan, source: Source) -> Resources:
    """Ask the executor what it offers to this plan."""
    return executor.resources(needs_of(plan, source.in_memory))


def drop_staged(store: FolderStore) -> None:
    """Delete the run's own copy of V, which a finished run no longer needs."""
    for name in STAGED:
        shutil.rmtree(os.path.join(store.state_folder, name), ignore_errors=True)
