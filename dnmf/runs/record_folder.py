"""Commit records as files: created only if they are absent, passed over where they are damaged."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from dnmf.errors import RunError
from dnmf.faultpoints import reach
from dnmf.runs.files import create_file, delete_leniently, new_id, storage
from dnmf.runs.layout import RECORDS, read_records
from dnmf.runs.objects import open_fresh
from dnmf.runs.records import decode

__all__ = ["RecordFolder"]


class RecordFolder:
    """Reads and writes the records of one run folder.

    Parameters
    ----------
    run : str
        The run folder.
    """

    def __init__(self, run: str) -> None:
        self._run = run

    def path(self, index: int) -> str:
        """Return the path of a record's file."""
        return os.path.join(self._run, RECORDS, f"{index}.json")

    def create(self, index: int, data: bytes, details: dict[str, Any]) -> bool:
        """Create a record durably; False where it or a later one exists.

        A damaged record does not count, and gives way.
        """
        if not self._link(index, data, details):
            return False
        # numbers that another process dropped are free again
        later = [other for other in read_records(self._run) if other > index]
        if any(isinstance(self.find(other), dict) for other in later):
            os.unlink(self.path(index))
            return False
        return True

    def _link(self, index: int, data: bytes, details: dict[str, Any]) -> bool:
        path = self.path(index)
        for _ in range(2):
            try:
                create_file(
                    path,
                    [data],
                    staged=lambda t: reach("record-staged", **details, path=t),
                    linked=lambda: reach("record-linked", **details, path=path),
                )
                return True
            except FileExistsError:
                if not self._give_way(index, path):
                    return False
        return False

    def _give_way(self, index: int, path: str) -> bool:
        """Move a damaged record aside; False where it is valid."""
        if isinstance(self.find(index), dict):
            return False
        aside = f"{path}.damaged-{new_id()}"
        os.rename(path, aside)
        with open(aside, "rb") as file, suppress(ValueError, FileExistsError):
            decode(file.read())
            os.link(aside, path)  # it was replaced by a valid one meanwhile: put that back
        return True

    def find(self, index: int) -> dict[str, Any] | str:
        """Read a record, or say in words why there is none."""
        path = self.path(index)
        try:
            with storage("read", path, may_pass=False), open_fresh(path) as file:
                return decode(file.read())
        except ValueError as error:
            return str(error)
        except RunError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return "it does not exist"
            raise

    def latest(self, damaged: list[str]) -> tuple[int, dict[str, Any]] | None:
        """Read the highest valid record; ``damaged`` gets which ones were passed over and why."""
        for index in reversed(read_records(self._run)):
            found = self.find(index)
            if isinstance(found, dict):
                return index, found
            damaged.append(f"record {index} is passed over: {found}")
        return None

    def drop(self, before: int) -> None:
        """Delete records below ``before``, but for the newest two valid ones."""
        valid = 0
        for index in reversed(read_records(self._run)):
            if valid < 2:
                valid += isinstance(self.find(index), dict)
            elif index < before:
                delete_leniently(os.unlink, self.path(index))
