"""What a run keeps: objects, and records that commit them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

__all__ = [
    "ObjectRef",
    "ReadOnce",
    "Reader",
    "Refs",
    "RunStore",
    "optional_refs",
    "refs_from_json",
    "refs_to_json",
]


@dataclass(frozen=True)
class ObjectRef:
    """The name of a stored array and the checksum of its contents.

    Attributes
    ----------
    name : str
        Relative to the run, e.g. ``3/W-0-17-a1b2c3``. Never reused, never overwritten.
    checksum : str
        Of dtype, shape and bytes; a reader that finds another one refuses the object.
    part : (int, int, int) or None
        Axis, start and stop of the part of the array that is meant: models that share a step
        share objects. None is all of it.
    """

    name: str
    checksum: str
    part: tuple[int, int, int] | None = None

    def to_json(self) -> list[Any]:
        return [self.name, self.checksum, *(self.part or ())]

    @classmethod
    def from_json(cls, value: Iterable[Any]) -> ObjectRef:
        name, checksum, *part = value
        return cls(name, checksum, (part[0], part[1], part[2]) if part else None)

    def select(self, array: np.ndarray) -> np.ndarray:
        """The part that is meant of the whole array."""
        if self.part is None:
            return array
        axis, start, stop = self.part
        return array[start:stop] if axis == 0 else array[:, start:stop]


Refs: TypeAlias = "tuple[ObjectRef, ...]"


def refs_to_json(refs: Iterable[ObjectRef] | None) -> list[list[Any]] | None:
    """Convert references to what a record keeps of them; None stays None."""
    return None if refs is None else [ref.to_json() for ref in refs]


def refs_from_json(values: Iterable[Iterable[Any]]) -> Refs:
    """Convert what a record keeps of references back to them."""
    return tuple(ObjectRef.from_json(value) for value in values)


def optional_refs(values: Iterable[Iterable[Any]] | None) -> Refs | None:
    """Convert references that may be None back to them."""
    return None if values is None else refs_from_json(values)


class ReadOnce:
    """A store that reads an object which several models share only once, while it lives."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._whole: dict[str, np.ndarray] = {}

    def get(self, ref: ObjectRef) -> np.ndarray:
        """See `RunStore.get`."""
        if ref.part is None:
            return self._store.get(ref)
        if ref.name not in self._whole:
            self._whole[ref.name] = self._store.get(ObjectRef(ref.name, ref.checksum))
        return ref.select(self._whole[ref.name])


class Reader(Protocol):
    """What reads objects of a run."""

    def get(self, ref: ObjectRef) -> np.ndarray: ...


class RunStore(Protocol):
    """Where one run lives. All state of a fit is here, versioned; nothing is overwritten.

    Attributes
    ----------
    path : str or None
        The run folder; None for a run in memory.
    """

    @property
    def path(self) -> str | None: ...

    def put(self, name: str, array: np.ndarray) -> ObjectRef:
        """Store an array durably under a new name (an attempt id is added to it).

        Raises
        ------
        RunError
            The storage is full or read-only.
        """
        ...

    def get(self, ref: ObjectRef) -> np.ndarray:
        """The array, verified against its checksum; not to be modified.

        Raises
        ------
        RunError
            The object is missing, truncated or differs from its checksum.
        """
        ...

    def create(self, plan: Mapping[str, Any]) -> None:
        """Write the run's plan (once, before any record)."""
        ...

    def plan(self) -> dict[str, Any]:
        """The run's plan."""
        ...

    def commit(self, index: int, record: Mapping[str, Any], fresh: Iterable[str] = ()) -> None:
        """Create record ``index`` (0, 1, ...) only if absent; this commits the step.

        ``fresh`` are the objects that it names and no record before it did: their names become
        durable first.

        Raises
        ------
        RunLockedError
            The record exists: another process went on with this run.
        """
        ...

    def record(self, index: int) -> dict[str, Any]:
        """One committed record."""
        ...

    def state(self, index: int) -> dict[str, Any]:
        """What steps need of it: its ``"state"``, without the history that grows with each."""
        ...

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        """Index and content of the highest valid record, or None before the first."""
        ...

    def drop(self, keep: Iterable[str], records_before: int, wait: bool = True) -> None:
        """Delete objects whose name is not in ``keep`` and records below ``records_before``.

        Without ``wait`` it may go on until ``settle`` or the next call, which raise its errors.
        """
        ...

    def settle(self) -> None:
        """Wait until what ``drop`` deletes is gone."""
        ...
