"""Checks of what figures are given, before anything is drawn."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from dnmf.errors import OptionError

__all__ = ["check_names", "check_shape", "checked_component"]


def check_names(names: Sequence[str] | None, columns: int) -> None:
    """Refuse names that are not those of V's columns."""
    if names is None:
        return
    if isinstance(names, str) or not hasattr(names, "__len__"):
        raise OptionError(
            f"names is {names!r:.60}; give a list, with one name for each of the {columns:,} "
            f"columns of V"
        )
    if len(names) != columns:
        raise OptionError(f"there are {len(names):,} names, but V has {columns:,} columns")


def check_shape(shape: Any, columns: int) -> None:
    """Refuse a shape of images that is not that of V's rows."""
    try:
        rows, across = (operator.index(length) for length in shape)
    except (TypeError, ValueError):
        raise OptionError(
            f"shape is {shape!r:.60}; give rows and columns of pixels, as in (112, 92)"
        ) from None
    if rows < 1 or across < 1 or rows * across != columns:
        raise OptionError(
            f"shape {rows} x {across} has {rows * across:,} pixels, but V has {columns:,} columns"
        )


def checked_component(component: Any, k: int) -> int:
    """Return the component's number as an int, or refuse one that does not exist."""
    try:
        number = operator.index(component)
    except TypeError:
        number = -1
    if not 0 <= number < k:
        raise OptionError(f"component is {component!r:.60}; there are components 0 to {k - 1}")
    return number
