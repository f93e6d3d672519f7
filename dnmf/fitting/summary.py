"""The metadata of a result: summaries, and the root attributes that make it one."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from dnmf.fitting.data.context import Context
from dnmf.fitting.kinds.publish import published
from dnmf.fitting.models.final import FinalFactors, component_order
from dnmf.fitting.record import Record
from dnmf.fitting.starts.agreement import agreement, remark
from dnmf.fitting.stopping import worth
from dnmf.fitting.unsolved import open_rows_of
from dnmf.linalg.blas import numeric_fingerprint, roundings
from dnmf.planning.memory import predict_memory
from dnmf.planning.plan import Plan
from dnmf.planning.versions import installed
from dnmf.runs.published import finish

__all__ = ["batch_summary", "facts_of_models", "finish_publication", "memory_arrays", "summary"]

DATA = ("nonzeros", "zero_rows", "zero_columns", "total", "sumsq", "largest")

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
    "open_rows",
    "open_columns",
    "revived",
    "rounds",
    "predicted",
    "bytes_read",
    "seconds",
    "retries",
)


def finish_publication(context: Context, record: Record) -> None:
    """Write the history and the root metadata, then drop what the run no longer needs."""
    store = context.store
    assert store.path is not None
    if context.plan.config.batch:
        _finish_batch(context, record)
        store.drop([], record.index)
        return
    for m, group in published(context.plan):
        rows = _rows_of(record, m)
        history = {name: _column(rows, name) for name in COLUMNS}
        columns = {name: column for name, column in history.items() if column.size}
        facts, names = summary(context.plan, record, m), context.plan.columns
        finish(store.path, facts, columns, group=group, names=names)
    store.drop([], record.index)


def _finish_batch(context: Context, record: Record) -> None:
    """Write a Zarr group per model, its history as metadata: arrays would be thousands."""
    plan, path = context.plan, context.store.path
    assert path is not None
    columns = [name for name in COLUMNS if name in record.history[0]]
    for m, group in published(plan):
        rows = [{name: row[name] for name in columns} for row in _rows_of(record, m)]
        facts = {**summary(plan, record, m), "history_rows": rows, "executed": []}
        finish(path, facts, {}, group=group, one_of_many=True, names=plan.columns)
    finish(path, batch_summary(plan, record), {})


def _rows_of(record: Record, model: int) -> list[dict[str, Any]]:
    return [row for row in record.history if row["model"] == model]


def _column(history: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([row[name] for row in history if name in row])


def summary(plan: Plan, record: Record, model: int = 0) -> dict[str, Any]:
    """Return what a result says of itself, as JSON."""
    state = record.state.models[model] if record.state.models else None
    pair, why = (state.pair, state.stop) if state else (None, record.stop)
    rows = _rows_of(record, model)
    best = [row for row in rows if row["accepted"]]
    share = pair.share if pair else ()
    order = component_order(pair, plan.config.in_order) if pair and any(share) else ()
    solved = record.state.solved
    count = solved.open_rows if solved else open_rows_of(rows)
    open_rows = {} if count is None else {"open_rows": count}
    return {
        **_shared(plan, record),
        **open_rows,
        "objective": best[-1]["objective"] if best else None,
        "relative_error": best[-1]["relative_error"] if best else None,
        "passes": len(rows),
        "stop_reason": why.sentence if why else "",
        "stop_kind": why.kind if why else "",
        "seed": plan.config.models[model].seed,
        "starts": _starts(plan, record, model),
        "share": [max(share[j], 0.0) for j in order] or None,
        "executed": record.executed,
    }


def batch_summary(plan: Plan, record: Record) -> dict[str, Any]:
    """Return what a fit of many models says of itself: a line per model, and what they share."""
    steps = {row["step"]: row for row in record.history}
    read = plan.bytes_per_read + sum(row["bytes_read"] for row in steps.values())
    scan = record.state.scan
    return {
        **_shared(plan, record),
        "models": facts_of_models(plan, record),
        "bytes_read": read,
        "reads": read / max(plan.bytes_per_read, 1),
        "seconds": (scan.seconds if scan else 0.0) + _seconds(record),
        "executed": record.executed,
    }


def facts_of_models(plan: Plan, record: Record) -> list[dict[str, Any]]:
    """Return a line per model: what it is, how far it is, and how well it does."""
    lines = []
    for m, spec in enumerate(plan.config.models):
        rows = _rows_of(record, m)
        accepted = [row for row in rows if row["accepted"]]
        last = accepted[-1] if accepted else {}
        why = record.state.models[m].stop if record.state.models else None
        lines.append(
            {
                "model": m,
                **asdict(spec),
                "objective": last.get("objective"),
                "worth": _worth(plan, record, m),
                "relative_error": last.get("relative_error"),
                "held_out": last.get("held_out"),
                "held_entries": last.get("held_entries"),
                "passes": len(rows),
                "stop_reason": why.sentence if why else None,
                "starts": _starts(plan, record, m),
            }
        )
    return lines


def _worth(plan: Plan, record: Record, model: int) -> float | None:
    """Return what tol is a share of, for a model that has a pair."""
    state = record.state.models[model] if record.state.models else None
    if state is None or state.pair is None:
        return None
    return worth(state.pair.objective, state.of_means, plan.limits.stop.least_explained)


def _starts(plan: Plan, record: Record, model: int) -> dict[str, Any] | None:
    """Return how many starts of the model agreed, and a sentence where they end far apart."""
    rows = [row for row in record.sample_history if row["model"] == model]
    found = agreement(rows, plan.limits.stop)
    return None if found is None else {**found, "remark": remark(found)}


def _seconds(record: Record) -> float:
    """Return the seconds of all passes and races; a step of several models counts once."""
    steps = {row["step"]: row["seconds"] for row in record.history}
    on_sample = {row["step"]: row["seconds"] for row in record.sample_history}
    return float(sum({**on_sample, **steps}.values()))


def _shared(plan: Plan, record: Record) -> dict[str, Any]:
    """Return the facts that hold for every model."""
    scan, numeric = record.state.scan, list(record.state.numeric)
    return {
        "mode": plan.mode,
        "config": plan.config.to_json(),
        "source": plan.description,
        "source_spec": plan.source,
        "axis": plan.axis,
        "fingerprint": scan.digest if scan else None,
        "data": {name: getattr(scan, name) for name in DATA} if scan else {},
        "layout": {
            "shape": [plan.all_rows, plan.all_columns],
            "blocks": plan.blocks,
            "segments": plan.segments,
            "slabs": plan.slabs,
            "bytes_per_read": plan.bytes_per_read,
        },
        "memory_per_worker": predict_memory(plan, 1).total,
        "numeric": {**numeric_fingerprint(), "digests": numeric},
        "mixed_numeric": len(roundings(numeric)) > 1,
        "retries": record.retries,
        **_clipped(plan, record),
        "versions": installed(),
    }


def _clipped(plan: Plan, record: Record) -> dict[str, int]:
    """Return how many negative entries count as 0, where the caller allowed some."""
    found = record.state.solved or record.state.scan
    return {"clipped": found.clipped} if plan.config.clip and found else {}


def memory_arrays(
    context: Context, record: Record, model: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Assemble W and H of a run in memory; a transform has the H that was given."""
    plan, solved = context.plan, record.state.solved
    if solved is not None:
        W = np.concatenate([context.store.get(ref) for ref in solved.W])
        (ref,) = solved.H
        return W, context.store.get(ref)  # no second k x d
    pair = record.state.models[model].pair
    assert pair is not None
    return FinalFactors(context.store, plan, pair, record.state.scanned).assemble()
