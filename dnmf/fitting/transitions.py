"""From one record to the next: what each kind of step means for the state of the fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from dnmf.fitting.checks import (
    check_entries,
    check_largest,
    check_objective,
    check_positive,
    check_scan,
    check_weights,
)
from dnmf.fitting.data.context import Context
from dnmf.fitting.schedule import first_phase, phase_after_race, phase_config, start_notes
from dnmf.fitting.state import ModelState, Pair, PassResult, advance
from dnmf.steps.work import Step

__all__ = ["AFTER", "names", "nothing", "passes", "reason"]

Record = dict[str, Any]


def nothing() -> Record:
    """What stands before the first record."""
    state: Record = {"models": None, "scan": None, "numeric": [], "phase": "full"}
    return {"index": -1, "state": state, "history": [], "sample_history": [], "done": False}


def names(record: Record) -> set[str]:
    """Names of the objects that the record needs."""
    scan, models = record["state"]["scan"], record["state"]["models"]
    kept: set[str] = set()
    if scan and not record["done"]:
        kept |= {scan["columns"][0], scan["checksums"][0], *(name for name, _ in scan["rows"])}
        # to its end, not to the end of the sample's passes: flushes of W may wait for what a file
        # system does with blocks that are deleted
        if not all(model["stop_reason"] for model in models or [{"stop_reason": None}]):
            kept |= {name for pieces in scan["sample"] for name, _ in pieces}
            kept |= {name for name, _ in scan["fixed_H"] or []}
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


def _after_scan(
    context: Context, step: Step, record: Record, results: list[Any], cost: dict[str, Any]
) -> Record:
    plan = context.plan
    scan = {**results[0], **results[1], "seconds": cost["seconds"], "fixed_H": plan.fixed_H}
    notes = [*check_scan(plan, scan), *start_notes(context, scan)]
    scan["resident"] = plan.sample >= 1
    starts = scan.pop("start_H")
    models = [ModelState(pair=None, next_H=H, start_W=plan.start_W).to_json() for H in starts]
    phase = first_phase(context, scan)
    state = {"models": models, "scan": scan, "numeric": scan.pop("numeric"), "phase": phase}
    return {**record, "state": state, "notes": notes}


def _after_race(
    context: Context, step: Step, record: Record, results: list[Any], cost: dict[str, Any]
) -> Record:
    models, rows = list(record["state"]["models"]), []
    for model in step.models:
        mine = [result for result in results[0] if result["model"] == model]
        best = min(mine, key=lambda result: (result["objective"], result["start"]))
        weights = best["W_sums"]
        models[model] = ModelState(pair=None, next_H=best["H"], weights=weights).to_json()
        for result in mine:
            facts = {name: result[name] for name in ("model", "start", "objective", "passes")}
            won = {"won": result is best, "step": step.index}
            rows.append({"kind": "race", **facts, **won, **cost})
    state = {
        **record["state"],
        "models": models,
        "phase": phase_after_race(context),
    }
    return {**record, "state": state, "sample_history": [*record["sample_history"], *rows]}


def _after_pass(
    context: Context, step: Step, record: Record, results: list[Any], cost: dict[str, Any]
) -> Record:
    plan, phase = context.plan, record["state"]["phase"]
    config = phase_config(plan.config, phase)
    models, rows = list(record["state"]["models"]), []
    for position, model in enumerate(step.models):
        before = ModelState.from_json(models[model])
        found = _pass_result(position, results)
        if before.pair is None:
            check_objective(plan, found.pair.objective)
        after, accepted = advance(before, found, config, plan.dtype)
        models[model] = after.to_json()
        rows.append(
            {
                "model": model,
                "step": step.index,
                "pass": after.passes,
                "accepted": accepted,
                **_figures(found),
                "extrapolation": before.beta,
                "extrapolated": before.extrapolated is not None,
                "revived": len(found.revived) if accepted else 0,
                **_held_out(results[0]["models"][position], found.size),
                "bytes_read": results[0]["bytes_read"],
                **cost,
            }
        )
    numeric = sorted({*record["state"]["numeric"], *results[0]["numeric"]})
    if phase == "sample" and all(model["stop_reason"] for model in models):
        models, phase = [_leave_sample(model) for model in models], "full"
    state = {**record["state"], "models": models, "numeric": numeric, "phase": phase}
    kept = "history" if step.over == "all" else "sample_history"
    return {**record, "state": state, kept: [*record[kept], *rows]}


def _leave_sample(model: Record) -> Record:
    """The start on all of V of a model that was fitted to the sample."""
    weights = model["pair"]["W_sums"] if model["pair"] else None
    return ModelState(pair=None, next_H=model["next_H"], weights=weights).to_json()


def _held_out(small: dict[str, Any], size: float) -> dict[str, float]:
    """The loss where nothing was fitted, against V there, and its entries."""
    if small["held"] is None:
        return {}
    error, scale, entries = small["held"]
    return {"held_out": error / scale if scale > 0 else math.nan, "held_entries": entries}


def _figures(found: PassResult) -> dict[str, float]:
    size = math.sqrt(found.size) or 1.0  # of a fold whose rows and columns have zeros only
    return {
        "objective": found.pair.objective,
        "divergence": found.divergence,
        "relative_error": math.sqrt(2 * found.divergence) / size,
        "kkt_W": found.kkt_W / size,
        "kkt_H": found.kkt_H / size,
        "sweeps": found.sweeps,
    }


def _pass_result(position: int, results: list[Any]) -> PassResult:
    small, starts = results[0]["models"][position], results[0]["starts"]
    slabs = [piece[position] for piece in results[1:]]
    components = range(len(small["W_norms"]))
    pair = Pair(
        W=results[0]["W"][position],
        W_starts=starts,
        H=[slab["H"] for slab in slabs],
        objective=small["objective"],
        WtW=small["WtW"],
        WtV=[slab["WtV"] for slab in slabs],
        share=[sum(slab["share"][j] for slab in slabs) for j in components],
        peak=[max((s["peak"][j] for s in slabs), key=lambda p: p[0])[1] for j in components],
        W_norms=small["W_norms"],
        W_sums=small["W_sums"],
    )
    kkt_H = math.sqrt(sum(slab["kkt"] for slab in slabs))
    return PassResult(
        pair=pair,
        next_H=[slab["next_H"] for slab in slabs],
        revived=small["revived"],
        kkt_W=math.sqrt(small["kkt"]),
        kkt_H=kkt_H,
        gain=sum(slab["gain"] for slab in slabs),
        sweeps=small["sweeps"],
        divergence=small["divergence"],
        size=small["size"],
        extrapolated=[slab["extrapolated"] for slab in slabs] if slabs[0]["extrapolated"] else None,
        extrapolates=small["extrapolates"] and not slabs[0]["extrapolated"],
        entrywise=small["entrywise"],
    )


def _after_transform(
    context: Context, step: Step, record: Record, results: list[Any], cost: dict[str, Any]
) -> Record:
    found = results[0]
    check_weights(context.plan, found["bad_weights"], found["first_bad_weight"])
    check_entries(context.plan, found["bad"], found["first_bad"])
    check_largest(context.plan, found["largest"])
    check_positive(context.plan, found["nonzeros"])
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
    state = {**record["state"], "models": [model.to_json()], "numeric": found["numeric"]}
    row = {
        "model": 0,
        "pass": 1,
        "accepted": True,
        "objective": found["objective"],
        "relative_error": found["relative_error"],
        "bytes_read": found["bytes_read"],
        **cost,
    }
    return {**record, "state": state, "history": [row]}


def _after_publish(
    context: Context, step: Step, record: Record, results: list[Any], cost: dict[str, Any]
) -> Record:
    return {**record, "done": True}


AFTER: dict[str, Callable[[Context, Step, Record, list[Any], dict[str, Any]], Record]] = {
    "scan": _after_scan,
    "race": _after_race,
    "pass": _after_pass,
    "transform": _after_transform,
    "publish": _after_publish,
}
