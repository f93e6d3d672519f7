"""The streams of `dnmf.linalg.counter`, one for each random array.

Arrays of one seed are independent if their streams differ, so every use has a number here.
"""

from __future__ import annotations

from enum import IntEnum, unique

__all__ = ["STARTS", "Stream"]

STARTS = 1 << 40
"""The streams below are those of random starts: 0 for the first, one more for each that a search
draws after it."""


@unique
class Stream(IntEnum):
    """Everything else that is drawn. Another number is another draw: older runs cannot go on."""

    SAMPLE = STARTS
    FOLD_ROWS = 1 << 41
    FOLD_COLUMNS = FOLD_ROWS + 1
    SPECKLED = FOLD_ROWS + 2
    NNDSVD_RANGE = FOLD_ROWS + 3
    NNDSVD_NOISE = FOLD_ROWS + 4
