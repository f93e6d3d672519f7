"""The state of a fit between two steps: JSON in, JSON out, and pure transitions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dnmf.config import FitConfig
from dnmf.fitting.stopping import expected_decrease, rate, stop_sentence
from dnmf.losses.base import rounding_unit

__all__ = ["ModelState", "Pair", "PassResult", "advance"]

FIRST_STEP = 0.5
GROWTH = 1.2
CAP_GROWTH = 1.05
MOST_TRIES = 3

EXACT = {"float32": 1e-6, "float64": 1e-8}
"""Relative error at which W H is V: entries of W and H carry no more digits that matter."""


@dataclass(frozen=True)
class Pair:
    """A committed (W, H), W being the solution at this H.

    Attributes
    ----------
    W : list of [name, checksum]
        Row pieces, one per segment.
    H : list of [name, checksum]
        Column slabs.
    objective : float
    share : list of float
        <WtV_j, H_j> of each component.
    peak : list of int
        Column of the largest entry of each row of H.
    W_norms : list of float
        Norm of each column of W.
    W_sums : list of float or None
        Sum of each column of W, where the loss counts them.
    """

    W: list[list[str]]
    W_starts: list[int]
    H: list[list[str]]
    objective: float
    WtW: list[str]
    WtV: list[list[str]]
    share: list[float]
    peak: list[int]
    W_norms: list[float]
    W_sums: list[float] | None = None


@dataclass(frozen=True)
class ModelState:
    """Where one model stands.

    Attributes
    ----------
    pair : Pair or None
        The best committed pair.
    next_H : list of [name, checksum]
        H after the H-step of the pair (or the start), by slabs.
    previous_H : list or None
        The ``next_H`` before this one, for the extrapolation.
    start_W : list or None
        W before the first pass, where the caller gave one.
    beta : float
        Step of the extrapolation in the next pass; 0 is none.
    step, cap : float
        The step when extrapolating is allowed, and its bound.
    accepted, passes : int
        Passes that were committed as the new pair, and all of them.
    decrease : float or None
        Of the last accepted pass.
    tries : dict
        How often each dead component was revived.
    revive : list of int
        Components whose W starts at zero in the next pass.
    stop_reason : str or None
    extrapolated : list of [name, checksum] or None
        An H that the next pass tries before ``next_H``.
    weights : list of float or None
        ``next_H`` was fitted to a sample on which the columns of W had these sums.
    """

    pair: Pair | None
    next_H: list[list[str]]
    previous_H: list[list[str]] | None = None
    start_W: list[list[str]] | None = None
    beta: float = 0.0
    step: float = FIRST_STEP
    cap: float = 1.0
    accepted: int = 0
    passes: int = 0
    decrease: float | None = None
    remaining: float | None = None
    rho: float | None = None
    tries: dict[str, int] = field(default_factory=dict)
    revive: list[int] = field(default_factory=list)
    stop_reason: str | None = None
    extrapolated: list[list[str]] | None = None
    weights: list[float] | None = None

    def to_json(self) -> dict[str, Any]:
        """As a record keeps it; lists are shared, and nobody changes them."""
        return {**vars(self), "pair": vars(self.pair) if self.pair else None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ModelState:
        pair = Pair(**value["pair"]) if value["pair"] else None
        return cls(**{**value, "pair": pair})

    def names(self) -> list[str]:
        """Names of the objects that this state needs."""
        pieces = [
            *self.next_H,
            *(self.previous_H or []),
            *(self.start_W or []),
            *(self.extrapolated or []),
        ]
        if self.pair:
            pieces += [*self.pair.W, *self.pair.H, *self.pair.WtV, self.pair.WtW]
        return [piece[0] for piece in pieces]


@dataclass(frozen=True)
class PassResult:
    """What a pass found for one model: the pair, the next next_H, and numbers.

    ``gain`` is how much the H-step alone lowers the objective: the next pass falls by at least
    as much, so that a plateau is not taken for the end. ``size`` is what scales as the loss does
    with V; ``divergence`` is the objective without penalties; ``extrapolated``, if any, is
    tried next. ``entrywise`` says that the objective was summed over entries, so that
    nothing cancelled.
    """

    pair: Pair
    next_H: list[list[str]]
    revived: list[int]
    kkt_W: float
    kkt_H: float
    gain: float
    sweeps: float
    divergence: float
    size: float
    extrapolated: list[list[str]] | None = None
    extrapolates: bool = True
    entrywise: bool = False


def advance(
    state: ModelState, found: PassResult, config: FitConfig, dtype: str
) -> tuple[ModelState, bool]:
    """Accept the pass's pair, or keep the old one and go on from its next_H.

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
            revive=[],
            extrapolated=None,
        )
        if not tried:
            why = "range" if math.isnan(new.objective) else "rounding"
            rejected = replace(rejected, stop_reason=stop_sentence(why, config, passes))
        return _bounded(rejected, config), False
    decrease = None if old is None else max(old.objective - new.objective, 0.0)
    rho = rate(decrease, state.decrease)
    remaining = expected_decrease(decrease, rho, state.rho, found.gain)
    grown = min(state.cap, state.step * GROWTH) if state.beta else state.step
    tries = dict(state.tries)
    for j in found.revived:
        tries[str(j)] = tries.get(str(j), 0) + 1
    extrapolates = old is not None and not found.revived and found.extrapolates
    accepted = ModelState(
        pair=new,
        next_H=found.next_H,
        previous_H=state.next_H,
        beta=grown if extrapolates else 0.0,
        step=grown,
        cap=min(1.0, state.cap * CAP_GROWTH),
        accepted=state.accepted + 1,
        passes=passes,
        decrease=decrease,
        remaining=remaining,
        rho=rho,
        tries=tries,
        revive=found.revived,
        extrapolated=found.extrapolated,
    )
    kind = _why_stop(accepted, found, config, dtype)
    if kind:
        accepted = replace(accepted, stop_reason=stop_sentence(kind, config, passes, EXACT[dtype]))
    return _bounded(accepted, config), True


def _why_stop(state: ModelState, found: PassResult, config: FitConfig, dtype: str) -> str | None:
    objective = found.pair.objective
    if found.entrywise and 2 * objective <= EXACT[dtype] ** 2 * found.size:
        return "exact"
    if state.accepted < 3 or state.revive or state.remaining is None:
        return None
    if state.remaining <= config.tol * objective:
        return "converged"
    return None


def _bounded(state: ModelState, config: FitConfig) -> ModelState:
    if state.stop_reason is None and state.passes >= config.max_passes:
        return replace(state, stop_reason=stop_sentence("max_passes", config, state.passes))
    return state
