"""Whether a fit alternates on a compressed V between two reads, and what a round is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dnmf.config import ModelSpec
from dnmf.sources.base import INDEX_BYTES

if TYPE_CHECKING:
    from dnmf.planning.plan import Plan

__all__ = ["Rounds", "choose_rounds", "rounds_after", "rounds_notes"]

READ, PRODUCTS, SPARSE, SWEEPS = 1e9, 2e10, 3e9, 4e9
"""Bytes of V that are read and decoded in a second, wherever V lies, and operations in a second: of
products by BLAS, of products with a sparse V, of sweeps over W. Only their proportions matter."""

SWEEPS_OF_A_PASS, SWEEPS_OF_A_ROUND = 4, 4
"""Sweeps that a row of W takes, about."""


@dataclass(frozen=True)
class Rounds:
    """The rounds between two reads of V.

    Attributes
    ----------
    most : int
        Most rounds; 0: none.
    span : int
        Rows of the basis for each component: of H, and of W'V of so many passes but one.
    price : float
        What a round takes, as a share of a pass with its read.
    why_none : str
        Why there are none, for people; empty where there are, or nobody could expect some.
    """

    most: int = 0
    span: int = 0
    price: float = 0.0
    why_none: str = ""


def choose_rounds(plan: Plan, compresses: bool) -> tuple[Rounds, ...]:
    """Decide on the rounds of each model: a function of the data and the options only.

    A model of a study has those that a fit of it alone would have.

    Parameters
    ----------
    plan : Plan
    compresses : bool
        The loss has a compressed model of V.
    """
    return tuple(_of_model(plan, compresses, model) for model in plan.config.models)


def rounds_after(plan: Plan, unobserved: int) -> tuple[Rounds, ...]:
    """Return the rounds of each model once the scan has counted the entries that are missing.

    V completed with W H holds H where it is: as large as their share is, as much of what rounds
    gain is still to be gained after them.
    """
    n, d = plan.shape_of_V
    if plan.config.rounds is not None or unobserved <= plan.limits.rounds.most_unobserved * n * d:
        return plan.rounds
    why = f"{unobserved / (n * d):.0%} of the entries are missing, of which rounds learn nothing"
    return tuple(Rounds(why_none=why) if one.most else one for one in plan.rounds)


def rounds_notes(plan: Plan, unobserved: int) -> list[str]:
    """Say that there are no rounds after all."""
    gone = [
        after.why_none
        for before, after in zip(plan.rounds, rounds_after(plan, unobserved), strict=True)
        if before.most and not after.most
    ]
    return [f"no rounds between reads: {why}" for why in dict.fromkeys(gone)]


def _of_model(plan: Plan, compresses: bool, model: ModelSpec) -> Rounds:
    config, limits, (n, d), k = plan.config, plan.limits.rounds, plan.shape, model.k
    if config.rounds == 0 or plan.mode != "fit":
        return Rounds()
    if model.fold is not None:
        return Rounds(why_none="not for models that leave out a part of V")
    if config.weights or not compresses:
        what = f"loss {config.loss!r}" + (f" with solver {config.solver!r}" * bool(config.solver))
        return Rounds(why_none=f"not for {'entries that have weights' if config.weights else what}")
    if config.missing == "zeros":  # few are stored: completed, V would say little but W H
        return Rounds(why_none="not where what is not stored is unobserved")
    span = 1 + limits.spans
    if k * span > limits.widest * d:
        return Rounds(why_none=f"{d:,} columns are too few for k = {k}: a round would be a pass")
    item = np.dtype(plan.dtype).itemsize
    while n * item * k * (span + 2) > limits.most_bytes and span > 2:
        span -= 1
    size = n * item * k * (span + 2)
    if size > limits.most_bytes:
        return Rounds(
            why_none=f"the compressed V and W of k = {k} would take {size / 1e9:.1f} GB of one "
            f"worker's memory, more than {limits.most_bytes / 1e9:.1f} GB"
        )
    price = _price(plan, k, span)
    if price > limits.dearest and config.rounds is None:
        return Rounds(why_none=f"one would take {price:.0%} of a pass with its read")
    return Rounds(limits.most if config.rounds is None else config.rounds, span, price)


def _price(plan: Plan, k: int, span: int) -> float:
    """Return what a round of k components takes as a share of a pass."""
    (n, d), r, nbytes = plan.shape, k * span, plan.bytes_per_read
    if plan.sparse:
        entries = nbytes // (np.dtype(plan.stored_dtype).itemsize + INDEX_BYTES)
        products = 2.0 * entries * (r + k) / SPARSE
    else:
        products = 2.0 * n * d * (r + k) / PRODUCTS
    a_pass = nbytes / READ + products + n * (2.0 * k * k * SWEEPS_OF_A_PASS) / SWEEPS
    of_rows = n * (2.0 * k * k * SWEEPS_OF_A_ROUND / SWEEPS + (4.0 * r * k + 2 * k * k) / PRODUCTS)
    of_columns = d * (2.0 * k * k * SWEEPS_OF_A_ROUND / SWEEPS + 4.0 * r * k / PRODUCTS)
    return (of_rows + of_columns) / a_pass
