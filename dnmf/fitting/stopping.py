"""The end of a pass for a model: its pair is accepted or not, and passes go on or stop.

Everything here is pure: the state before and what the pass found decide the state after.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from dnmf.config import FitConfig
from dnmf.fitting.decreases import expected_decrease
from dnmf.fitting.model_state import ModelState, Pair, Prospect, Stop
from dnmf.fitting.record import Refs
from dnmf.losses.base import rounding_unit
from dnmf.planning.limits import StopLimits

__all__ = ["PassResult", "advance", "after_rounds", "left", "stop", "worth"]

EXACT = {"float32": 1e-6, "float64": 1e-8}
"""Relative error at which W H is V: entries of W and H carry no more digits that matter."""


@dataclass(frozen=True)
class PassResult:
    """The result of a pass for one model: the pair, the H of the next pass, and numbers.

    ``gain`` is how much the H-step alone lowers the objective: the next pass falls by at least
    as much, so that a plateau is not taken for the end. ``size`` is what scales as the loss does
    with V; ``divergence`` is the objective without penalties, ``of_means`` that of V's column
    means, where it is known; ``extrapolated``, if any, is
    tried next. ``entrywise`` says that the objective was summed over entries, so that
    nothing cancelled. ``open_rows`` and ``open_columns`` count what solvers left before its end.
    ``WtV`` is kept for the basis of later passes, ``Y`` for rounds.
    """

    pair: Pair
    next_H: Refs
    revived: tuple[int, ...]
    kkt_W: float
    kkt_H: float
    gain: float
    sweeps: float
    divergence: float
    size: float
    open_rows: int | None = None
    open_columns: int = 0
    of_means: float | None = None
    extrapolated: Refs | None = None
    extrapolates: bool = True
    entrywise: bool = False
    WtV: Refs | None = None
    Y: Refs | None = None


def advance(
    state: ModelState, found: PassResult, config: FitConfig, dtype: str, limits: StopLimits
) -> tuple[ModelState, bool]:
    """Accept the pass's pair, or keep the old one and go on from its ``next_H``.

    Returns
    -------
    state : ModelState
    accepted : bool
    """
    unit = rounding_unit(found.size, dtype)
    old, new = state.pair, found.pair
    passes = state.passes + 1
    tried = bool(state.beta or state.extrapolated)
    fell = old is None or new.objective <= old.objective + (0.0 if tried else unit)
    if not fell:  # NaN never falls
        rejected = replace(
            state,
            passes=passes,
            beta=0.0,
            step=state.step / 2,
            cap=state.step,
            revive=(),
            extrapolated=None,
            prospect=_refused(state),
        )
        hidden = rejected.prospect.refused >= limits.refusals and _hidden(state, unit)
        if not tried or hidden:
            why = "range" if math.isnan(new.objective) else "rounding"
            rejected = replace(rejected, stop=stop(why, config, passes, dtype))
        return _bounded(rejected, config, limits), False
    decrease = None if old is None else max(old.objective - new.objective, 0.0)
    decreases = state.decreases if decrease is None else (*state.decreases, decrease)
    remaining = expected_decrease(decreases, state.accepted + 1, found.gain, limits)
    if remaining is not None:
        remaining = min(remaining, max(new.objective, 0.0))  # no objective is below 0
    grown = min(state.cap, state.step * limits.growth) if state.beta else state.step
    tries = dict(state.tries)
    for j in found.revived:
        tries[j] = tries.get(j, 0) + 1
    extrapolates = old is not None and not found.revived and found.extrapolates
    accepted = ModelState(
        pair=new,
        next_H=found.next_H,
        previous_H=state.next_H,
        beta=grown if extrapolates else 0.0,
        step=grown,
        cap=min(1.0, state.cap * limits.cap_growth),
        accepted=state.accepted + 1,
        passes=passes,
        decrease=decrease,
        remaining=remaining,
        decreases=decreases[-limits.decreases :],
        of_means=found.of_means,
        tries=tries,
        revive=found.revived,
        extrapolated=found.extrapolated,
        spans=(found.WtV, *state.spans)[:3] if found.WtV else (),
        Y=None if found.revived else found.Y,
        prospect=_brought(state, decrease),
    )
    kind = _why_stop(accepted, found, config, dtype, limits)
    if kind:
        accepted = replace(accepted, stop=stop(kind, config, passes, dtype, left(accepted, limits)))
    return _bounded(accepted, config, limits), True


def _why_stop(
    state: ModelState, found: PassResult, config: FitConfig, dtype: str, limits: StopLimits
) -> str | None:
    objective = found.pair.objective
    if found.entrywise and 2 * objective <= EXACT[dtype] ** 2 * found.size:
        return "exact"
    if dtype == "float32" and state.decrease is not None:
        before = objective + state.decrease
        if before <= rounding_unit(found.size, dtype) and state.decrease < limits.crawl * before:
            return "rounding"
    if state.accepted < 3 or state.revive or state.remaining is None or state.Y:
        return None  # after rounds more is known
    if state.remaining <= config.tol * worth(objective, state.of_means, limits.least_explained):
        return "converged"
    return None


def _bounded(state: ModelState, config: FitConfig, limits: StopLimits) -> ModelState:
    if state.stop is None and state.passes >= config.max_passes:
        why = stop("max_passes", config, state.passes, left=left(state, limits))
        return replace(state, stop=why)
    return state


_SENTENCES = {
    "converged": (
        "converged after {passes} passes: the decrease still to be expected is {left}, not above "
        "tol = {tol:g}"
    ),
    "exact": (
        "exact after {passes} passes: W H equals V to rounding (relative error below {exact:g})"
    ),
    "rounding": "converged after {passes} passes: rounding hides any further decrease",
    "rounding in float32": (
        "stopped after {passes} passes: rounding in float32 hides any further decrease; compute in "
        "float64 (dtype) to go on"
    ),
    "max_passes": (
        "stopped after max_passes = {max_passes} passes, before tol = {tol:g} was met{more}"
    ),
    "max_time": "stopped after max_time = {max_time:g} s and {passes} passes{more}",
    "range": (
        "stopped after {passes} passes: the last one left the range of numbers (its objective is "
        "NaN), the one before is the result; compute in float64 (dtype), or scale V"
    ),
}


def stop(
    kind: str,
    config: FitConfig,
    passes: int,
    dtype: str = "float64",
    left: tuple[float, str] = (math.inf, "the objective"),
) -> Stop:
    """Give the reason of this kind, with its numbers in a sentence.

    Parameters
    ----------
    left : (float, str)
        The decrease that is still to be expected, infinite where it is not known, and what it is a
        share of.
    """
    share = f"{left[0]:.1e} of {left[1]}"
    more = f": the decrease still to be expected is {share}" if math.isfinite(left[0]) else ""
    rounded = kind == "rounding" and dtype == "float32"
    sentence = _SENTENCES[f"{kind} in {dtype}" if rounded else kind].format(
        passes=passes,
        tol=config.tol,
        max_passes=config.max_passes,
        max_time=config.max_time,
        exact=EXACT[dtype],
        left=share,
        more=more,
    )
    return Stop(kind, sentence)


def worth(objective: float, of_means: float | None, least: float) -> float:
    """Return what decreases are judged against: the objective, or what is explained, if less.

    Where most of V is noise the objective hardly falls, whatever is found: against it nothing is
    worth another pass. What is explained is the divergence of V's column means, minus the
    objective; it counts as a share ``least`` of the objective at least, so that a fit of noise
    ends.
    """
    if of_means is None:
        return objective
    return min(objective, max(of_means - objective, least * objective))


def _refused(state: ModelState) -> Prospect:
    """Return the prospect after a pass at what rounds had made raised the objective."""
    prospect = state.prospect
    if state.extrapolated is None or not prospect.rounds:
        return prospect
    most, refused = max(1, prospect.rounds // 4), prospect.refused + 1
    return replace(prospect, most=most, predicted=None, brought=1.0, refused=refused)


def _hidden(state: ModelState, unit: float) -> bool:
    """Return whether rounding hides what rounds had predicted."""
    predicted = state.prospect.predicted
    return state.extrapolated is not None and predicted is not None and predicted <= unit


def _brought(state: ModelState, decrease: float | None) -> Prospect:
    """Return the prospect after a pass, with what the rounds before it were worth."""
    prospect = state.prospect
    if state.extrapolated is None or not prospect.rounds or decrease is None:
        return prospect
    predicted = prospect.predicted or 0.0
    brought = decrease / predicted if predicted > 0 else 1.0
    return replace(prospect, most=prospect.most and 2 * prospect.most, brought=brought, refused=0)


def after_rounds(
    state: ModelState,
    tried: Refs | None,
    rounds: int,
    predicted: float,
    rest: float,
    config: FitConfig,
    limits: StopLimits,
) -> ModelState:
    """Go on with what rounds made of H, or stop where it is worth no further read.

    Parameters
    ----------
    state : ModelState
        After the pass that left the compressed V.
    tried : tuple of ObjectRef or None
        H after the rounds; None where they found nothing.
    rounds : int
    predicted : float
        The decrease that the model predicts.
    rest : float
        What the model's objective would still fall by after the last round.
    """
    pair, prospect = state.pair, state.prospect
    assert pair is not None
    state = replace(state, Y=None, beta=0.0)  # from an H before rounds it would lead too far
    if tried is None:
        enough = state.accepted >= 3 and state.remaining is not None
        return _ended(state, config, limits) if enough else state
    remaining = _remaining(prospect, predicted + rest, limits)
    prospect = replace(prospect, rounds=rounds, predicted=predicted, before=predicted + rest)
    state = replace(state, extrapolated=tried, prospect=prospect, remaining=remaining)
    return _ended(state, config, limits)


def _ended(state: ModelState, config: FitConfig, limits: StopLimits) -> ModelState:
    """Stop where little remains."""
    share = left(state, limits)
    if share[0] > config.tol:
        return state
    return replace(state, stop=stop("converged", config, state.passes, left=share))


def left(state: ModelState, limits: StopLimits) -> tuple[float, str]:
    """Return what remains as a share, and of what; infinite where it is not known."""
    if state.pair is None:
        return math.inf, "the objective"
    objective = state.pair.objective
    value = worth(objective, state.of_means, limits.least_explained)
    what = "the objective" if value == objective else "what is explained"
    if state.remaining is None:
        return math.inf, what
    return (state.remaining / value if value > 0 else 0.0), what


def _remaining(prospect: Prospect, predicted: float, limits: StopLimits) -> float:
    """Return the decrease still to be expected, of this pass and those after it.

    The model sees a valley's length, not the curvature of all directions: its prediction counts
    for as much more as the last one was too low, and those to come shrink as this one did.
    """
    if not prospect.before:
        return limits.first_prediction * predicted
    rate = min(predicted / prospect.before, limits.slowest_prediction)
    return predicted * max(prospect.brought, 1.0) / (1.0 - rate)
