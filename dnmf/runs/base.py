"""The protocol of a run store: objects, and records that commit them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    """Names a stored array, with the checksum of its contents.

    Attributes
    ----------
    name : str
        Relative to the run, e.g. ``3/W-0-17-a1b2c3``. Never reused, never overwritten.
    checksum : str
        Of dtype, shape and bytes; a store that finds another one refuses the object.
    part : (int, int, int) or None
        Axis, start and stop of the part of the array that is meant: models that share a step
        share objects. None means all of it.
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
        """Cut the part that is meant out of the whole array, as a view."""
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


class Reader(Protocol):
    """Reads objects of a run: all of a store that a computation needs."""

    def get(self, ref: ObjectRef) -> np.ndarray:
        """Read an array (or the part that ``ref`` means), and verify it against its checksum.

        Returns
        -------
        numpy.ndarray
            Not to be modified.

        Raises
        ------
        RunError
            The object is missing, truncated or differs from its checksum.
        """
        ...


class ReadOnce(Reader):
    """Reads an object that several models share only once, as long as the reader lives."""

    def __init__(self, store: Reader) -> None:
        self._store = store
        self._whole: dict[str, np.ndarray] = {}

    def get(self, ref: ObjectRef) -> np.ndarray:
        if ref.part is None:
            return self._store.get(ref)
        if ref.name not in self._whole:
            self._whole[ref.name] = self._store.get(ObjectRef(ref.name, ref.checksum))
        return ref.select(self._whole[ref.name])


class RunStore(Reader, Protocol):
    """Keeps all state of one run, versioned: nothing is ever overwritten.

    A run has one plan, objects (arrays that only a record makes count) and records numbered from
    0. The highest valid record is the state of the run. A record is created only if it is absent,
    which decides between processes; objects that no record names are litter of a process that was
    killed, and the next ``drop`` deletes them.

    A store inherits this class and overrides the methods without a body. One whose processes
    share storage is picklable: another process makes it again from where it is.
    """

    @property
    def path(self) -> str | None:
        """The run folder that the result is published in; None for a run without one."""
        return None

    @property
    def damaged(self) -> Sequence[str]:
        """A sentence for each record that the last call of ``latest`` passed over."""
        return ()

    def put(self, name: str, array: np.ndarray) -> ObjectRef:
        """Store an array durably under a new name, to which an attempt id is added.

        Parameters
        ----------
        name : str
            Parts of letters, digits and ``- _ . +``, joined by ``/``.
        array : numpy.ndarray
            Copied: the caller may use its memory again.

        Returns
        -------
        ObjectRef
            The whole array. Two calls with one name give two objects.

        Raises
        ------
        RunError
            The storage is full or read-only.
        """
        ...

    def create(self, plan: Mapping[str, Any]) -> None:
        """Write the run's plan, once, before any record.

        Raises
        ------
        RunLockedError
            The run has its plan already: another process began it.
        """
        ...

    def plan(self) -> dict[str, Any]:
        """Read the run's plan; the caller may change what it gets.

        Raises
        ------
        RunError
            There is none, or it is damaged.
        """
        ...

    def commit(self, index: int, record: Mapping[str, Any], fresh: Iterable[str] = ()) -> None:
        """Create record ``index`` only if it and all later ones are absent; commits the step.

        Parameters
        ----------
        index : int
        record : dict
            JSON; numbers and arrays of NumPy become numbers and lists.
        fresh : iterable of str
            Objects that the record names and no record before it did. Their names become durable
            before the record does.

        Raises
        ------
        RunLockedError
            The record or a later one exists: another process went on with this run. A damaged
            record does not count; it gives way.
        """
        ...

    def record(self, index: int) -> dict[str, Any]:
        """Read one committed record; the caller may change what it gets.

        Raises
        ------
        RunError
            There is no such record, or it is damaged.
        """
        ...

    def state(self, index: int) -> dict[str, Any]:
        """Read what steps need of a record: its ``"state"``, without the history."""
        found: dict[str, Any] = self.record(index)["state"]
        return found

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        """Read the highest valid record, with its index; None before the first."""
        ...

    def drop(self, needed: Iterable[str], records_before: int, wait: bool = True) -> None:
        """Delete objects that are not needed, and records below ``records_before``.

        The newest two valid records stay in any case, so that damage to one costs one step.
        Only to be called while no step runs: what a step has stored is not named yet.

        Parameters
        ----------
        needed : iterable of str
            Names of the objects of all records that are to be read again.
        records_before : int
        wait : bool
            Without, objects may be deleted while the caller goes on, until
            ``wait_for_deletion`` or the next call; those raise what went wrong.
        """
        ...

    def wait_for_deletion(self) -> None:
        """Wait until what ``drop`` deletes is gone, where it works on beside the caller."""
        return None
