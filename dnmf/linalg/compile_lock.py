"""A lock by which only one of several processes compiles a kernel that is not on disk."""

from __future__ import annotations

import fcntl
import os
import threading
import time

__all__ = ["CompileLock"]


class CompileLock:
    """A lock between processes, held by a thread while it compiles one function.

    Where it cannot be had (a file system without locks, a holder that was stopped) compilation
    goes on without: it only saves work.

    Parameters
    ----------
    path : str
        Path of a file that is created, and stays empty.
    patience : float
        Seconds to wait for another process.
    """

    def __init__(self, path: str, patience: float = 60.0) -> None:
        self._path = path
        self._patience = patience
        self._owner: tuple[int, int] | None = None  # thread, file

    def acquire(self) -> None:
        """Wait until no other process has it. Threads of this process do not call this at once."""
        try:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        if self._locked(file):
            self._owner = threading.get_ident(), file
        else:
            os.close(file)

    def release(self) -> None:
        """Let others go on, if this thread has it."""
        if self._owner is not None and self._owner[0] == threading.get_ident():
            file = self._owner[1]
            self._owner = None
            try:
                fcntl.flock(file, fcntl.LOCK_UN)  # a process that was forked meanwhile has it open
            finally:
                os.close(file)

    def _locked(self, file: int) -> bool:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.01)
            except OSError:
                return False
