"""When a fit ends, and the sentence that says so."""

from __future__ import annotations

from dnmf.config import FitConfig

__all__ = ["expected_decrease", "rate", "stop_sentence"]

SLOWEST = 0.95

_SENTENCES = {
    "converged": (
        "converged after {passes} passes: the decrease still to be expected is below "
        "tol = {tol:g} times the objective"
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


def stop_sentence(kind: str, config: FitConfig, passes: int, exact: float = 0.0) -> str:
    """The reason in words."""
    return _SENTENCES[kind].format(
        passes=passes,
        tol=config.tol,
        max_passes=config.max_passes,
        max_time=config.max_time,
        exact=exact,
    )


def rate(decrease: float | None, before: float | None) -> float | None:
    """By which part decreases go on, D_t / D_{t-1}, at most 0.95; None before there are two."""
    if decrease is None or before is None:
        return None
    return min(decrease / before, SLOWEST) if before > 0 else 0.0


def expected_decrease(
    decrease: float | None, rho: float | None, before: float | None, gain: float
) -> float | None:
    """The sum of all decreases to come, if they go on shrinking at their last rate.

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
