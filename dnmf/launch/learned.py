"""What a transform takes from the fit whose H it has, unless it is told otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dnmf.errors import OptionError

__all__ = ["TAKEN", "as_learned"]

TAKEN = ("alpha_W", "l1_ratio", "missing", "clip")


def as_learned(given: Mapping[str, Any], learned: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the options that a transform was not given.

    Parameters
    ----------
    given : mapping
        `TAKEN`, ``loss`` and ``beta``; None is not given.
    learned : mapping
        The options of the fit; empty for an array H.

    Raises
    ------
    OptionError
        The fit's alpha_W means another problem since its H was normalized.
    """
    found = dict(given)
    if found["loss"] is None and found["beta"] is None:
        found |= {"loss": learned.get("loss"), "beta": learned.get("beta")}
    for name in TAKEN:
        found[name] = learned.get(name) if given[name] is None else given[name]
    if given["alpha_W"] is None and found["alpha_W"] and learned.get("normalize"):
        raise OptionError(
            f"the fit has alpha_W = {found['alpha_W']:g}, and normalize = "
            f"{learned['normalize']!r} rescaled its H afterwards: for this H the same alpha_W is "
            f"another problem. Fit without normalize, or give alpha_W"
        )
    return found
