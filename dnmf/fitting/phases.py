"""The way of a fit: a race of starts, passes over the sample, passes over V."""

from __future__ import annotations

from dataclasses import replace

from dnmf.config import FitConfig
from dnmf.fitting.checks import safe_range
from dnmf.fitting.record import Scan
from dnmf.init.nndsvd import NNDSVD
from dnmf.planning.limits import StopLimits
from dnmf.planning.memory import share_to_race
from dnmf.planning.narrow import narrowed
from dnmf.planning.plan import Plan

__all__ = [
    "first_phase",
    "phase_after_race",
    "phase_config",
    "race_share",
    "racing_models",
    "sample_serves",
    "start_notes",
    "starts_of",
    "stop_limits",
]


def first_phase(plan: Plan, scan: Scan) -> str:
    """Say where a fit goes from the scan: ``"race"``, ``"sample"`` or ``"full"``."""
    few = not any(sample_serves(plan, scan, spec.k) for spec in plan.config.models)
    if plan.config.init == "custom" or few or not _tells(plan, scan):
        return "full"
    return "race" if racing_models(plan, scan) else phase_after_race(plan)


def phase_after_race(plan: Plan) -> str:
    """Say where a fit goes from the race: to the sample, unless that holds every row."""
    return "sample" if plan.sample < 1 else "full"


def phase_config(plan: Plan, phase: str) -> FitConfig:
    """Give the options by which passes of a phase stop."""
    config, limits = plan.config, plan.limits.stop
    if phase == "full":
        return config
    return config.replace(tol=max(config.tol, limits.sample_tol), max_passes=limits.sample_passes)


def stop_limits(plan: Plan, phase: str, model: int) -> StopLimits:
    """Give the limits by which passes of a model stop in a phase.

    Where nothing is said of an end, the last two rates of decreases do: on the sample, and for
    models that leave out a part of V, which are judged by what they predict of it.
    """
    limits = plan.limits.stop
    if phase == "full" and plan.config.models[model].fold is None:
        return limits
    return replace(limits, telling=0.0)


def race_share(plan: Plan, scan: Scan, k: int) -> float:
    """Decide on which share of this sample starts of k components race; 0 for no race."""
    if scan.used is not None:
        plan = narrowed(plan, scan.used_columns)
    return share_to_race(plan, k, sum(scan.sample_rows), scan.sample_bytes)


def starts_of(plan: Plan, model: int) -> list[str]:
    """List the starts that race for a model, by what they come from.

    One from the singular vectors joins the random ones, which are many: of scaled counts of 15
    programmes it alone found each. It is the same for every seed, so that in a study it joins for
    one seed of each k: others would agree for no reason.
    """
    config = plan.config
    if config.init != "random":
        return [config.init]
    random, spec = ["random"] * config.n_init, config.models[model]
    first = next(one.seed for one in config.models if one.k == spec.k)
    joins = config.n_init > 1 and (spec.fold is not None or spec.seed == first)
    return [*random, NNDSVD[0]] if joins else random


def sample_serves(plan: Plan, scan: Scan, k: int) -> bool:
    """Return whether a model of k components is fitted to the sample first.

    A sample of few rows is fitted by these rows themselves, whatever the others hold.
    """
    return plan.sample >= 1 or sum(scan.sample_rows) >= plan.limits.race.least_rows * k


def racing_models(plan: Plan, scan: Scan) -> tuple[int, ...]:
    """List the models whose starts race."""
    config = plan.config
    singles = config.holdout == "speckled"  # models that leave out entries have their own start
    return tuple(
        m
        for m, spec in enumerate(config.models)
        if not (singles and spec.fold is not None)
        and sample_serves(plan, scan, spec.k)
        and race_share(plan, scan, spec.k)
    )


def _tells(plan: Plan, scan: Scan) -> bool:
    """Return whether the sample holds more than zeros and entries whose products vanish.

    Of a sparse V it may not; a fit of it would leave an H of zeros.
    """
    low = 0.0 if plan.config.weights else safe_range(plan.config, plan.dtype)[0] ** 2
    return bool(plan.sample and sum(scan.sample_rows) and scan.sample_sumsq > low)


def start_notes(plan: Plan, scan: Scan) -> list[str]:
    """Say which starts that were asked for are not made, or why no sample is fitted first."""
    config = plan.config
    tells = _tells(plan, scan)
    racing = racing_models(plan, scan) if tells else ()
    left = [spec.k for m, spec in enumerate(config.models) if m not in racing and spec.fold is None]
    many = config.init == "random" and config.n_init > FitConfig.n_init
    asked = many or config.init in NNDSVD
    few = [k for k in left if plan.sample and not sample_serves(plan, scan, k)]
    useless = bool(plan.sample) and (not tells or bool(few)) and config.init != "custom"
    if not left or not (asked or useless):
        return []
    if tells and few:
        least = plan.limits.race.least_rows
        why = (
            f"the sample has {sum(scan.sample_rows):,} of {plan.shape[0]:,} rows, fewer than "
            f"{least} for each of k = {min(few)} components. Raise sample or sample_bytes"
        )
    elif tells:
        rows, limit = plan.limits.race.scarce_rows * max(left), plan.limits.race.most_bytes >> 20
        why = (
            f"starts of k = {max(left)} search on {rows:,} rows of the sample, "
            f"more than {limit} MiB hold. Compare several seeds instead (dnmf.fit_many)"
        )
    else:
        rows = sum(scan.sample_rows)
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
