"""Which passes leave a compressed V behind for rounds, and the basis that they compress it with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dnmf.fitting.model_state import ModelState
from dnmf.fitting.models.factors import read_H
from dnmf.losses.compressed import basis
from dnmf.planning.plan import Plan
from dnmf.runs.base import Reader, Refs

__all__ = ["basis_of", "keeps_spans", "leaves_compressed"]


def keeps_spans(plan: Plan, m: int) -> bool:
    """Return whether passes keep W'V of a model, for the basis of a later one."""
    return bool(plan.rounds[m].most)


def leaves_compressed(plan: Plan, m: int, state: ModelState) -> bool:
    """Return whether the next pass over V leaves a compressed V of a model."""
    return keeps_spans(plan, m) and len(state.spans) >= plan.rounds[m].span - 1


def basis_of(plan: Plan, m: int, store: Reader, H: np.ndarray, spans: Sequence[Refs]) -> np.ndarray:
    """Return the basis of a pass of a model at H, (r, d) float64.

    Parameters
    ----------
    spans : sequence of tuple of ObjectRef
        W'V of the passes before, by slabs, the last one first; as many as the plan says are used.
    """
    return basis(H, [read_H(store, span) for span in spans[: plan.rounds[m].span - 1]])
