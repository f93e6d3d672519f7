"""What the value of an option may be, and how it is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

from dnmf.errors import OptionError

__all__ = [
    "Bytes",
    "Choice",
    "Flag",
    "Kind",
    "Number",
    "Seconds",
    "Whole",
    "format_bytes",
    "parse_bytes",
    "whole_number",
]

_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40, "": 1}
_UNITS |= {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def parse_bytes(value: str | int | float, name: str = "size", least: int = 1) -> int:
    """Turn ``"600MB"``, ``"2GiB"`` or a number of bytes into an int.

    Raises
    ------
    OptionError
        The value is not a size, or below ``least``.
    """
    text = str(value).strip().lower().replace(" ", "").replace("_", "")
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text[len(digits) :]
    try:
        size = float(digits) * _UNITS[unit]
    except (ValueError, KeyError):
        raise OptionError(f"{name} is {value!r}; give bytes, as in 600MB or 2GiB") from None
    if not (least <= size < 2**62):
        bound = "at least one byte" if least else "0 or more"
        raise OptionError(f"{name} is {value!r}; it must be {bound}")
    return int(size)


def format_bytes(size: float, unit: str | None = None) -> str:
    """Write a size for people: ``"8.2 GB"``, in decimal units, as `parse_bytes` reads them.

    Parameters
    ----------
    size : float
        Bytes.
    unit : {None, "MB"}
        ``"MB"`` for sizes that are to be compared, or typed again: ``"12,345 MB"``.
    """
    if unit is not None:
        return f"{size / 1e6:,.0f} {unit}"
    for name in ("B", "kB", "MB", "GB"):
        if abs(size) < 999.5:
            return f"{size:.0f} B" if name == "B" else f"{size:.3g} {name}"
        size /= 1000
    return f"{size:.3g} TB"


def whole_number(value: Any, name: str, minimum: int) -> int:
    """Return ``value`` as an int, or raise an OptionError that names it."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or number != value or isinstance(value, bool):
        raise OptionError(f"{name} is {value!r}; it must be a whole number")
    if number < minimum:
        raise OptionError(f"{name} is {number}; it must be at least {minimum}")
    return number


@dataclass(frozen=True)
class Whole:
    """A whole number, ``least`` or more."""

    least: int = 1

    def read(self, value: Any, name: str) -> int:
        return whole_number(value, name, self.least)


class Bytes(Whole):
    """A number of bytes, which may have a unit."""

    def read(self, value: Any, name: str) -> int:
        return parse_bytes(value, name, self.least)


@dataclass(frozen=True)
class Number:
    """A finite number from ``low`` to ``high``, or ``word``; ``rule`` says so in an error."""

    low: float = -math.inf
    high: float = math.inf
    word: str | None = None
    rule: str = "a finite number"

    def read(self, value: Any, name: str) -> Any:
        value = _plain(value)
        if self.word is not None and isinstance(value, str):
            if value == self.word:
                return self.word
            raise OptionError(f"{name} is {value!r}; it must be {self.word!r} or a number")
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not good or not (self.low <= float(value) <= self.high and math.isfinite(value)):
            raise OptionError(f"{name} is {value!r}; it must be {self.rule}")
        return value


class Seconds:
    """A time, more than 0 seconds."""

    def read(self, value: Any, name: str) -> Any:
        value = _plain(value)
        if not (isinstance(value, (int, float)) and value > 0):
            raise OptionError(f"{name} is {value!r}; it must be more than 0 seconds")
        return value


@dataclass(frozen=True)
class Choice:
    """One of some names; None is among them where it may be left out."""

    names: tuple[str | None, ...]

    def read(self, value: Any, name: str) -> Any:
        if value not in self.names:
            known = ", ".join(map(str, self.names))
            raise OptionError(f"{name} is {value!r}; it must be one of {known}")
        return value


class Flag:
    """Yes or no."""

    def read(self, value: Any, name: str) -> Any:
        return value


Kind = Whole | Number | Seconds | Choice | Flag


def _plain(value: Any) -> Any:
    """Turn a number of NumPy's into one of Python's."""
    return value.item() if isinstance(value, Real) and hasattr(value, "item") else value
