"""A run that lives in this process only."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import numpy as np

from dnmf.errors import RunError, RunLockedError
from dnmf.runs.base import ObjectRef, RunStore
from dnmf.runs.records import rounded_trip

__all__ = ["MemoryStore"]

LOGS = ("history", "sample_history", "executed")
"""Lists of a record that steps append to and never change otherwise."""


class MemoryStore(RunStore):
    """Keeps a run in dictionaries, for fits in this process without a run folder.

    References carry no checksum: memory is trusted.
    """

    def __init__(self) -> None:
        self._objects: dict[str, np.ndarray] = {}
        self._records: dict[int, dict[str, Any]] = {}
        self._plan: dict[str, Any] | None = None
        self._attempts = itertools.count()
        self._logs: dict[str, tuple[list[Any], list[Any]]] = {}  # what was given, and copies

    def __reduce__(self) -> NoReturn:
        raise RunError(
            "a run in memory cannot be sent to another process; give a run folder with out="
        )

    def put(self, name: str, array: np.ndarray) -> ObjectRef:
        copy = np.array(array, order="C")  # the caller may use its memory again
        copy.flags.writeable = False
        ref = ObjectRef(f"{name}-{next(self._attempts)}", "")
        self._objects[ref.name] = copy
        return ref

    def get(self, ref: ObjectRef) -> np.ndarray:
        try:
            return ref.select(self._objects[ref.name])
        except KeyError:
            raise RunError(f"the object {ref.name} is missing: the run went on since") from None

    def create(self, plan: Mapping[str, Any]) -> None:
        if self._plan is not None:
            raise RunLockedError("this run has its plan already")
        self._plan = rounded_trip(plan)

    def plan(self) -> dict[str, Any]:
        if self._plan is None:
            raise RunError("this run has no plan yet")
        return rounded_trip(self._plan)

    def commit(self, index: int, record: Mapping[str, Any], fresh: Iterable[str] = ()) -> None:
        # setdefault decides between threads; what is stored shares nothing with the caller.
        logs = {key: record[key] for key in LOGS if type(record.get(key)) is list}
        mine = rounded_trip({key: value for key, value in record.items() if key not in logs})
        mine |= {key: self._log(key, entries) for key, entries in logs.items()}
        behind = any(other > index for other in list(self._records))
        if behind or self._records.setdefault(index, mine) is not mine:
            raise RunLockedError(
                f"record {index} or a later one exists: something else went on with this run"
            )

    def record(self, index: int) -> dict[str, Any]:
        return rounded_trip(self._stored(index))

    def state(self, index: int) -> dict[str, Any]:
        return rounded_trip(self._stored(index)["state"])

    def _stored(self, index: int) -> dict[str, Any]:
        try:
            return self._records[index]
        except KeyError:
            raise RunError(f"this run has no record {index}") from None

    def _log(self, key: str, entries: list[Any]) -> list[Any]:
        """Copy the entries of a list that steps append to, each of them once.

        Copying all of a history in every pass would cost the square of their number.
        """
        known, copies = self._logs.get(key, ([], []))
        if entries[: len(known)] != known:  # which is quick: most are the same objects
            known, copies = [], []
        added = [rounded_trip({"": entry})[""] for entry in entries[len(known) :]]
        self._logs[key] = list(entries), copies + added
        return self._logs[key][1]

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        if not self._records:
            return None
        index = max(self._records)
        return index, self.record(index)

    def drop(self, needed: Iterable[str], records_before: int, wait: bool = True) -> None:
        names = set(needed)
        for name in [name for name in self._objects if name not in names]:
            del self._objects[name]
        newest = sorted(self._records)[-2:]
        for index in [i for i in self._records if i < records_before and i not in newest]:
            del self._records[index]
