"""The sums of a pass, and the states of the models that follow from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dnmf.fitting.model_state import ModelState, Pair
from dnmf.fitting.stopping import PassResult
from dnmf.losses.values import HeldOutStats, SmallStats
from dnmf.runs.base import ObjectRef, Refs

__all__ = [
    "ModelEnd",
    "PassStats",
    "SlabEnd",
    "SlabOfModel",
    "figures",
    "held_out_figures",
    "on_all_of_V",
    "pass_result",
    "promised",
]


@dataclass
class PassStats:
    """Part 0 of a pass: the small statistics of each model, and its W.

    Attributes
    ----------
    models : list of SmallStats
    W : list of list of ObjectRef
        W of each model, for the segments so far.
    bytes_read : int
    numeric : list of str
        Digests of how tasks round.
    held_out : list of HeldOutStats or None
        Sums of each model over what it leaves out.
    Y : list of list of ObjectRef
        The compressed V of each model that leaves one, as W.
    """

    models: list[SmallStats]
    W: list[list[ObjectRef]]
    bytes_read: int
    numeric: list[str]
    held_out: list[HeldOutStats | None]
    Y: list[list[ObjectRef]]

    @classmethod
    def zero_like(cls, one: PassStats) -> PassStats:
        """Return what `add` begins with, for the models of ``one``."""
        return cls(
            [SmallStats(np.zeros_like(s.WtW), residual=s.residual and 0.0) for s in one.models],
            [[] for _ in one.W],
            0,
            [],
            [None if out is None else HeldOutStats() for out in one.held_out],
            [[] for _ in one.Y],
        )

    def add(self, other: PassStats) -> None:
        """Add what stands behind in index order."""
        for mine, theirs in zip(self.models, other.models, strict=True):
            mine.add(theirs)
        for mine_out, theirs_out in zip(self.held_out, other.held_out, strict=True):
            if mine_out is not None and theirs_out is not None:
                mine_out.add(theirs_out)
        self.W = [a + b for a, b in zip(self.W, other.W, strict=True)]
        self.Y = [a + b for a, b in zip(self.Y, other.Y, strict=True)]
        self.bytes_read += other.bytes_read
        self.numeric = sorted({*self.numeric, *other.numeric})


@dataclass(frozen=True)
class ModelEnd:
    """The results of a pass for one model, except its H.

    Attributes
    ----------
    WtW : ObjectRef
    held_out : (float, float, int) or None
        Loss of what the model leaves out, its scale, and the number of entries.
    others
        Fields of `PassResult` and `Pair`; ``kkt`` is squared.
    """

    objective: float
    divergence: float
    size: float
    of_means: float | None
    extrapolates: bool
    entrywise: bool
    kkt: float
    sweeps: float
    open_rows: int | None
    revived: tuple[int, ...]
    W_norms: tuple[float, ...]
    W_sums: tuple[float, ...] | None
    WtW: ObjectRef
    held_out: tuple[float, float, int] | None


@dataclass(frozen=True)
class SlabEnd:
    """The results of the H-step for one slab of one model.

    Attributes
    ----------
    H, next_H, extrapolated : ObjectRef
        The slab that the pass was at, the one after it, and one that may be better, if any.
    WtV : ObjectRef or None
        The slab of W'V, float64, where later passes use it.
    kkt, gain, open_columns
        Fields of `HStep`.
    share : list of float
    peak : list of (float, int)
        The largest entry of each row of H, and its column.
    """

    H: ObjectRef
    next_H: ObjectRef
    extrapolated: ObjectRef | None
    kkt: float
    gain: float
    share: list[float]
    peak: list[tuple[float, int]]
    open_columns: int = 0
    WtV: ObjectRef | None = None


@dataclass(frozen=True)
class SlabOfModel:
    """A `SlabEnd` before its arrays are stored."""

    old: np.ndarray
    next_H: np.ndarray
    extrapolated: np.ndarray | None
    kkt: float
    gain: float
    share: list[float]
    peak: list[tuple[float, int]]
    open_columns: int = 0


def on_all_of_V(model: ModelState, step: float) -> ModelState:
    """Return the start on all of V, with this extrapolation, of a model fitted to the sample."""
    weights = model.pair.W_sums if model.pair else None
    spans = model.spans
    return ModelState(pair=None, next_H=model.next_H, step=step, weights=weights, spans=spans)


def promised(before: ModelState) -> dict[str, float]:
    """Return how many rounds made the H of a pass, and the decrease that they predicted."""
    prospect = before.prospect
    if before.extrapolated is None or not prospect.rounds:
        return {"rounds": 0, "predicted": 0.0}
    return {"rounds": prospect.rounds, "predicted": prospect.predicted or 0.0}


def held_out_figures(end: ModelEnd) -> dict[str, float]:
    """Return the relative loss on the entries that are left out, and their number."""
    if end.held_out is None:
        return {}
    error, scale, entries = end.held_out
    return {"held_out": error / scale if scale > 0 else math.nan, "held_entries": entries}


def figures(found: PassResult) -> dict[str, float]:
    size = math.sqrt(found.size) or 1.0  # of a fold whose rows and columns have zeros only
    return {
        "objective": found.pair.objective,
        "divergence": found.divergence,
        "relative_error": math.sqrt(2 * found.divergence) / size,
        "kkt_W": found.kkt_W / size,
        "kkt_H": found.kkt_H / size,
        "sweeps": found.sweeps,
        **left_open(found),
    }


def left_open(found: PassResult) -> dict[str, int]:
    """Return how many rows of W and columns of H solvers left, where the loss counts them."""
    if found.open_rows is None:
        return {}
    return {"open_rows": found.open_rows, "open_columns": found.open_columns}


def pass_result(
    end: ModelEnd, slabs: list[SlabEnd], W: Refs, Y: Refs, starts: Sequence[int]
) -> PassResult:
    components = range(len(end.W_norms))
    pair = Pair(
        W=W,
        W_starts=tuple(starts),
        H=tuple(slab.H for slab in slabs),
        objective=end.objective,
        WtW=end.WtW,
        share=tuple(sum(slab.share[j] for slab in slabs) for j in components),
        peak=tuple(max((s.peak[j] for s in slabs), key=lambda p: p[0])[1] for j in components),
        W_norms=end.W_norms,
        W_sums=end.W_sums,
    )
    WtV = tuple(slab.WtV for slab in slabs if slab.WtV is not None)
    tried = tuple(slab.extrapolated for slab in slabs if slab.extrapolated is not None)
    return PassResult(
        pair=pair,
        next_H=tuple(slab.next_H for slab in slabs),
        revived=end.revived,
        kkt_W=math.sqrt(end.kkt),
        kkt_H=math.sqrt(sum(slab.kkt for slab in slabs)),
        gain=sum(slab.gain for slab in slabs),
        sweeps=end.sweeps,
        open_rows=end.open_rows,
        open_columns=sum(slab.open_columns for slab in slabs),
        divergence=end.divergence,
        size=end.size,
        of_means=end.of_means,
        extrapolated=tried or None,
        extrapolates=end.extrapolates and not tried,
        entrywise=end.entrywise,
        WtV=WtV or None,
        Y=Y or None,
    )
