"""What a fit says of rows of W that its passes leave before their optimum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dnmf.fitting.model_state import ModelState

__all__ = ["open_rows_of", "open_rows_remark", "remarks"]

SAYS_DONE = "converged"
"""The end of a fit that claims that it is one. Others say that passes are missing, or that the
dtype has no digits for a better W."""


def open_rows_of(history: Iterable[dict[str, Any]]) -> int | None:
    """Return how many rows the pass of the last accepted pair left open; None if none counts.

    Parameters
    ----------
    history : iterable of dict
        Of one model.
    """
    accepted = [row for row in history if row["accepted"]]
    return accepted[-1].get("open_rows") if accepted else None


def open_rows_remark(count: int | None, rows: int, kind: str) -> str | None:
    """Return a sentence for people, or None where there is nothing to say.

    Parameters
    ----------
    count : int or None
        From `open_rows_of`.
    rows : int
        How many there are.
    kind : str
        Why the fit stopped, as `Stop` has it.
    """
    if not count or kind != SAYS_DONE:
        return None
    return (
        f"{count:,} of {rows:,} rows of W are not solved at H: components are so nearly parallel "
        "that float32 has too few digits; fit with dtype='float64', or fewer components"
    )


def remarks(
    models: Mapping[int, ModelState], history: Sequence[dict[str, Any]], rows: int
) -> list[str]:
    """Return what there is to say of those of some models that a pass has ended.

    Parameters
    ----------
    models : mapping of int to ModelState
        After the pass, by number.
    history : sequence of dict
        Of all models.
    rows : int
        How many rows V has.
    """
    found = []
    for m, model in models.items():
        if model.stop is not None:
            count = open_rows_of(row for row in history if row["model"] == m)
            found.append(open_rows_remark(count, rows, model.stop.kind))
    return [text for text in found if text is not None]
