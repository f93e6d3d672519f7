"""What to do next: scan, race, passes over the sample, passes over V, publish."""

from __future__ import annotations

from typing import Any

from dnmf.config import FitConfig
from dnmf.fitting.checks import safe_range
from dnmf.fitting.data.context import Context
from dnmf.fitting.kinds.race import race_share
from dnmf.fitting.state import ModelState
from dnmf.init.nndsvd import NNDSVD
from dnmf.losses.base import rounding_unit
from dnmf.planning.memory import RACE_BYTES, RACE_ROWS
from dnmf.steps.work import Step

__all__ = [
    "first_phase",
    "next_step",
    "phase_after_race",
    "phase_config",
    "start_notes",
    "wants_residual",
]

SAMPLE_TOL = 1e-3
SAMPLE_PASSES = 30


def first_phase(context: Context, scan: dict[str, Any]) -> str:
    """Where a fit goes from the scan: ``"race"``, ``"sample"`` or ``"full"``."""
    if context.plan.config.init == "custom" or not _tells(context, scan):
        return "full"
    return "race" if _racing(context, scan) else phase_after_race(context)


def _tells(context: Context, scan: dict[str, Any]) -> bool:
    """Whether the sample holds more than zeros, and entries whose products vanish.

    Of a sparse V it may not; a fit of it would leave an H of zeros.
    """
    plan = context.plan
    low = 0.0 if plan.config.weights else safe_range(plan.config, plan.dtype)[0] ** 2
    return bool(plan.sample and sum(scan["sample_rows"]) and scan["sample_sumsq"] > low)


def start_notes(context: Context, scan: dict[str, Any]) -> list[str]:
    """Which of the starts that were asked for are not made, or why no sample is fitted first."""
    plan, config = context.plan, context.plan.config
    tells = _tells(context, scan)
    racing = _racing(context, scan) if tells else ()
    left = [spec.k for m, spec in enumerate(config.models) if m not in racing and spec.fold is None]
    many = config.init == "random" and config.n_init > FitConfig.n_init
    asked = many or config.init in NNDSVD
    useless = bool(plan.sample) and not tells and config.init != "custom"
    if not left or not (asked or useless):
        return []
    if tells:
        why = (
            f"starts of k = {max(left)} search on {RACE_ROWS * max(left):,} rows of the sample, "
            f"more than {RACE_BYTES >> 20} MiB hold. Compare several seeds instead (dnmf.fit_many)"
        )
    else:
        rows = sum(scan["sample_rows"])
        zeros = ", which are zero or next to it" if rows else ""
        why = (
            f"the sample has {rows:,} of {plan.shape[0]:,} rows{zeros}. Raise sample or "
            f"sample_bytes"
        )
    if not asked:
        return [f"passes go over V from the start, none over the sample: {why}"]
    if many:
        return [f"n_init = {config.n_init} has no effect, one random start is made: {why}"]
    return [f"init = {config.init!r} has no effect, the start is a random one: {why}"]


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
        racing = _racing(context, state["scan"])
        return Step(index, "race", racing, attempt, over="sample")
    states = [ModelState.from_json(model) for model in state["models"]]
    groups = plan.groups or (everything,)
    unfinished = (tuple(m for m in g if states[m].stop_reason is None) for g in groups)
    active = next((group for group in unfinished if group), ())
    if active:
        over = "sample" if state["phase"] == "sample" else "all"
        residual = tuple(m for m in active if wants_residual(context, record, states[m]))
        return Step(index, "pass", active, attempt, over=over, residual=residual)
    if not record["done"] and context.store.path is not None:
        return Step(index, "publish", everything, attempt)
    return None


def _racing(context: Context, scan: dict[str, Any]) -> tuple[int, ...]:
    """The models whose starts race."""
    config = context.plan.config
    singles = config.holdout == "speckled"  # models that leave out entries have their own start
    return tuple(
        m
        for m, spec in enumerate(config.models)
        if not (singles and spec.fold is not None) and race_share(context, scan, spec.k)
    )


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
