"""How many starts of a race agreed: where they end far apart, one seed says little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dnmf.fitting.stopping import worth
from dnmf.planning.limits import StopLimits

__all__ = ["agreement", "remark"]

AGREE = 0.01
"""Starts agree whose objective is within this share of the lowest."""

FAR = 0.05
"""Starts end far apart where the highest objective is this share or more above the lowest."""

EXPLAINED = 1e-3
"""Differences are a share of at least so much of what is explained: where W H is nearly V, the
objective is next to nothing, and so are they."""


def agreement(rows: Sequence[dict[str, Any]], limits: StopLimits) -> dict[str, Any] | None:
    """Compare the starts of one model.

    Parameters
    ----------
    rows : sequence of dict
        Those of its race in the history of the sample.
    limits : StopLimits

    Returns
    -------
    dict or None
        ``number``, ``agreed``, ``spread`` (how far the highest objective is above the lowest, as
        a share of it or of what is explained, if that is less) and ``objectives``; None where there
        was no more than one start.
    """
    raced = [row for row in rows if row.get("kind") == "race"]  # passes have none
    if len(raced) < 2:
        return None
    best = min(raced, key=lambda row: row["objective"])
    low, of_means = best["objective"], best["of_means"]
    unit = worth(low, of_means, limits.least_explained)
    if of_means is not None:
        unit = max(unit, EXPLAINED * (of_means - low))
    above = [(row["objective"] - low) / unit if unit > 0 else 0.0 for row in raced]
    return {
        "number": len(raced),
        "agreed": sum(one <= AGREE for one in above),
        "spread": max(above),
        "objectives": [row["objective"] for row in raced],
    }


def remark(found: dict[str, Any] | None) -> str | None:
    """Say in a sentence that starts end far apart; None where they do not."""
    if found is None or found["spread"] < FAR:
        return None
    return (
        f"starts end far apart: {found['agreed']} of {found['number']} came within {AGREE:.0%} of "
        f"the lowest objective, the worst ended {found['spread']:.0%} above it. Other seeds may "
        f"find a lower one: give more starts (n_init), or compare seeds (dnmf.fit_many)"
    )
