"""Plans of the columns with entries alone, where most columns of a sparse V have none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dnmf.config import MIB
from dnmf.planning.plan import Plan, loss_shape, slab_starts
from dnmf.planning.rounds import choose_rounds
from dnmf.runs.base import Refs
from dnmf.sources.base import INDEX_BYTES

__all__ = ["at_most", "bytes_of_columns", "narrowed", "worth_narrowing"]

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
    entries = plan.largest_block[1] // (np.dtype(plan.stored_dtype).itemsize + INDEX_BYTES)
    return bool(INDEX_BYTES * entries <= SUMS_BYTES * plan.config.total_k * unused)


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
    plan = replace(plan, shape=(n, used), slab_starts=slabs, left_out=d - used, fixed_H=fixed_H)
    return replace(plan, rounds=choose_rounds(plan, loss_shape(plan.config).compresses))


def at_most(plan: Plan) -> Plan:
    """Return the widest plan that steps after the scan can have, before V is read.

    A V of fewer entries than half its columns is narrowed for certain, unless the caller gave an H,
    which may have something in columns that V does not use.
    """
    given = plan.config.init == "custom" or plan.config.fixed
    most = plan.most_used
    if given or not most or not worth_narrowing(plan, most):
        return plan
    return narrowed(plan, most)


def bytes_of_columns(plan: Plan) -> int:
    """Return the bytes that columns left out take after all: their numbers, and H as a result.

    A chunk of H is in memory once more while it is encoded.
    """
    if not plan.left_out:
        return 0
    H = plan.all_columns * plan.config.total_k * np.dtype(plan.dtype).itemsize
    return 4 * plan.all_columns + H + min(H, ENCODED_BYTES)
