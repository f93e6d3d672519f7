"""The next step: scan, race, passes over the sample, passes over V with rounds between, publish."""

from __future__ import annotations

from dnmf.fitting.model_state import ModelState
from dnmf.fitting.phases import racing_models, sample_serves
from dnmf.fitting.record import Record, Scan
from dnmf.fitting.stopping import worth
from dnmf.losses.base import rounding_unit
from dnmf.planning.plan import Plan
from dnmf.steps.work import Step

__all__ = ["next_step", "wants_residual"]

UNITS = 30
"""So many units of rounding may hide from an objective that is summed by products: of a piano's
magnitudes, few of which are large, 23 did, and the objective was told 0.02% too high or too low."""


def next_step(plan: Plan, record: Record, attempt: str, publishes: bool) -> Step | None:
    """Give the step after this record; None when nothing is left.

    Parameters
    ----------
    plan : Plan
    record : Record
    attempt : str
        Names this try in task keys.
    publishes : bool
        The run has a folder, in which its result is published.
    """
    state, index = record.state, record.index + 1
    everything = tuple(range(len(plan.config.models)))
    if plan.mode == "transform" and state.solved is None:
        return Step(index, "transform", everything, attempt)
    if plan.mode == "fit" and state.scan is None:
        return Step(index, "scan", everything, attempt)
    if state.phase == "race":
        racing = racing_models(plan, state.scanned)
        return Step(index, "race", racing, attempt, over="sample")
    if plan.mode == "fit":
        sampling = state.phase == "sample"
        scan = state.scanned if sampling else None
        active = _active(plan, state.models, scan)
        compressed = tuple(m for m in active if state.models[m].Y)
        if compressed:
            return Step(index, "rounds", compressed, attempt)
        if active:
            over = "sample" if sampling else "all"
            residual = tuple(m for m in active if wants_residual(plan, record, state.models[m]))
            return Step(index, "pass", active, attempt, over=over, residual=residual)
    if publishes and not record.done:
        return Step(index, "publish", everything, attempt)
    return None


def _active(plan: Plan, states: tuple[ModelState, ...], scan: Scan | None) -> tuple[int, ...]:
    """Return the models of the next pass: of the first read group that has unfinished ones.

    With the scan of a sample, those that are fitted to the sample.
    """
    models = plan.config.models
    serves = [scan is None or sample_serves(plan, scan, spec.k) for spec in models]
    read_groups = plan.read_groups or (tuple(range(len(states))),)
    unfinished = (
        tuple(m for m in each if states[m].stop is None and serves[m]) for each in read_groups
    )
    return next((models for models in unfinished if models), ())


def wants_residual(plan: Plan, record: Record, state: ModelState) -> bool:
    """Return whether the next pass computes residuals entry by entry."""
    config, scan = plan.config, record.state.scanned
    sampling = record.state.phase == "sample"
    if not config.residuals:
        return False
    if state.passes + 1 >= config.max_passes and not sampling:
        return True
    if state.pair is None:
        return False
    objective = state.pair.objective
    value = worth(objective, state.of_means, plan.limits.stop.least_explained)
    unit = rounding_unit(scan.sample_sumsq if sampling else scan.sumsq, plan.dtype)
    near_rounding = objective < 1e3 * unit or config.tol * value < UNITS * unit
    near_end = state.remaining is not None and state.remaining <= 4 * config.tol * value
    return near_rounding or (near_end and not sampling)
