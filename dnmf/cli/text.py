"""Numbers and tables as plain text, the same on a terminal and in a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["columns", "number_text", "seconds_text"]


def seconds_text(seconds: float) -> str:
    """``0.83 s``, ``12 s``, ``1:05 min`` or ``2:10 h``."""
    if seconds < 9.5:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"


def number_text(value: float | None, digits: int = 6) -> str:
    """Write a number with some digits, ``-`` where there is none."""
    return "-" if value is None else f"{value:.{digits}g}"


def columns(rows: Iterable[Sequence[str]], right: frozenset[int] = frozenset()) -> str:
    """Write rows as lines with aligned columns; the last column is never padded.

    Parameters
    ----------
    rows : iterable of sequence of str
        All of one length.
    right : frozenset of int
        Columns that are aligned at their right.
    """
    table = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
