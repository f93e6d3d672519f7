"""The result of a run in this process's memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dnmf.fitting.data.context import Context
from dnmf.fitting.kinds.publish import published
from dnmf.fitting.record import Record
from dnmf.fitting.summary import batch_summary, memory_arrays, summary
from dnmf.results.models import Models
from dnmf.results.result import Result

__all__ = ["result_in_memory"]


def result_in_memory(context: Context, record: Record) -> Result | Models:
    """Return W and H of a run that ended; of many models, those of each that saw all of V."""
    if not context.plan.config.batch:
        return _of_model(context, record, 0)
    results = [_of_model(context, record, m) for m, _ in published(context.plan)]
    return Models(None, True, results, batch_summary(context.plan, record))


def _of_model(context: Context, record: Record, model: int) -> Result:
    W, H = memory_arrays(context, record, model)
    facts = summary(context.plan, record, model)
    named = ("objective", "relative_error", "stop_reason", "config", "fingerprint", "versions")
    values: Mapping[str, Any] = {name: facts.pop(name) for name in named}
    history = [row for row in record.history if row["model"] == model]
    return Result.in_memory(
        W, H, history=history, details=facts, columns=context.plan.columns, **values
    )
