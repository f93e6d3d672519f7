"""Plans of the columns with entries alone, where most columns of a sparse V have none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from dnmf.config import MIB
from dnmf.planning.plan import Plan, loss_shape, slab_starts
from dnmf.planning.rounds import choose_rounds
from dnmf.runs.base import Refs
from dnmf.sources.base import INDEX_BYTES

__all__ = ["FEW", "at_most", "bytes_of_columns", "columns_of", "narrowed", "worth_narrowing"]

FEW = 4
"""Columns that a transform goes over are few where V has so many times more."""

SUMS_BYTES = 12
"""Bytes that a task takes at least for one component of one column: of H', and of its sums."""

ENCODED_BYTES = 32 * MIB
"""Most bytes of a chunk of H in the result."""


def worth_narrowing(plan: Plan, used: int) -> bool:
    """Return whether steps after the scan go over the ``used`` columns with entries alone.

    Where most columns have some, leaving the others out saves little. A block's entries get other
    column numbers, which must not take more than the columns that are left out: else the plan's
    memory, which was predicted before V was read, would be too little.
    """
    unused = plan.shape[1] - used
    if plan.mode != "fit" or not plan.sparse or not used or not unused:
        return False
    times = plan.limits.times_used
    if not times or times * used > plan.shape[1]:
        return False
    return bool(INDEX_BYTES * _entries(plan) <= SUMS_BYTES * plan.config.total_k * unused)


def narrowed(plan: Plan, used: int, fixed_H: Refs | None = None) -> Plan:
    """Return the plan of the ``used`` columns alone; one that is narrow already stays.

    Parameters
    ----------
    plan : Plan
    used : int
    fixed_H : tuple of ObjectRef, optional
        The given rows of H in these columns.
    """
    if plan.left_out:
        return plan
    n, d = plan.shape
    slabs = slab_starts(plan.config, plan.limits, used)
    sizes: dict[str, Any] = {"shape": (n, used), "slab_starts": slabs, "left_out": d - used}
    plan = replace(plan, **sizes, fixed_H=fixed_H)
    return replace(plan, rounds=choose_rounds(plan, loss_shape(plan.config).compresses))


def columns_of(H: np.ndarray) -> np.ndarray:
    """Return the columns of H that have something, rising."""
    found = np.zeros(H.shape[1], bool)
    for row in H:  # no second k x d, of truth values
        found |= row != 0
    return np.flatnonzero(found)


def at_most(plan: Plan) -> Plan:
    """Return the widest plan that steps after the scan can have, before V is read.

    A V of fewer entries than half its columns is narrowed for certain, unless the caller gave an H,
    which may have something in columns that V does not use. A transform goes over the columns in
    which H has something, and those of a block.
    """
    if plan.mode == "transform":
        few = plan.support + _entries(plan)
        fits = plan.sparse and plan.support and FEW * few <= plan.shape[1]
        return narrowed(plan, few) if fits and plan.limits.times_used else plan
    given = plan.config.init == "custom" or plan.config.fixed
    most = plan.most_used
    if given or not most or not worth_narrowing(plan, most):
        return plan
    return narrowed(plan, most)


def _entries(plan: Plan) -> int:
    """Return the most entries of a block."""
    return plan.largest_block[1] // (np.dtype(plan.stored_dtype).itemsize + INDEX_BYTES)


def bytes_of_columns(plan: Plan) -> int:
    """Return the bytes that columns (or rows) left out take after all.

    These are their numbers, and the factor that has them: as a result in memory, or as that of a
    transform. A chunk of it is in memory once more while it is written.
    """
    if not (plan.left_out or plan.empty_rows):
        return 0
    lines = plan.all_columns if plan.left_out else plan.all_rows
    factor = lines * plan.config.total_k * np.dtype(plan.dtype).itemsize
    if plan.mode == "transform":
        return factor + 2 * lines
    numbers = 4 * lines if plan.left_out else 16 * plan.shape[0]
    # of rows that are left out the task that publishes them counts their chunk
    chunk = min(factor, ENCODED_BYTES) if plan.left_out else 0
    return numbers + (3 * chunk if plan.published else factor + chunk)
