"""From one record to the next: what each kind of step means for the state of the fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from dnmf.fitting.context import Context
from dnmf.fitting.state import ModelState, Pair, PassResult, advance, rounding_unit
from dnmf.fitting.validate import check_entries, check_scan
from dnmf.fitting.work import Step

__all__ = ["AFTER", "names", "nothing", "passes", "reason", "wants_residual"]

Record = dict[str, Any]


def nothing() -> Record:
    """What stands before the first record."""
    state = {"models": None, "scan": None, "numeric": []}
    return {"index": -1, "state": state, "history": [], "done": False}


def names(record: Record) -> set[str]:
    """Names of the objects that the record needs."""
    scan, models = record["state"]["scan"], record["state"]["models"]
    kept: set[str] = set()
    if scan and not record["done"]:
        kept |= {scan["columns"][0], scan["checksums"][0], *(name for name, _ in scan["rows"])}
    for model in models or []:
        kept |= set(ModelState.from_json(model).names())
    return kept


def passes(record: Record) -> int:
    """Passes over V so far."""
    return max((row["pass"] for row in record["history"]), default=0)


def reason(record: Record) -> str:
    """Why the fit stopped: a sentence (several models: of the last one to stop)."""
    models = record["state"]["models"] or []
    return str(models[-1]["stop_reason"]) if models else ""


def wants_residual(context: Context, record: Record, state: ModelState) -> bool:
    """Whether the next pass computes residuals entry by entry: near the end, or near rounding."""
    config, sumsq = context.plan.config, record["state"]["scan"]["sumsq"]
    if state.passes + 1 >= config.max_passes:
        return True
    if state.pair is None:
        return False
    objective, unit = state.pair.objective, rounding_unit(sumsq, context.plan.dtype)
    near_rounding = objective < 1e3 * unit or config.tol * objective < 10 * unit
    near_end = state.remaining is not None and state.remaining <= 4 * config.tol * objective
    return near_rounding or near_end


def _after_scan(
    context: Context, step: Step, record: Record, results: list[Any], cost: dict[str, Any]
) -> Record:
    plan = context.plan
    scan = {**results[0], **results[1], "seconds": cost["seconds"]}
    notes = check_scan(plan, scan)
    starts = scan.pop("start_H")
    models = [ModelState(pair=None, plain=H, warm=plan.start_W).to_json() for H in starts]
    state = {"models": models, "scan": scan, "numeric": scan.pop("numeric")}
    return {"state": state, "history": [], "done": False, "notes": notes}


def _after_pass(
    context: Context, step: Step, record: Record, results: list[Any], cost: dict[str, Any]
) -> Record:
    plan, scan = context.plan, record["state"]["scan"]
    models, rows = list(record["state"]["models"]), []
    for position, model in enumerate(step.models):
        before = ModelState.from_json(models[model])
        found = _pass_result(context, position, results)
        after, accepted = advance(before, found, scan["sumsq"], plan.config, plan.dtype)
        models[model] = after.to_json()
        rows.append(
            {
                "model": model,
                "pass": after.passes,
                "accepted": accepted,
                **_figures(found, scan["sumsq"]),
                "extrapolation": before.beta,
                "revived": len(found.revived) if accepted else 0,
                "bytes_read": results[0]["bytes_read"],
                **cost,
            }
        )
    numeric = sorted({*record["state"]["numeric"], *results[0]["numeric"]})
    state = {**record["state"], "models": models, "numeric": numeric}
    return {"state": state, "history": [*record["history"], *rows], "done": False}


def _figures(found: PassResult, sumsq: float) -> dict[str, float]:
    size = math.sqrt(sumsq)
    return {
        "objective": found.pair.objective,
        "relative_error": math.sqrt(2 * found.pair.objective) / size,
        "kkt_W": found.kkt_W / size,
        "kkt_H": found.kkt_H / size,
        "sweeps": found.sweeps,
    }


def _pass_result(context: Context, position: int, results: list[Any]) -> PassResult:
    small = results[0]["models"][position]
    slabs = [piece[position] for piece in results[1:]]
    components = range(len(small["W_norms"]))
    pair = Pair(
        W=results[0]["W"][position],
        W_starts=context.plan.row_starts,
        H=[slab["H"] for slab in slabs],
        objective=small["objective"],
        WtW=small["WtW"],
        WtV=[slab["WtV"] for slab in slabs],
        share=[sum(slab["share"][j] for slab in slabs) for j in components],
        peak=[max((s["peak"][j] for s in slabs), key=lambda p: p[0])[1] for j in components],
        W_norms=small["W_norms"],
    )
    kkt_H = math.sqrt(sum(slab["kkt"] for slab in slabs))
    return PassResult(
        pair=pair,
        plain=[slab["plain"] for slab in slabs],
        revived=small["revived"],
        kkt_W=math.sqrt(small["kkt"]),
        kkt_H=kkt_H,
        gain=sum(slab["gain"] for slab in slabs),
        sweeps=small["sweeps"],
    )


def _after_transform(
    context: Context, step: Step, record: Record, results: list[Any], cost: dict[str, Any]
) -> Record:
    found = results[0]
    check_entries(context.plan, found["bad"], found["first_bad"])
    assert context.plan.start_H is not None
    k = context.plan.config.models[0].k
    pair = Pair(
        W=found["W"],
        W_starts=context.plan.row_starts,
        H=context.plan.start_H,
        objective=found["objective"],
        WtW=["", ""],
        WtV=[],
        share=[0.0] * k,
        peak=list(range(k)),
        W_norms=[1.0] * k,
    )
    model = ModelState(pair, context.plan.start_H, stop_reason="every row of W was solved at H")
    state = {"models": [model.to_json()], "scan": None, "numeric": found["numeric"]}
    row = {
        "model": 0,
        "pass": 1,
        "accepted": True,
        "objective": found["objective"],
        "relative_error": found["relative_error"],
        "bytes_read": found["bytes_read"],
        **cost,
    }
    return {"state": state, "history": [row], "done": False}


def _after_publish(
    context: Context, step: Step, record: Record, results: list[Any], cost: dict[str, Any]
) -> Record:
    return {"state": record["state"], "history": record["history"], "done": True}


AFTER: dict[str, Callable[[Context, Step, Record, list[Any], dict[str, Any]], Record]] = {
    "scan": _after_scan,
    "pass": _after_pass,
    "transform": _after_transform,
    "publish": _after_publish,
}
