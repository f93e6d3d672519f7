"""Checks of what the scan found, before a fit may go on."""

from __future__ import annotations

import math

from dnmf.config import FitConfig
from dnmf.errors import InputError
from dnmf.fitting.data.scan_stats import ScanStats
from dnmf.losses import knows_missing
from dnmf.planning.plan import Plan

__all__ = [
    "check_entries",
    "check_largest",
    "check_objective",
    "check_positive",
    "check_scan",
    "check_weights",
    "clip_notes",
    "safe_range",
]

SAFE = {"float32": (1e-15, 1e15), "float64": (1e-140, 1e140)}
"""Range of the largest entry in which sums of products of V with itself stay finite."""

POWERS = 140.0, 280.0
"""Most digits of the largest entry to the power beta, which is squared, and to beta - 2."""

ABOVE_FLOOR = 1e-90
"""Least largest entry of V for other divergences, to which products below 1e-100 are 1e-100."""


def safe_range(config: FitConfig, dtype: str) -> tuple[float, float]:
    """Return bounds on V's largest entry within which nothing computed from V leaves float64."""
    low, high = SAFE[dtype]
    if config.beta is None:
        return low, high
    digits = [d / abs(p) for d, p in zip(POWERS, (config.beta, config.beta - 2), strict=True) if p]
    bound = 10.0 ** min(digits)
    return max(low, ABOVE_FLOOR, 1 / bound), min(high, bound)


def check_positive(plan: Plan, nonzeros: int) -> None:
    """Refuse zeros where the divergence is infinite at them.

    Raises
    ------
    InputError
        How many there are, and what to do.
    """
    n, d = plan.shape
    if not plan.config.needs_positive or nonzeros == n * d:
        return
    raise InputError(
        f"{n * d - nonzeros:,} of the {n * d:,} entries of V are zero, but loss "
        f"{plan.config.loss!r} (beta = {plan.config.beta:g}) needs V > 0. When beta_loss <= 0 and "
        f"X contains zeros, the solver may diverge: add a small value to X, such as 1e-12 of its "
        f"largest entry, or use a beta_loss > 0"
    )


def _place(plan: Plan, first: tuple[int, int, float]) -> tuple[int, int, float, str]:
    """Return row and column of V, the value, and what is wrong with it."""
    row, column, value = first
    if plan.axis == "columns":
        row, column = column, row
    what = "NaN" if math.isnan(value) else "infinite" if math.isinf(value) else "negative"
    return row, column, value, what


def check_entries(plan: Plan, bad: int, first: tuple[int, int, float] | None) -> None:
    """Refuse NaN, infinite and negative entries.

    Raises
    ------
    InputError
        Row, column and value of the first, and how many there are.
    """
    if not bad or first is None:
        return
    row, column, value, what = _place(plan, first)
    count = "it is the only such entry" if bad == 1 else f"{bad:,} entries are such"
    wide = plan.dtype == "float32" and plan.stored_dtype == "float64" and math.isinf(value)
    hint = " (computing in float32, whose largest number is 3.4e38)" if wide else ""
    unobserved = what == "NaN" and knows_missing(plan.config.loss) and not plan.sparse
    other = ", or say that NaN is not observed with missing='nan' (--missing nan)"
    raise InputError(
        f"Negative values in data passed to NMF: V[{row}, {column}] is {value:g}; {count}. "
        f"Entries must be 0 or more: clip, shift or remove them first; clip= "
        f"(--clip) sets small ones, down to a bound of yours, to 0"
        if what == "negative"
        else f"V[{row}, {column}] is {what}{hint}; {count}. "
        f"Every entry must be finite: remove or impute such rows or columns first"
        f"{other if unobserved else ''}"
    )


def clip_notes(plan: Plan, clipped: int) -> list[str]:
    """Tell how many entries were set to 0."""
    if not clipped:
        return []
    what = "entry of V that was" if clipped == 1 else "entries of V that were"
    return [f"{clipped:,} {what} negative, down to {-plan.config.clip:g} (clip), count as 0"]


