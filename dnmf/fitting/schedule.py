"""What to do next: scan, race, passes over the sample, passes over V, publish."""

from __future__ import annotations

from typing import Any

from dnmf.config import FitConfig
from dnmf.fitting.context import Context
from dnmf.fitting.race_work import race_share
from dnmf.fitting.state import ModelState
from dnmf.fitting.work import Step
from dnmf.losses.base import rounding_unit

__all__ = ["first_phase", "next_step", "phase_after_race", "phase_config", "wants_residual"]

SAMPLE_TOL = 1e-3
SAMPLE_PASSES = 30


def first_phase(context: Context, scan: dict[str, Any]) -> str:
    """Where a fit goes from the scan: ``"race"``, ``"sample"`` or ``"full"``."""
    plan = context.plan
    if not plan.sample or plan.config.init == "custom" or not sum(scan["sample_rows"]):
        return "full"
    return "race" if race_share(context, scan) else phase_after_race(context)


def phase_after_race(context: Context) -> str:
    """The sample, unless it holds every row: its passes are full ones."""
    return "sample" if context.plan.sample < 1 else "full"


def phase_config(config: FitConfig, phase: str) -> FitConfig:
    """The options by which passes of a phase stop."""
    if phase == "full":
        return config
    return config.replace(tol=max(config.tol, SAMPLE_TOL), max_passes=SAMPLE_PASSES)


def next_step(context: Context, record: dict[str, Any], attempt: str) -> Step | None:
    """The step after this record; None when nothing is left."""
    plan, state, index = context.plan, record["state"], record["index"] + 1
    everything = tuple(range(len(plan.config.models)))
    if state["models"] is None:
        kind = "scan" if plan.mode == "fit" else "transform"
        return Step(index, kind, everything, attempt)
    if state["phase"] == "race":
        return Step(index, "race", everything, attempt, rows="sample")
    states = [ModelState.from_json(model) for model in state["models"]]
    active = tuple(m for m in everything if states[m].stop_reason is None)
    if active:
        rows = "sample" if state["phase"] == "sample" else "all"
        residual = any(wants_residual(context, record, states[m]) for m in active)
        return Step(index, "pass", active, attempt, rows=rows, residual=residual)
    if not record["done"] and context.store.path is not None:
        return Step(index, "publish", everything, attempt)
    return None


def wants_residual(context: Context, record: dict[str, Any], state: ModelState) -> bool:
    """Whether the next pass computes residuals entry by entry: near the end, or near rounding."""
    config, scan = context.plan.config, record["state"]["scan"]
    sampling = record["state"]["phase"] == "sample"
    if not config.residuals:
        return False
    if state.passes + 1 >= config.max_passes and not sampling:
        return True
    if state.pair is None:
        return False
    objective = state.pair.objective
    unit = rounding_unit(scan["sample_sumsq" if sampling else "sumsq"], context.plan.dtype)
    near_rounding = objective < 1e3 * unit or config.tol * objective < 10 * unit
    near_end = state.remaining is not None and state.remaining <= 4 * config.tol * objective
    return near_rounding or (near_end and not sampling)
