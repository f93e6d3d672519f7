"""Ctrl-C, SIGTERM, a full disk: what is committed stays, and how to go on is said."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from dnmf.errors import DnmfError, ResumableError, StorageError

__all__ = ["resumable"]


@contextmanager
def resumable(path: str, arguments: str) -> Iterator[None]:
    """Turn an interruption of the fit in ``path`` into exit code 3 and a way to go on.

    Parameters
    ----------
    path : str
        The run folder.
    arguments : str
        Options to repeat in ``dnmf resume``.

    Raises
    ------
    ResumableError
        The fit was interrupted after it had made its run folder, or could not write there: no
        space, an input/output error. What happened before that stays what it was.
    """
    again = f"dnmf resume {shlex.quote(path)}{arguments}"
    try:
        with _sigterm_as_interrupt():
            yield
    except KeyboardInterrupt:
        if not _exists(path):
            raise
        raise ResumableError(
            f"interrupted; every committed pass is kept in {path}. Go on with:\n{again}"
        ) from None
    except StorageError as error:
        raise ResumableError(f"{error}:\n{again}") from error


def _exists(path: str) -> bool:
    """Return whether there is a run, finished or not."""
    import dnmf

    try:
        dnmf.open(path)
    except DnmfError:
        return False
    return True


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let a batch system's SIGTERM end a fit as Ctrl-C does, with its workers."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = None
    with suppress(ValueError):  # not in the main thread: then signals are someone else's
        previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        if previous is not None:
            sys.stderr.flush()
            signal.signal(signal.SIGTERM, previous)
