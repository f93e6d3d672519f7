"""NumPy's settings for the library's own arithmetic, whatever those of the caller are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

__all__ = ["own_state"]

BUFFER = 8192
"""Entries that NumPy casts at once, its default: sums of entries that are cast depend on it."""


@contextmanager
def own_state() -> Iterator[None]:
    """Compute without the caller's `numpy.seterr` and `numpy.setbufsize`; also a decorator.

    Nothing warns, since under ``-W error`` a warning is an exception. What leaves the range of a
    dtype is found by looking at values: entries by the scan, objectives by the passes. The
    caller's settings are back at the end. A new thread begins with NumPy's defaults, which warn.
    """
    with np.errstate(all="ignore"):
        before = np.setbufsize(BUFFER)
        try:
            yield
        finally:
            np.setbufsize(before)
