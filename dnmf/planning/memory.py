"""Memory as a quantity: what one worker will need at its peak, before anything runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from dnmf.config import MIB, ModelSpec, Resources
from dnmf.errors import MemoryPlanError
from dnmf.init.nndsvd import NNDSVD
from dnmf.linalg.tiles import padded_size
from dnmf.losses import Loss
from dnmf.planning.narrow import at_most, bytes_of_columns
from dnmf.planning.plan import Plan, chunk_rows, loss_shape
from dnmf.steps.work import Needs
from dnmf.values import format_bytes

__all__ = [
    "BASELINE",
    "MemoryNeed",
    "check_memory",
    "needs_of",
    "predict_memory",
]

BASELINE = 260 * MIB
"""A worker process after its imports and compiled kernels, measured on Linux x86-64."""

H_STEP_ARRAYS = 9
"""Arrays of a slab's size, float64, that the H-step has in memory at once."""

SPECKLED_ENTRY = 40
"""Bytes of an entry of a tile that is taken apart into what is seen and what is left out, with its
random number."""

UNEVEN_FOLDS = 1.2
"""A block's rows fall into folds at random: so many times their mean, at most."""

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


def needs_of(plan: Plan, in_memory: bool = False) -> Needs:
    """Return what a plan needs; ``in_memory`` says whether V is in the memory of this process."""
    return Needs(lambda threads: predict_memory(plan, threads).total, _most_tasks(plan), in_memory)


def _most_tasks(plan: Plan) -> int:
    """Return the most tasks that can run at a time: segments, or starts of a race."""
    starts = plan.config.n_init + (plan.config.n_init > 1)  # one from the singular vectors joins
    return max(plan.segments, starts * len(plan.config.models))


def predict_memory(plan: Plan, threads: int) -> MemoryNeed:
    """Predict the peak of a worker that runs ``threads`` tasks at a time, if there are so many."""
    plan, models = at_most(plan), plan.config.models
    threads = min(threads, _most_tasks(plan))
    sharing = [tuple(models[m] for m in group) for group in plan.read_groups] or [models]
    needs = [_predicted(plan, together, threads) for together in sharing]
    return max(needs, key=lambda need: need.total)


def _predicted(plan: Plan, models: tuple[ModelSpec, ...], threads: int) -> MemoryNeed:
    """Predict the peak with these models in every pass."""
    d, item = plan.shape[1], np.dtype(plan.dtype).itemsize
    k = sum(model.k for model in models)
    losses = [loss_shape(plan.config, model, plan.limits) for model in models]
    kd, several = k * d, len(models) > 1
    rows = sum(x.statistic_rows(model.k, d) for x, model in zip(losses, models, strict=True))
    fitting = plan.mode != "transform"
    beside = _padding(plan, models)
    # a task of the sample may go over more rows than one of V
    most = max(plan.largest_block[1], _sample_segment(plan) / plan.growth)
    sums = _sums(plan, losses, models, _entries(plan, most))
    if plan.config.holdout == "speckled":
        sums += SPECKLED_ENTRY * plan.limits.losses.speckled_tile
    elif any(model.fold is not None for model in models):
        sums += _held_out(plan, item)
    wait = rows * d * 8 if fitting else 0  # one segment's sums, until they are added
    tasks = [  # and what waits on the worker meanwhile
        (_pass_task(plan, item, sums, k, several), _waiting(plan, plan.segments) * wait),
        (_publish_task(plan, item), 0),
    ]
    of_models = zip(plan.config.models, plan.rounds, strict=True)
    spans = [(m.k, rounds.span) for m, rounds in of_models if rounds.most and m in models]
    r = sum(k * span for k, span in spans)
    if spans:  # a compressed V: of a block as the product gives it, and of a segment
        rows_of_Y = plan.largest_block[0] + max(b - a for a, b in pairwise(plan.row_starts))
        tasks[0] = (tasks[0][0] + rows_of_Y * r * item, tasks[0][1])
    if plan.sample:
        tasks_of_sample = plan.segments if plan.sample >= 1 else _sample_segments(plan)
        over_sample = _sample_task(plan, item, k, several) + sums
        tasks += [(over_sample, _waiting(plan, tasks_of_sample) * wait)]
        tasks += [(_scan_task(plan, item), 0), (_race_task(plan), 0)]
    per_task, waiting = max(tasks, key=lambda one: threads * one[0] + one[1])
    shared = kd * item * (2 if plan.sparse else 1) + kd * 8 + 4 * 8 * d  # H, sums of columns
    shared += beside * d * item + bytes_of_columns(plan)
    if several:  # stacked, and without the columns that are left out
        shared += 2 * kd * item
    widest = max(b - a for a, b in pairwise(plan.slab_starts))
    finish = (H_STEP_ARRAYS * k + 2 * (rows - k)) * widest * 8
    last = wait + threads * (finish - per_task)  # when all is added nothing is read
    if spans:
        shared += r * d * (item + 8) + (padded_size(r) * d * item if plan.sparse else 0)
        at_once = max(_rounds_task(plan, item, k, k * span) for k, span in spans)
        last = max(last, at_once - threads * per_task)
    reduction = max(waiting, last) if fitting else 0
    shared = max(shared, plan.opening - threads * per_task - reduction)  # before anything runs
    total = BASELINE + shared + threads * per_task + reduction
    return MemoryNeed(BASELINE, shared, per_task, reduction, total)


