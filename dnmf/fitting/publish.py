"""Before and after the publish step: the result's arrays, and its root metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from dnmf.fitting.data.context import Context
from dnmf.fitting.kinds.publish import assemble, component_order, published
from dnmf.fitting.state import ModelState
from dnmf.fitting.transitions import reason
from dnmf.linalg.blas import numeric_fingerprint, roundings
from dnmf.planning.memory import predict_memory
from dnmf.planning.plan import Plan, chunk_rows
from dnmf.planning.versions import installed
from dnmf.results.models import facts_of_models
from dnmf.runs.published import create_arrays, finish

__all__ = ["batch_summary", "finish_publication", "memory_arrays", "prepare_publication", "summary"]

COLUMNS = (
    "pass",
    "accepted",
    "objective",
    "divergence",
    "relative_error",
    "kkt_W",
    "kkt_H",
    "extrapolation",
    "extrapolated",
    "sweeps",
    "revived",
    "bytes_read",
    "seconds",
    "retries",
)


def prepare_publication(context: Context) -> None:
    """Create W and H of the result (again: the same)."""
    plan, store = context.plan, context.store
    assert store.path is not None
    tall = chunk_rows(plan)
    n, d = plan.shape
    for m, group in published(plan):
        k = plan.config.models[m].k
        if plan.mode == "transform":
            create_arrays(store.path, n, None, k, plan.dtype, tall, group=group)
        elif plan.axis == "rows":
            create_arrays(store.path, n, d, k, plan.dtype, tall, group=group)
        else:
            create_arrays(store.path, d, n, k, plan.dtype, d, chunk_columns=tall, group=group)


def finish_publication(context: Context, record: dict[str, Any]) -> None:
    """Write the history and the root metadata, then drop what the run no longer needs."""
    store = context.store
    assert store.path is not None
    if context.plan.config.batch:
        _finish_batch(context, record)
        store.drop([], record["index"])
        return
    for m, group in published(context.plan):
        rows = _rows_of(record, m)
        history = {name: _column(rows, name) for name in COLUMNS}
        columns = {name: column for name, column in history.items() if column.size}
        finish(store.path, summary(context.plan, record, m), columns, group=group)
    store.drop([], record["index"])


def _finish_batch(context: Context, record: dict[str, Any]) -> None:
    """A group per model with its history as rows of metadata: arrays would be thousands."""
    plan, path = context.plan, context.store.path
    assert path is not None
    kept = [name for name in COLUMNS if name in record["history"][0]]
    for m, group in published(plan):
        rows = [{name: row[name] for name in kept} for row in _rows_of(record, m)]
        facts = {**summary(plan, record, m), "history_rows": rows, "executed": []}
        finish(path, facts, {}, group=group, one_of_many=True)
    finish(path, batch_summary(plan, record), {})


def _rows_of(record: Mapping[str, Any], model: int) -> list[dict[str, Any]]:
    return [row for row in record["history"] if row["model"] == model]


def _column(history: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([row[name] for row in history if name in row])


def summary(plan: Plan, record: Mapping[str, Any], model: int = 0) -> dict[str, Any]:
    """What a result says of itself, as JSON."""
    state = ModelState.from_json(record["state"]["models"][model])
    rows = _rows_of(record, model)
    best = [row for row in rows if row["accepted"]]
    share = state.pair.share if state.pair else []
    order = component_order(state.pair, plan.config.placed) if state.pair and any(share) else ()
    return {
        **_shared(plan, record),
        "objective": best[-1]["objective"] if best else None,
        "relative_error": best[-1]["relative_error"] if best else None,
        "passes": len(rows),
        "stop_reason": state.stop_reason or reason(dict(record)),
        "seed": plan.config.models[model].seed,
        "share": [max(share[j], 0.0) for j in order] or None,
        "executed": record["executed"],
    }


def batch_summary(plan: Plan, record: Mapping[str, Any]) -> dict[str, Any]:
    """What a fit of many models says of itself: each model in a line, and what they shared."""
    steps = {row["step"]: row for row in record["history"]}
    read = plan.bytes_per_read + sum(row["bytes_read"] for row in steps.values())
    scan = record["state"]["scan"] or {}
    specs = [asdict(model) for model in plan.config.models]
    return {
        **_shared(plan, record),
        "models": facts_of_models(record, specs),
        "bytes_read": read,
        "reads": read / max(plan.bytes_per_read, 1),
        "seconds": scan.get("seconds", 0.0) + _seconds(record),
        "executed": record["executed"],
    }


def _seconds(record: Mapping[str, Any]) -> float:
    """Of all passes and races, each step once."""
    steps = {row["step"]: row["seconds"] for row in record["history"]}
    kept = {row["step"]: row["seconds"] for row in record["sample_history"]}
    return float(sum({**kept, **steps}.values()))


def _shared(plan: Plan, record: Mapping[str, Any]) -> dict[str, Any]:
    """What is the same for every model."""
    scan = record["state"]["scan"] or {}
    return {
        "mode": plan.mode,
        "config": plan.config.to_json(),
        "source": plan.description,
        "source_spec": plan.source,
        "axis": plan.axis,
        "fingerprint": scan.get("digest"),
        "data": {
            name: scan[name]
            for name in ("nonzeros", "zero_rows", "zero_columns", "total", "sumsq", "largest")
            if name in scan
        },
        "layout": {
            "shape": list(plan.shape),
            "blocks": plan.blocks,
            "segments": plan.segments,
            "slabs": plan.slabs,
            "bytes_per_read": plan.bytes_per_read,
        },
        "memory_per_worker": predict_memory(plan, 1).total,
        "numeric": {**numeric_fingerprint(), "digests": record["state"]["numeric"]},
        "mixed_numeric": len(roundings(record["state"]["numeric"])) > 1,
        "retries": record.get("retries", 0),  # a run that an earlier version began has none
        "versions": installed(),
    }


def memory_arrays(
    context: Context, record: Mapping[str, Any], model: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """W and H of a run in memory."""
    state = ModelState.from_json(record["state"]["models"][model])
    assert state.pair is not None
    if not state.pair.H:  # a transform: its H is the one that was given
        state.pair.H.extend(context.plan.start_H or [])
    return assemble(context.store, context.plan, state.pair)
