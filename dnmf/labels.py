"""Names of columns (and rows): as texts, compared, brought into another order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np

from dnmf.errors import InputError

__all__ = ["Labels", "check_alike", "order_of", "texts"]

Labels: TypeAlias = tuple[str, ...]

CLOSE = 1e-6
"""Relative difference up to which two numbers with a fraction are one name: float32 rounds them."""


def texts(values: Iterable[Any]) -> Labels:
    """Turn the labels of another library into texts: equal ones for equal labels."""
    found = np.asarray(values)
    if found.ndim != 1:  # tuples, as of several levels
        return tuple(str(tuple(map(str, value))) for value in found.tolist())
    if found.dtype.kind == "M":
        return tuple(found.astype("datetime64[ns]").astype(str).tolist())
    return tuple(map(_text, found.tolist()))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, tuple):
        return str(tuple(map(_text, value)))
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def order_of(found: Labels | None, wanted: Labels | None, what: str, whose: str) -> Any:
    """Find the place of each column in an order that is wanted, by names.

    The labels 0 to d - 1, in this order, are what libraries give where nobody named anything:
    they are places, unless the other side has these numbers in another order.

    Parameters
    ----------
    found : labels or None
        None has no names, so that there is nothing to compare.
    wanted : labels or None
    what, whose : str
        The side of ``found``, and that of ``wanted``, in messages: ``"V"``, ``"the fit"``.

    Returns
    -------
    (d,) int array or None
        ``wanted[order[j]]`` is ``found[j]``; None where every column is in its place.

    Raises
    ------
    InputError
        Names differ: with the first that does. Or the order differs and names are not unique.
    """
    if found is None or wanted is None or found == wanted:
        return None
    if _same_names(found, wanted):
        twice = _twice(wanted)
        if twice is not None:
            raise InputError(
                f"the columns of {what} have the names of {whose} in another order, and "
                f"{twice!r} names several of them: which is which cannot be told. Bring them into "
                f"the order of {whose}, or make names unique before the fit"
            )
        place = {label: index for index, label in enumerate(wanted)}
        return np.array([place[label] for label in found], np.int64)
    if _are_places(found) or _are_places(wanted) or _are_close(found, wanted):
        return None
    raise InputError(_difference(found, wanted, what, whose))


def check_alike(
    found: Labels | None, wanted: Labels | None, what: str, axis: str, whose: str = "V"
) -> None:
    """Refuse ``what``, whose rows or columns are not named as those of V are, in this order.

    Raises
    ------
    InputError
        With the first that differs.
    """
    if found is None or wanted is None or found == wanted:
        return
    if _same_names(found, wanted):
        pairs = zip(found, wanted, strict=True)
        index = next(index for index, (one, other) in enumerate(pairs) if one != other)
        raise InputError(
            f"the {axis} of {what} have the names of those of {whose} in another order: "
            f"{axis[:-1]} {index} is {found[index]!r}, and {wanted[index]!r} in {whose}. Bring "
            f"them into the order of {whose}"
        )
    if not (_are_places(found) or _are_places(wanted) or _are_close(found, wanted)):
        raise InputError(_difference(found, wanted, what, whose, axis))


def _same_names(found: Labels, wanted: Labels) -> bool:
    """Return whether the names are the same, in whatever order."""
    return len(found) == len(wanted) and Counter(found) == Counter(wanted)


def _are_close(found: Labels, wanted: Labels) -> bool:
    """Return whether names are the same numbers in this order, up to how they were rounded."""
    if len(found) != len(wanted):
        return False
    pairs = zip(found, wanted, strict=True)
    return all(one == other or _close(one, other) for one, other in pairs)


def _close(one: str, other: str) -> bool:
    try:
        numbers = [float(text) for text in (one, other) if "." in text or "e" in text]
    except ValueError:
        return False
    return len(numbers) == 2 and abs(numbers[0] - numbers[1]) <= CLOSE * abs(numbers[0])


def _are_places(labels: Labels) -> bool:
    return labels == tuple(map(str, range(len(labels))))


def _twice(labels: Labels) -> str | None:
    label, count = Counter(labels).most_common(1)[0]
    return label if count > 1 else None


def _difference(found: Labels, wanted: Labels, what: str, whose: str, axis: str = "columns") -> str:
    """Say how names differ: which is the first that only one side has."""
    extra, lacking = Counter(found) - Counter(wanted), Counter(wanted) - Counter(found)
    one = axis[:-1]
    sides = []
    if extra:
        index = next(index for index, label in enumerate(found) if label in extra)
        sides.append(f"{one} {index} of {what} is {found[index]!r}, no name of {whose}")
    if lacking:
        label = next(label for label in wanted if label in lacking)
        sides.append(f"{label!r} of {whose} is missing")
    count = max(sum(extra.values()), sum(lacking.values()))
    number = "one name differs" if count == 1 else f"{count:,} names differ"
    return (
        f"the {axis} of {what} have other names than those of {whose}: {'; '.join(sides)} "
        f"({number}). Give the {axis} of {whose}; where names say nothing, give the bare matrix, "
        f"which is taken in its own order"
    )