def check_weights(plan: Plan, bad: int, first: tuple[int, int, float] | None) -> None:
    """Refuse weights that are negative, infinite or NaN.

    Raises
    ------
    InputError
        Row, column and value of the first, and how many there are.
    """
    if not bad or first is None:
        return
    row, column, value, what = _place(plan, first)
    count = "it is the only such weight" if bad == 1 else f"{bad:,} weights are such"
    raise InputError(
        f"weights[{row}, {column}] is {what} ({value:g}, in {plan.dtype}); {count}. Weights must "
        f"be finite and 0 or more: 0 for an entry that was not observed, 1 / sigma^2 for one that "
        f"is known up to sigma"
    )


def check_largest(plan: Plan, largest: float, low: float = 0.0) -> None:
    """Refuse a V whose products leave the range of the dtype.

    Raises
    ------
    InputError
        Its largest entry, the limits, and what to do.
    """
    high = safe_range(plan.config, plan.dtype)[1]
    if not low <= largest <= high:
        limits = f"lie between {low:.3g} and {high:.3g}" if low else f"be at most {high:.3g}"
        beta = plan.config.beta
        where = plan.dtype if beta is None else f"{plan.dtype} with beta = {beta:g}"
        wider = ", or compute in float64 (dtype)" if plan.dtype != "float64" else ""
        raise InputError(
            f"the largest entry of V is {largest:g}; in {where} it must {limits}. Scale V by a "
            f"constant{wider}"
        )


def check_objective(plan: Plan, objective: float) -> None:
    """Refuse a first pass that has no objective: no later one could be compared with it.

    Raises
    ------
    InputError
        What it was computed in, the penalties, and what to do.
    """
    if not math.isnan(objective):
        return
    alpha_W, alpha_H = plan.config.alphas
    penalties = ""
    if plan.config.penalized:
        penalties = (
            f", or other penalties: alpha_W = {alpha_W:g} and alpha_H = {alpha_H:g}; where one "
            f"of them is 0, its factor grows without end"
        )
    raise InputError(
        f"the objective of the first pass is NaN: products of W and H left the range of "
        f"{plan.dtype}. Compute in float64 (dtype), or scale V or the given start by a "
        f"constant{penalties}"
    )


def check_scan(plan: Plan, found: ScanStats, zero_columns: int) -> list[str]:
    """Refuse what cannot be factorized.

    Returns
    -------
    list of str
        Remarks that a person should see.

    Raises
    ------
    InputError
        Offending entries, nothing but zeros, or numbers outside the dtype's safe range.
    """
    check_weights(plan, found.bad_weights, found.first_bad_weight)
    check_entries(plan, found.bad, found.first_bad)
    check_positive(plan, found.nonzeros)
    if found.largest == 0:
        n, d = plan.shape_of_V
        where = " where it is observed" if plan.config.missing else ""
        where = " where it has a weight" if plan.config.weights else where
        raise InputError(f"V ({n} x {d}) has nothing but zeros{where}; there is nothing to fit")
    check_largest(plan, found.largest, safe_range(plan.config, plan.dtype)[0])
    low, high = SAFE[plan.dtype]
    if plan.config.weights and not low <= found.largest_weight <= high:
        raise InputError(
            f"the largest weight is {found.largest_weight:g}; in {plan.dtype} it must lie "
            f"between {low:g} and {high:g}. Scale the weights by a constant, or compute in float64 "
            f"(dtype)"
        )
    together = found.largest_weight * found.largest**2 if plan.config.weights else 0.0
    if together > high**2:
        raise InputError(
            f"the largest weight is {found.largest_weight:g} and the largest entry of V "
            f"{found.largest:g}; in {plan.dtype} the one times the square of the other must be "
            f"at most {high**2:g}. Scale one of them by a constant, or compute in float64 (dtype)"
        )
    notes = clip_notes(plan, found.clipped)
    if found.zero_rows or zero_columns:
        rows, columns = found.zero_rows, zero_columns
        if plan.axis == "columns":
            rows, columns = columns, rows
        notes.append(
            f"V has {rows:,} rows and {columns:,} columns of zeros; their factors are zero"
        )
    return notes