def _entries(plan: Plan, nbytes: float) -> int:
    """Return the most entries that so many bytes hold (of a sparse V with their columns)."""
    return int(nbytes) // (np.dtype(plan.stored_dtype).itemsize + (4 if plan.sparse else 0))


def _sums(plan: Plan, losses: list[Loss], models: tuple[ModelSpec, ...], entries: int) -> int:
    """Return the bytes of a segment's sums, of a block's part of them, and of scratch memory."""
    d, pairs = plan.shape[1], list(zip(losses, models, strict=True))
    dtype = np.dtype(plan.dtype)
    item = dtype.itemsize
    rows = sum(x.statistic_rows(model.k, d) for x, model in pairs)
    sums = rows * d * (item if plan.sparse else 8 + item) + rows * d * 8
    sums = sums if plan.mode != "transform" else 0
    sizes = d, entries, dtype, plan.sparse
    sums += max(
        (x.solve_bytes if plan.mode == "transform" else x.scratch_bytes)(model.k, *sizes)
        for x, model in pairs
    )
    return sums + _padding(plan, models) * d * item


def _padding(plan: Plan, models: tuple[ModelSpec, ...]) -> int:
    """Return the number of components that vectors are padded with."""
    return sum(padded_size(model.k) - model.k for model in models) if plan.sparse else 0


def _held_out(plan: Plan, item: int) -> int:
    """Return the bytes of a block's left-out columns, and of them in left-out rows, dense."""
    rows, block, _ = plan.largest_block
    folds, d = plan.config.folds, plan.shape[1]
    columns = 4 * _converted(plan, block, item) if plan.sparse else rows * d * item
    return int(UNEVEN_FOLDS * (columns / folds + rows * d * (item + 3 * 8) / folds**2))


