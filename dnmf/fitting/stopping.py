"""When a fit ends, and the sentence that says so."""

from __future__ import annotations

from dnmf.config import FitConfig

__all__ = ["expected_decrease", "stop_sentence"]

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
    "transformed": "every row of W was solved at the given H",
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


def expected_decrease(decrease: float | None, before: float | None, gain: float) -> float | None:
    """The sum of all decreases to come, if they go on shrinking at their last rate.

    With rho = clip(D_t / D_{t-1}, 0, 0.95) it is D_t rho / (1 - rho): relative to the
    objective's own course, so that neither scale nor |V|^2 matters. It is at least ``gain``,
    what the H-step has just promised: crossing a plateau, decreases shrink before they grow
    (2 of 60 starts on a 6 x 4 matrix of rank 3 stopped there without it).
    """
    if decrease is None or before is None:
        return None
    rho = min(decrease / before, SLOWEST) if before > 0 else 0.0
    return max(decrease * rho / (1 - rho), gain)
