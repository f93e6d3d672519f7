"""The decrease of the objective that is still to be expected, told from those that came.

Everything here is pure, and judges by the objective's own course: neither scale nor |V|^2 matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from dnmf.planning.limits import StopLimits

__all__ = ["expected_decrease", "tail"]


def expected_decrease(
    decreases: Sequence[float], accepted: int, gain: float, limits: StopLimits
) -> float | None:
    """Return the sum of all decreases to come; None before there are two.

    With rho = D_t / D_{t-1} it is D_t rho / (1 - rho), if they go on shrinking at their last rate.
    Decreases are noisy: of the last two rates the slower one counts (one that happened to be small
    ended fits 25 times tol too early). It is at least what their `tail` tells, and at least
    ``gain``, what the H-step has just promised: crossing a plateau, decreases shrink before they
    grow (2 of 60 starts on a 6 x 4 matrix of rank 3 stopped there without it).

    Parameters
    ----------
    decreases : sequence of float
        Of the last accepted passes, the last one last.
    accepted : int
        Accepted passes, the first one, before which there is no objective, included.
    gain : float
    limits : StopLimits
    """
    if len(decreases) < 2:
        return None
    last = decreases[-3:]
    slower = max(_rate(b, a, limits.slowest) for a, b in pairwise(last))
    told = tail(decreases, accepted, limits)
    return max(decreases[-1] * slower / (1 - slower), told, gain)


def _rate(decrease: float, before: float, slowest: float) -> float:
    """Return the ratio D_t / D_{t-1}, at most ``slowest``."""
    return min(decrease / before, slowest) if before > 0 else 0.0


def tail(decreases: Sequence[float], accepted: int, limits: StopLimits) -> float:
    """Return the sum of all decreases to come, if they fall as a power of the number of the pass.

    Alternation slows down along a valley: its decreases fall as t^-p rather than at a fixed rate,
    and their sum from t on is D_t t / (p - 1), many times what the last rate tells. A line through
    log D over log t gives p and D_t; where p is below 2 the sum is as uncertain as it is large, and
    counts as D_t t.

    The first decrease tells of the start, not of the valley. While there is but one besides it, it
    counts as if decreases shrank at the slowest rate.

    Parameters
    ----------
    decreases, accepted, limits
        As for `expected_decrease`. ``limits.telling`` is 0 where the last rates shall do: the
        result is 0.
    """
    if limits.telling == 0:
        return 0.0
    first = accepted - len(decreases) + 1  # its pass
    numbered = [(t, D) for t, D in enumerate(decreases, start=first) if t > 2]
    if len(numbered) < 2:
        return decreases[-1] * limits.slowest / (1 - limits.slowest)
    begin = min((1 - limits.telling) * accepted, accepted - 1)
    positive = [(t, D) for t, D in numbered if t >= begin and D > 0]
    if len(positive) < 2:
        return 0.0
    unit = positive[-1][1]  # of V times a power of 2 the ratios are the same to the bit
    some = [(math.log(t), math.log(min(D / unit, 1e300))) for t, D in positive]
    x, y = (sum(values) / len(some) for values in zip(*some, strict=True))
    slope = sum((a - x) * (b - y) for a, b in some) / sum((a - x) ** 2 for a, _ in some)
    level = unit * math.exp(min(y + slope * (math.log(accepted) - x), 600.0))
    return level * accepted / max(-slope - 1.0, 1.0)