def _waiting(plan: Plan, leaves: int) -> int:
    """Return the most sums that wait on one worker: all but one of every node on a way up."""
    fan_in, nodes, levels = plan.config.fan_in, leaves, 0
    while nodes > 1:
        nodes, levels = -(-nodes // fan_in), levels + 1
    return max(1, levels * (min(fan_in, leaves) - 1))


def _one_block(plan: Plan, item: int, more: int) -> int:
    """Return the bytes of a segment of one block: read, converted, then used with ``more``.

    One after the other, but half of what reading took may linger while a block is converted.
    """
    _, block, overhead = plan.largest_block
    if plan.stored_dtype == plan.dtype or plan.config.weights or plan.config.missing == "nan":
        return _block_bytes(plan, item) - min(more, overhead) + more
    used = _converted(plan, block, item)
    return max(block + overhead, block + used + overhead // 2, used + more + overhead // 2)


def _block_bytes(plan: Plan, item: int) -> int:
    """Return the bytes of the block in use, the one read ahead, and a copy in another dtype."""
    _, block, overhead = plan.largest_block
    ahead = 2 if plan.blocks > plan.segments else 1
    same = plan.stored_dtype == plan.dtype
    if plan.config.weights:  # what is picked from both is in the overhead
        return ahead * block + overhead
    if plan.config.missing == "nan":  # entries, columns, and which entries are observed
        return ahead * block + overhead + _converted(plan, block, item + 4 + 9)
    return ahead * block + overhead + (0 if same else _converted(plan, block, item))


def _converted(plan: Plan, nbytes: int, item: int) -> int:
    return nbytes * item // np.dtype(plan.stored_dtype).itemsize


def _pass_task(plan: Plan, item: int, sums: int, k: int, several: bool) -> int:
    """Predict a pass's task: blocks, V H', the sums, and W of a segment (old, new, as written)."""
    rows, copies = plan.largest_block[0], 4 if several else 3
    segment_rows = max(b - a for a, b in pairwise(plan.row_starts))
    work, of_segment = rows * k * (copies * item + 8) + sums, copies * segment_rows * k * item
    if plan.blocks == plan.segments:  # nothing is read meanwhile
        return _one_block(plan, item, work) + of_segment
    return _block_bytes(plan, item) + work + of_segment


def _rounds_task(plan: Plan, item: int, k: int, r: int) -> int:
    """Predict the task of all rounds of a model: its compressed V, W twice, and rows like H."""
    n, d = plan.shape
    of_V = n * (r * item + 8 * (2 * k + 1))  # W in float64, where rounding would hide what is left
    return of_V + 8 * d * (2 * r + H_STEP_ARRAYS * k)


def _publish_task(plan: Plan, item: int) -> int:
    """Predict the task of one chunk of the tall factor: its rows, a part of them, and encoded."""
    return 4 * chunk_rows(plan) * plan.config.total_k * item


def _scan_task(plan: Plan, item: int) -> int:
    """Predict a scan's task: blocks, and a segment's rows of the sample, single and joined."""
    sampled = int(max(plan.segment_bytes) * plan.growth * plan.sample)
    # of a V that is to be narrowed with the columns' numbers, and once more while they are joined
    columns = (16 if plan.left_out else 4) * 8 * plan.shape[1]
    if plan.blocks > plan.segments:
        return _block_bytes(plan, item) + 2 * sampled + columns
    sampled = (
        0 if plan.sample >= 1 else sampled
    )  # nothing is joined, and all rows are the block itself
    return _one_block(plan, item, sampled) + columns


def _sample_task(plan: Plan, item: int, k: int, several: bool) -> int:
    """Predict the task of a segment of the sample: rows joined to blocks, and W of them.

    A sample of all rows is read by passes over V, segment by segment.
    """
    whole, largest = _of_sample(plan)
    if plan.sample >= 1:
        tallest, copies = max(b - a for a, b in pairwise(plan.row_starts)), 4 if several else 3
        return int(largest + tallest * k * (2 * copies * item + 8))
    alone = largest >= plan.limits.sample_segment_bytes  # nothing is joined
    segment = _sample_segment(plan)
    rows = plan.shape[0] * plan.sample * segment / max(whole, 1)
    return int((1 if alone else 2) * segment + rows * k * (6 * item + 8))


def _of_sample(plan: Plan) -> tuple[float, float]:
    """Return decoded bytes of the sample, and of the most that a segment of V has in it."""
    share = plan.growth * plan.sample
    return plan.bytes_per_read * share, max(plan.segment_bytes) * share


def _sample_segment(plan: Plan) -> float:
    """Return decoded bytes of one segment of the sample; 0 where passes go over V instead."""
    if plan.sample >= 1:
        return 0.0
    (whole, largest), limit = _of_sample(plan), plan.limits.sample_segment_bytes
    return largest if largest >= limit else min(whole, limit + largest)


def _sample_segments(plan: Plan) -> int:
    """Return the most tasks that share the sample."""
    return min(plan.segments, int(_of_sample(plan)[0] / plan.limits.sample_segment_bytes) + 1)


def _race_task(plan: Plan) -> int:
    """Predict a fit in memory: its rows twice while they are picked, then arrays of the H-step.

    A search begins with half as many components again, one model at a time, and where it is
    tempered it takes the loss's own steps.
    """
    wide = [ModelSpec(model.k + model.k // 2, model.seed) for model in plan.config.models]
    k = max(model.k for model in wide)
    (whole, largest), rows = _of_sample(plan), plan.shape[0] * plan.sample
    # the sample is drawn, so that its size is known but for some per cent
    share = max(
        share_to_race(one, model.k, most * rows, most * whole)
        for one in ((plan, replace(plan, shape=(plan.shape[0], 1))) if plan.left_out else (plan,))
        for model in plan.config.models
        for most in (0.9, 1.0, 1.1)
    )
    if not share:
        return 0
    of_H = (H_STEP_ARRAYS + 1) * 8 * k * plan.shape[1]  # with the H to go back to
    nbytes = share * whole
    products_alone = not (loss_shape(plan.config).dear or plan.sparse)
    # what a pass over them takes besides: W and V H', or another order of the entries
    config, entries = plan.config, _entries(plan, 1.1 * nbytes / plan.growth)
    configs = [config, config.replace(solver=None)] if config.tempered else [config]
    sums = [
        _sums(plan, [loss_shape(asked, one, plan.limits)], (one,), entries)
        for asked in configs
        for one in wide
    ]
    fitting = (1.25 if products_alone else 1.75) * nbytes + of_H + max(sums)
    if plan.dtype == "float32":  # once more in float64, where float32 tells nothing
        fitting += 4 * min(nbytes, plan.limits.race.fewest_bytes)
    apart = nbytes if len(plan.config.models) > 1 else 0  # each model's are picked from those
    return int(max(2 * nbytes + largest, fitting) + apart)


def share_to_race(plan: Plan, k: int, rows: float, nbytes: float) -> float:
    """Decide on which share of the sample starts of k components race; 0: nothing is to be won.

    A tenth of the sample's rows (2% of V's by default), at least 50 per component and 4 MiB: so
    few bytes are quick to go over. Least squares takes at least 300 per component, or half of the
    sample, as noise hides components from fewer: on scaled counts, nine tenths of them noise, 133
    had every start end with 14 of 15 programmes, 200 two of five that left out a fold, 300 none.
    Losses that raise entries to powers take more time for each.

    Parameters
    ----------
    plan : Plan
    k : int
    rows, nbytes : float
        Rows and bytes of the sample.
    """
    config, limits = plan.config, plan.limits.race
    if config.beta is not None:
        nbytes = max(nbytes, limits.dear_entries * rows * plan.shape[1])
    rows_share = limits.scarce_rows * k / max(rows, 1)
    share = max(limits.share, rows_share, limits.fewest_bytes / max(nbytes, 1))
    if share >= 0.5:  # small data: the starts race on all of it
        worth = config.n_init > 1 or config.tempered or config.init in NNDSVD
        share = 1.0 if worth else 0.0
    elif not loss_shape(config).dear:
        share = max(share, min(0.5, limits.rows * k / rows))
    most = limits.most_bytes / max(nbytes, 1)
    if most < share and most * rows < limits.scarce_rows * k:  # rows are very long
        few = max(2 * k, limits.fewest_rows) / rows
        return min(share, max(most, few)) if config.init in NNDSVD else 0.0
    return min(share, most)


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
    return format_bytes(size, "MB")
