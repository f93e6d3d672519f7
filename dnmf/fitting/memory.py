"""Memory as a quantity: what one worker will need at its peak, before anything runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnmf.config import MIB, Resources
from dnmf.errors import MemoryPlanError
from dnmf.fitting.plan import Plan

__all__ = ["BASELINE", "MemoryNeed", "check_memory", "predict_memory"]

BASELINE = 260 * MIB
"""A worker process after its imports and compiled kernels, measured on Linux x86-64."""

USABLE = 0.7
"""Share of a worker's limit that may be planned: Dask begins to spill at 0.6 to 0.7."""


@dataclass(frozen=True)
class MemoryNeed:
    """Predicted peak of one worker process, in bytes.

    Attributes
    ----------
    baseline : int
        The process after its imports.
    shared : int
        H in the forms that all tasks of a process share.
    per_task : int
        Blocks (one decoded, one read ahead), W, V H' and sums of one running task.
    reduction : int
        Partial sums that wait on a worker to be added.
    total : int
    """

    baseline: int
    shared: int
    per_task: int
    reduction: int
    total: int


def predict_memory(plan: Plan, threads: int) -> MemoryNeed:
    """Predict the peak of a worker that runs ``threads`` tasks at a time."""
    k, d = plan.config.total_k, plan.shape[1]
    item = np.dtype(plan.dtype).itemsize
    kd = k * d
    rows, block, overhead = plan.largest_block
    segment_rows = max(b - a for a, b in zip(plan.row_starts, plan.row_starts[1:], strict=False))
    ahead = 2 if plan.blocks > plan.segments else 1
    converted = block * item // np.dtype(plan.stored_dtype).itemsize
    same = plan.stored_dtype == plan.dtype
    blocks = ahead * block + overhead + (0 if same else converted)
    products = rows * k * (item + 8)
    W = 3 * segment_rows * k * item
    sums = kd * (item if plan.sparse else 8 + item) + kd * 8
    if plan.mode == "transform":
        sums = 0
    per_task = blocks + products + W + sums
    shared = kd * item * (2 if plan.sparse else 1) + kd * 8
    reduction = 0 if plan.mode == "transform" else (plan.config.fan_in + 1) * kd * 8
    total = BASELINE + shared + threads * per_task + reduction
    return MemoryNeed(BASELINE, shared, per_task, reduction, total)


def check_memory(plan: Plan, resources: Resources) -> MemoryNeed:
    """Predict, and refuse what cannot fit.

    Raises
    ------
    MemoryPlanError
        With the parts of the prediction, the limit, and what to change.
    """
    need = predict_memory(plan, resources.threads)
    limit = resources.memory_limit
    if limit is None or need.total <= USABLE * limit:
        return need
    raise MemoryPlanError(
        f"a worker would need {_mb(need.total)} (imports {_mb(need.baseline)}, "
        f"H {_mb(need.shared)}, {resources.threads} task(s) of {_mb(need.per_task)}, "
        f"sums {_mb(need.reduction)}), but may plan with "
        f"{_mb(int(USABLE * limit))} ({USABLE:.0%} of its limit of {_mb(limit)}). "
        f"{_remedy(plan, need, resources)}"
    )


def _remedy(plan: Plan, need: MemoryNeed, resources: Resources) -> str:
    limit = int(need.total / USABLE) + 1
    advice = [f"give each worker {_mb(limit)} (--memory)"]
    if resources.threads > 1:
        advice.append("use fewer threads per worker (--threads 1)")
    rows, block, _ = plan.largest_block
    if block > 8 * MIB and rows > 1:
        advice.append(f"use smaller blocks than {_mb(block)} (--block-size, or dnmf convert)")
    if need.reduction > need.per_task // 4:
        advice.append("fewer components (k)")
    return "Remedies: " + "; ".join(advice)


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
