"""The end of a pass for a model: its pair is accepted or not, and passes go on or stop.

Everything here is pure: the state before and what the pass found decide the state after.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from dnmf.config import FitConfig
from dnmf.fitting.model_state import ModelState, Pair, Prospect, Stop
from dnmf.fitting.record import Refs
from dnmf.losses.base import rounding_unit
from dnmf.planning.limits import StopLimits

__all__ = ["PassResult", "advance", "after_rounds", "expected_decrease", "rate", "stop", "worth"]

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
            rejected = replace(rejected, stop=stop(why, config, passes))
        return _bounded(rejected, config), False
    decrease = None if old is None else max(old.objective - new.objective, 0.0)
    rho = rate(decrease, state.decrease, limits.slowest)
    remaining = expected_decrease(decrease, rho, state.rho, found.gain)
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
        rho=rho,
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
        accepted = replace(
            accepted, stop=stop(kind, config, passes, dtype, _share(accepted, limits))
        )
    return _bounded(accepted, config), True


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


def _bounded(state: ModelState, config: FitConfig) -> ModelState:
    if state.stop is None and state.passes >= config.max_passes:
        return replace(state, stop=stop("max_passes", config, state.passes))
    return state


_SENTENCES = {
    "converged": (
        "converged after {passes} passes: the decrease still to be expected is {left:.1e} of "
        "{what}, not above tol = {tol:g}"
    ),
    "exact": (
        "exact after {passes} passes: W H equals V to rounding (relative error below {exact:g})"
    ),
    "rounding": "converged after {passes} passes: rounding hides any further decrease",
    "max_passes": "stopped after max_passes = {max_passes} passes, before tol = {tol:g} was met",
    "max_time": "stopped after max_time = {max_time:g} s and {passes} passes",
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
    left: tuple[float, str] = (0.0, "the objective"),
) -> Stop:
    """Give the reason of this kind, with its numbers in a sentence.

    Parameters
    ----------
    left : (float, str)
        The decrease that is still to be expected, and what it is a share of.
    """
    sentence = _SENTENCES[kind].format(
        passes=passes,
        tol=config.tol,
        max_passes=config.max_passes,
        max_time=config.max_time,
        exact=EXACT[dtype],
        left=left[0],
        what=left[1],
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


def rate(decrease: float | None, before: float | None, slowest: float) -> float | None:
    """Return the ratio D_t / D_{t-1}, at most ``slowest``; None before there are two."""
    if decrease is None or before is None:
        return None
    return min(decrease / before, slowest) if before > 0 else 0.0


def expected_decrease(
    decrease: float | None, rho: float | None, before: float | None, gain: float
) -> float | None:
    """Return the sum of all decreases to come, if they go on shrinking at their last rate.

    With rho = D_t / D_{t-1} it is D_t rho / (1 - rho): relative to the objective's own course, so
    that neither scale nor |V|^2 matters. Decreases are noisy: of the last two rates the slower one
    counts (one that happened to be small ended fits 25 times tol too early). It is at least
    ``gain``, what the H-step has just promised: crossing a plateau, decreases shrink before they
    grow (2 of 60 starts on a 6 x 4 matrix of rank 3 stopped there without it).

    Parameters
    ----------
    decrease : float or None
        D_t.
    rho, before : float or None
        The last `rate` and the one before it.
    gain : float
    """
    if decrease is None or rho is None:
        return None
    slower = max(rho, before or 0.0)
    return max(decrease * slower / (1 - slower), gain)


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
    left = _left(prospect, predicted + rest, limits)
    prospect = replace(prospect, rounds=rounds, predicted=predicted, before=predicted + rest)
    state = replace(state, extrapolated=tried, prospect=prospect, remaining=left)
    return _ended(state, config, limits)


def _ended(state: ModelState, config: FitConfig, limits: StopLimits) -> ModelState:
    """Stop where little remains."""
    left, what = _share(state, limits)
    if left > config.tol:
        return state
    return replace(state, stop=stop("converged", config, state.passes, left=(left, what)))


def _share(state: ModelState, limits: StopLimits) -> tuple[float, str]:
    """Return what remains as a share, and of what; infinite where it is not known."""
    assert state.pair is not None
    objective = state.pair.objective
    value = worth(objective, state.of_means, limits.least_explained)
    what = "the objective" if value == objective else "what is explained"
    if state.remaining is None:
        return math.inf, what
    return (state.remaining / value if value > 0 else 0.0), what


def _left(prospect: Prospect, predicted: float, limits: StopLimits) -> float:
    """Return the decrease still to be expected, of this pass and those after it.

    The model sees a valley's length, not the curvature of all directions: its prediction counts
    for as much more as the last one was too low, and those to come shrink as this one did.
    """
    if not prospect.before:
        return limits.first_prediction * predicted
    rate = min(predicted / prospect.before, limits.slowest_prediction)
    return predicted * max(prospect.brought, 1.0) / (1.0 - rate)
