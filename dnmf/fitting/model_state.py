"""The state of one model of a fit between two steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dnmf.planning.limits import StopLimits
from dnmf.runs.base import ObjectRef, Refs, optional_refs, refs_from_json, refs_to_json

__all__ = ["ModelState", "Pair", "Prospect", "Stop"]


@dataclass(frozen=True)
class Stop:
    """The reason why a model's passes ended.

    Attributes
    ----------
    kind : str
        ``"converged"``, ``"exact"``, ``"rounding"``, ``"max_passes"``, ``"max_time"``,
        ``"range"`` or, of a transform, ``"solved"`` or, where rows are not, ``"open"``.
    sentence : str
        The reason for people, with its numbers.
    """

    kind: str
    sentence: str


@dataclass(frozen=True)
class Pair:
    """A committed (W, H), W being the solution at this H.

    Attributes
    ----------
    W : tuple of ObjectRef
        The rows of each segment.
    W_starts : tuple of int
        First row of each segment, then the number of rows.
    H : tuple of ObjectRef
        Column slabs.
    objective : float
    WtW : ObjectRef
        W'W, (k, k) float64.
    share : tuple of float
        <W'V_j, H_j> of each component.
    peak : tuple of int
        Column of the largest entry of each row of H.
    W_norms : tuple of float
        Norm of each column of W.
    W_sums : tuple of float or None
        Sum of each column of W, where the loss counts them.
    """

    W: Refs
    W_starts: tuple[int, ...]
    H: Refs
    objective: float
    WtW: ObjectRef
    share: tuple[float, ...]
    peak: tuple[int, ...]
    W_norms: tuple[float, ...]
    W_sums: tuple[float, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        refs = {"W": refs_to_json(self.W), "H": refs_to_json(self.H), "WtW": self.WtW.to_json()}
        return {**vars(self), **refs}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Pair:
        refs = {name: refs_from_json(value[name]) for name in ("W", "H")}
        sums = value["W_sums"]
        return cls(
            **refs,
            W_starts=tuple(value["W_starts"]),
            objective=value["objective"],
            WtW=ObjectRef.from_json(value["WtW"]),
            share=tuple(value["share"]),
            peak=tuple(value["peak"]),
            W_norms=tuple(value["W_norms"]),
            W_sums=None if sums is None else tuple(sums),
        )


@dataclass(frozen=True)
class Prospect:
    """What rounds predict of the next pass, and what earlier predictions were worth.

    Attributes
    ----------
    rounds : int
        How many there were; 0 before the first ones.
    most : int or None
        How many there may be next; None: as many as the plan says.
    predicted, before : float or None
        The decrease that the next pass is to bring, and the prediction before that.
    brought : float
        How much of its prediction the last pass brought; 1 before any did.
    refused : int
        Passes at what rounds had made that raised the objective, since one lowered it.
    """

    rounds: int = 0
    most: int | None = None
    predicted: float | None = None
    before: float | None = None
    brought: float = 1.0
    refused: int = 0


@dataclass(frozen=True)
class ModelState:
    """The state of one model between two steps.

    Attributes
    ----------
    pair : Pair or None
        The best committed pair.
    next_H : tuple of ObjectRef
        H after the H-step of the pair (or the start), by slabs.
    previous_H : tuple or None
        The ``next_H`` before this one, for the extrapolation.
    start_W : tuple or None
        W before the first pass, where the caller gave one.
    beta : float
        Step of the extrapolation in the next pass; 0 is none.
    step, cap : float
        The step when extrapolating is allowed, and its bound.
    accepted, passes : int
        Passes that were committed as the new pair, and all of them.
    decrease : float or None
        Decrease of the objective by the last accepted pass.
    remaining : float or None
        The decrease that is still expected.
    decreases : tuple of float
        Those of the last accepted passes, the last one last.
    of_means : float or None
        Divergence of the pass's rows from their column means, where it is known.
    tries : dict of int to int
        How often each dead component was revived.
    revive : tuple of int
        Components whose W starts at zero in the next pass.
    stop : Stop or None
    extrapolated : tuple of ObjectRef or None
        An H that the next pass tries before ``next_H``.
    weights : tuple of float or None
        ``next_H`` was fitted to a sample on which the columns of W had these sums.
    spans : tuple of tuple of ObjectRef
        W'V of the last accepted passes by slabs, float64, the last one first.
    Y : tuple of ObjectRef or None
        The compressed V of each segment, V B', that the last pass left for rounds, until they are
        done. B spans the H of the pair, and the spans but the first.
    prospect : Prospect
    """

    pair: Pair | None
    next_H: Refs
    previous_H: Refs | None = None
    start_W: Refs | None = None
    beta: float = 0.0
    step: float = StopLimits.first_step
    cap: float = 1.0
    accepted: int = 0
    passes: int = 0
    decrease: float | None = None
    remaining: float | None = None
    decreases: tuple[float, ...] = ()
    of_means: float | None = None
    tries: dict[int, int] = field(default_factory=dict)
    revive: tuple[int, ...] = ()
    stop: Stop | None = None
    extrapolated: Refs | None = None
    weights: tuple[float, ...] | None = None
    spans: tuple[Refs, ...] = ()
    Y: Refs | None = None
    prospect: Prospect = field(default_factory=Prospect)

    def to_json(self) -> dict[str, Any]:
        return {
            **vars(self),
            **{name: refs_to_json(getattr(self, name)) for name in _REFS_OF_A_MODEL},
            "pair": self.pair.to_json() if self.pair else None,
            "tries": list(self.tries.items()),
            "stop": [self.stop.kind, self.stop.sentence] if self.stop else None,
            "spans": [refs_to_json(span) for span in self.spans],
            "prospect": vars(self.prospect),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ModelState:
        weights = value["weights"]
        changed = {
            **{name: optional_refs(value[name]) for name in _REFS_OF_A_MODEL},
            "pair": Pair.from_json(value["pair"]) if value["pair"] else None,
            "decreases": tuple(value["decreases"]),
            "tries": {int(component): times for component, times in value["tries"]},
            "revive": tuple(value["revive"]),
            "stop": Stop(*value["stop"]) if value["stop"] else None,
            "weights": None if weights is None else tuple(weights),
            "spans": tuple(refs_from_json(span) for span in value["spans"]),
            "prospect": Prospect(**value["prospect"]),
        }
        return cls(**{**value, **changed})

    def objects(self) -> set[str]:
        """Return the names of the objects that this state needs."""
        every = (self.next_H, self.previous_H, self.start_W, self.extrapolated, self.Y)
        refs = [ref for some in (*every, *self.spans) for ref in some or ()]
        if self.pair:
            refs += [*self.pair.W, *self.pair.H, self.pair.WtW]
        return {ref.name for ref in refs}


_REFS_OF_A_MODEL = ("next_H", "previous_H", "start_W", "extrapolated", "Y")
