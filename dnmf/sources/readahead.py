"""Ask the system for files that will be read soon, so that a disk works while others compute."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

__all__ = ["expect_files"]


def expect_files(paths: Iterable[str]) -> None:
    """Begin to read files into the system's page cache; returns before they are there.

    A hint and nothing else: it takes no memory of this process, what was hinted in vain can be
    dropped at any time, and no failure is an error, since whoever reads the file meets it. Systems
    without ``posix_fadvise`` (macOS) do nothing.
    """
    advise = getattr(os, "posix_fadvise", None)
    if advise is None:
        return
    for path in paths:
        with suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                advise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(handle)
