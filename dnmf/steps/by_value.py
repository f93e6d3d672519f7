"""Functions that travel with their code, so that they run where dnmf is not installed."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

__all__ = ["by_value"]


def by_value(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a copy of a function that cloudpickle pickles with its code, not by its name.

    Parameters
    ----------
    function : callable
        Written in Python; it uses nothing of its module and imports what it needs itself.
    """
    assert isinstance(function, FunctionType)
    # of no module that could be imported there
    return FunctionType(function.__code__, {"__name__": "__main__"}, function.__name__)
