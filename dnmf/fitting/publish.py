"""Before and after the publish step: the result's arrays, and its root metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dnmf.fitting.context import Context
from dnmf.fitting.plan import Plan, chunk_rows
from dnmf.fitting.publish_work import assemble
from dnmf.fitting.state import ModelState
from dnmf.fitting.transitions import reason
from dnmf.fitting.versions import installed
from dnmf.linalg.blas import numeric_fingerprint
from dnmf.runs.published import create_arrays, finish

__all__ = ["finish_publication", "memory_arrays", "prepare_publication", "summary"]

COLUMNS = (
    "pass",
    "accepted",
    "objective",
    "divergence",
    "relative_error",
    "kkt_W",
    "kkt_H",
    "extrapolation",
    "bold",
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
    k, tall = plan.config.models[0].k, chunk_rows(plan)
    n, d = plan.shape
    if plan.mode == "transform":
        create_arrays(store.path, n, None, k, plan.dtype, tall)
    elif plan.axis == "rows":
        create_arrays(store.path, n, d, k, plan.dtype, tall)
    else:
        create_arrays(store.path, d, n, k, plan.dtype, d, chunk_columns=tall)


def finish_publication(context: Context, record: dict[str, Any]) -> None:
    """Write the history and the root metadata, then drop what the run no longer needs."""
    store = context.store
    assert store.path is not None
    history = {name: _column(record["history"], name) for name in COLUMNS}
    finish(store.path, summary(context.plan, record), {f: c for f, c in history.items() if c.size})
    store.drop([], record["index"])


def _column(history: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([row[name] for row in history if name in row])


def summary(plan: Plan, record: Mapping[str, Any]) -> dict[str, Any]:
    """What a result says of itself, as JSON."""
    state = ModelState.from_json(record["state"]["models"][0])
    scan = record["state"]["scan"] or {}
    best = [row for row in record["history"] if row["accepted"]]
    return {
        "mode": plan.mode,
        "config": plan.config.to_json(),
        "source": plan.description,
        "axis": plan.axis,
        "objective": best[-1]["objective"] if best else None,
        "relative_error": best[-1]["relative_error"] if best else None,
        "passes": len(record["history"]),
        "stop_reason": state.stop_reason or reason(dict(record)),
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
        "numeric": {**numeric_fingerprint(), "digests": record["state"]["numeric"]},
        "mixed_numeric": len(record["state"]["numeric"]) > 1,
        "versions": installed(),
        "executed": record["executed"],
    }


def memory_arrays(context: Context, record: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """W and H of a run in memory."""
    state = ModelState.from_json(record["state"]["models"][0])
    assert state.pair is not None
    if not state.pair.H:  # a transform: its H is the one that was given
        state.pair.H.extend(context.plan.start_H or [])
    return assemble(context.store, context.plan, state.pair)
