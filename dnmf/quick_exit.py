"""End a process without taking every imported module apart, for which its user would wait."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import weakref
from contextlib import suppress

__all__ = ["NOT_FLUSHED", "QuickExit"]

NOT_FLUSHED = 120
"""Python's own exit code where output does not arrive."""


class QuickExit:
    """Ends the process as soon as the exit handlers that are registered after it ran.

    Those registered later run before, and finalizers and handlers of logging; so make it early.
    Taking apart what NumPy, numba, Zarr and Dask put into memory takes Python a tenth to half of
    a second; the system does it at once.

    Attributes
    ----------
    code : int or None
        The exit code, whatever happens: set it once all went well. None (at first) leaves the end
        of the process to Python.
    """

    def __init__(self, code: int | None = None) -> None:
        self.code = code
        atexit.register(self._end)

    def _end(self) -> None:
        if self.code is None:
            return
        code = self.code
        # Of what was registered before this, which will not run:
        weakref.finalize._exitfunc()  # type: ignore[attr-defined]
        logging.shutdown()
        try:
            if sys.stdout is not None and not sys.stdout.closed:
                sys.stdout.flush()
        except OSError as error:
            if code == 0:  # else something worse was told
                code = NOT_FLUSHED
                with suppress(OSError, ValueError, AttributeError):
                    sys.stderr.write(f"error: the last output could not be written: {error}\n")
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()
        os._exit(code)
