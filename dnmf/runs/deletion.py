"""Deleting the objects that a run no longer needs, beside whoever goes on with it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable

from dnmf.runs.files import TEMPORARY, delete_leniently

__all__ = ["Deletion", "clear_objects"]

_LITTER_AGE = 60.0
"""Seconds after which a temporary file is taken for one whose writer was killed, and an empty
folder for one that nobody is about to write into."""


def clear_objects(folder: str, needed: Iterable[str]) -> list[str]:
    """Remove empty folders, and list the files of objects that are not needed."""
    stays = {f"{name}.npy" for name in needed}
    old, found = time.time() - _LITTER_AGE, list[str]()
    for inner, _, files in os.walk(folder, topdown=False):
        inside = os.path.relpath(inner, folder)
        for name in files:
            path = os.path.join(inner, name)
            if name.startswith(TEMPORARY) and _changed(path) > old:
                continue  # a late process may be writing it
            if os.path.normpath(os.path.join(inside, name)) not in stays:
                found.append(path)
        if inner != folder and _changed(inner) < old:
            delete_leniently(os.rmdir, inner)
    return found


def _changed(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return 0.0


class Deletion(threading.Thread):
    """Deletes files, and keeps an error for whoever waits for it."""

    def __init__(self, paths: list[str]) -> None:
        super().__init__(name="dnmf-delete")
        self._paths = paths
        self._error: OSError | None = None

    def run(self) -> None:
        try:
            for path in self._paths:
                delete_leniently(os.unlink, path)
        except OSError as error:
            self._error = error

    def wait(self) -> None:
        """Wait until all files are gone; raises the OSError that they were not."""
        self.join()
        if self._error is not None:
            raise self._error
