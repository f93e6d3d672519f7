"""What a line of a Matrix Market file must be: SciPy's reader drops what follows a number.

It reads 4.978 as 4 where the header says integer, 1,5 as 1, and 1.5D+03 as 1.5.
"""

from __future__ import annotations

import re
from pathlib import Path

from dnmf.errors import InputError

__all__ = ["check_lines"]

_INTEGER = rb"-?+[0-9]++"
_REAL = (
    rb"-?+(?>(?>[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][-+]?+[0-9]++)?+"
    rb"|(?i:nan|infinity|inf))"
)
_VALUES = {"integer": _INTEGER, "unsigned-integer": rb"[0-9]++", "pattern": None}
_SHOWN = 40


def _line(layout: str, field: str) -> bytes:
    value = _VALUES.get(field, _REAL)
    tokens = [rb"[0-9]++"] * 2 if layout == "coordinate" else []
    tokens += [] if value is None else [value]
    return rb"[ \t]*+" + rb"[ \t]++".join(tokens) + rb"[ \t\r]*+\n"


def check_lines(path: Path, text: bytes, first: int, layout: str, field: str) -> None:
    """Refuse a line that is not wholly the numbers which the header announces.

    Parameters
    ----------
    path : Path
        Names the file in errors.
    text : bytes
        Whole lines, each with its end; blank ones may be among them.
    first : int
        Number of the first of these lines in the file, from 1.
    layout, field : str
        From the header: ``"coordinate"`` or ``"array"``, and ``"real"``, ``"integer"``,
        ``"unsigned-integer"`` or ``"pattern"``.

    Raises
    ------
    InputError
        Names the line, what is wrong with it, and the likely remedy.
    """
    good = re.compile(rb"(?>[ \t\r]*+\n|" + _line(layout, field) + rb")*+")  # `re` keeps it
    found = good.match(text)
    end = 0 if found is None else found.end()
    if end == len(text):
        return
    line = text[end : text.index(b"\n", end)].decode("ascii", "replace").split()
    number = first + text.count(b"\n", 0, end)
    raise InputError(f"{path}, line {number:,}: {_what(line, layout, field)}")


def _what(tokens: list[str], layout: str, field: str) -> str:
    """Return what is wrong with a line, and the remedy."""
    names = ["row", "column"] if layout == "coordinate" else []
    names += [] if field == "pattern" else ["value"]
    shown = repr(" ".join(tokens)[:_SHOWN])
    for name, token in zip(names, tokens, strict=False):
        if name == "value":
            if not re.fullmatch(_VALUES.get(field) or _REAL, token.encode()):
                return _no_value(token, field)
        elif not re.fullmatch("[0-9]+", token):
            return f"{shown} must begin with a row and a column, but {token[:_SHOWN]!r} is none"
    if layout == "coordinate" and field == "pattern" and len(tokens) > len(names):
        return (
            f"{shown} has a value, but the header says pattern, which has none; where it counts, "
            "write real for pattern in the first line"
        )
    remedy = "each on a line of its own" if layout == "array" else "and nothing after them"
    return f"{shown} has {len(tokens)} parts; there must be {', '.join(names)}, {remedy}"


def _no_value(token: str, field: str) -> str:
    shown = repr(token[:_SHOWN])
    if field != "real" and re.fullmatch(_REAL, token.encode()):
        return (
            f"{shown} is no number of the field {field!r} that the header declares; write real "
            f"for {field} in the first line"
        )
    point = token.replace(",", ".")
    if re.fullmatch(_REAL, point.encode()):
        return f"{shown} is no number; write it with a decimal point: {point}"
    exponent = re.sub("[dD]", "e", token)
    if re.fullmatch(_REAL, exponent.encode()):
        return f"{shown} is no number; write its exponent with e: {exponent}"
    if token.startswith("+") and re.fullmatch(_REAL, token[1:].encode()):
        return f"{shown} begins with a plus sign, which is not read; leave it out: {token[1:]}"
    return f"{shown} is no number; correct it, or write the file again"
