"""What zeros of V mean: refused before anything is read where options say what V cannot."""

from __future__ import annotations

from dnmf.config import FitConfig
from dnmf.errors import OptionError
from dnmf.sources.base import Source

__all__ = ["check_zeros"]


def check_zeros(source: Source, config: FitConfig) -> None:
    """Refuse zeros that the loss does not allow, and a way of saying what is missing.

    Raises
    ------
    OptionError
        With what to do.
    """
    if config.needs_positive and source.is_sparse:
        raise OptionError(
            f"loss {config.loss!r} (beta = {config.beta:g}) needs V > 0, but {source.describe()} "
            f"is sparse{_zeros(source)}: use a beta > 0, or give V dense with every entry positive"
        )
    _check_missing(source, config)


def _zeros(source: Source) -> str:
    """Return how many entries are not stored, where the source knows; stored ones may be zero."""
    stored = source.nonzeros
    if stored is None:
        return ""
    entries = source.shape[0] * source.shape[1]
    return f", and at least {entries - stored:,} of its {entries:,} entries are zero"


def _check_missing(source: Source, config: FitConfig) -> None:
    """Refuse a way of saying what is missing that this V does not have."""
    source = source.parts[0]
    if config.missing == "nan" and source.is_sparse:
        raise OptionError(
            f"missing is 'nan', but {source.describe()} is sparse: what it does not store would be "
            f"zeros; say missing='zeros' if those entries are unobserved"
        )
    if config.missing == "zeros" and not source.is_sparse:
        raise OptionError(
            f"missing is 'zeros' (what a sparse matrix does not store), but {source.describe()} is "
            f"dense: mark unobserved entries with NaN and say missing='nan', or give V sparse"
        )
