"""A run in a folder on a local or shared file system."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from dnmf.errors import RunError, RunLockedError
from dnmf.faultpoints import reach
from dnmf.runs.base import ObjectRef
from dnmf.runs.creation import Creation, creation_done, prepare_folder
from dnmf.runs.files import TEMPORARY, create_file, new_id, storage, sync_folder
from dnmf.runs.layout import (
    FORMAT,
    OBJECTS,
    PLAN,
    RECORDS,
    STATE,
    local_path,
    read_plan,
    read_records,
    resume_command,
)
from dnmf.runs.lock import RunLock
from dnmf.runs.objects import open_fresh, read_object, write_object
from dnmf.runs.records import decode, encode

__all__ = ["FolderStore"]

_LATE = {errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.ESTALE}
"""What deleting may meet where another process is late: nothing that matters."""


_LITTER_AGE = 60.0
"""Seconds after which a temporary file is taken for one whose writer was killed, and an empty
folder for one that nobody is about to write into."""


class FolderStore:
    """A RunStore on a path that every process of the run reaches.

    Cheap to make (nothing is read), and picklable: another process makes it again from its path.

    Parameters
    ----------
    path : str or path-like
        The run folder.

    Attributes
    ----------
    damaged : list of str
        A sentence for each record that ``latest`` had to pass over.

    Raises
    ------
    RunError
        The path is a URL of an object store.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = local_path(path)
        self._objects = os.path.join(self._path, OBJECTS)
        self._creation: Creation | None = None
        self._lock: RunLock | None = None
        self._deletion: _Deletion | None = None
        self.damaged: list[str] = []

    def __reduce__(self) -> tuple[type[FolderStore], tuple[str]]:
        return FolderStore, (self._path,)

    def __repr__(self) -> str:
        return f"FolderStore({self._path!r})"

    @property
    def path(self) -> str:
        """The run folder, absolute."""
        return self._path

    @property
    def state_folder(self) -> str:
        """Where the run's own files are; nothing else of the result is in there."""
        return os.path.join(self._path, STATE)

    @classmethod
    def create_new(
        cls,
        path: str | os.PathLike[str],
        plan: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        protect: Iterable[str | os.PathLike[str]] = (),
        unbegun: bool = False,
    ) -> FolderStore:
        """Make the folder of a new run.

        Parameters
        ----------
        path : str or path-like
        plan : dict, optional
            JSON. Without it the caller stores the objects that the plan names, then calls
            ``create``.
        overwrite : bool
            Replace what is there, if dnmf made it or it is an empty folder. A run or result is
            set aside and deleted when the new run's first step is committed, so that a new run
            that fails before (``discard``) costs nothing.
        protect : iterable of str or path-like
            Paths of data that must not be inside what is replaced.
        unbegun : bool
            Replace an empty folder, or a run that was cut off before it had a plan.

        Raises
        ------
        OutputExistsError
            Something is at ``path`` that may not be replaced; the message says what.
        RunLockedError
            A living process works on the run that is there.
        RunError
            The storage refuses, e.g. it is full or read-only. Nothing is left behind.
        """
        store = cls(path)
        store._creation = prepare_folder(store._path, overwrite, protect, unbegun)
        try:
            if plan is not None:
                store.create(plan)
        except BaseException:
            store.discard()
            raise
        return store

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run's lock; ``create``, ``commit`` and ``drop`` refuse where it is lost.

        Raises
        ------
        RunLockedError
            A living process works on the run, or it is not the one that ``create_new`` made.
            Later: another process took the lock over, whatever else failed because of that.
        """
        self._check_made()
        with RunLock(self._path) as lock:
            self._check_made()
            self._lock = lock
            try:
                yield
            except RunError:  # such as of an object that the other one has deleted
                self._check_lock()
                raise
            finally:
                self._lock = None

    def _check_made(self) -> None:
        creation = self._creation
        if creation is not None and not (creation.done or creation.is_there()):
            raise RunLockedError(
                f"{self._path} was replaced by another process since this one made it; let that "
                "one end, or give another output path"
            )

    def _check_lock(self) -> None:
        if self._lock is not None:
            self._lock.check()

    def discard(self) -> None:
        """Remove what ``create_new`` made, and put back what it replaced.

        Nothing happens where another process works on it, or has replaced it.

        Raises
        ------
        RunError
            The run was not made by this object, or has committed steps.
        """
        if self._creation is None:
            raise RunError(f"{self._path} was not made by this process; it is left as it is")
        if self._creation.done or (self._creation.is_there() and read_records(self._path)):
            raise RunError(
                f"{self._path} has committed steps: go on with {resume_command(self._path)}"
            )
        creation, self._creation = self._creation, None
        with suppress(RunLockedError):
            self._check_lock()
            creation.undo()
        self._lock = None  # it was in there

    def put(self, name: str, array: np.ndarray) -> ObjectRef:
        return write_object(self._objects, name, array)

    def get(self, ref: ObjectRef) -> np.ndarray:
        return ref.select(read_object(self._objects, ref))

    def create(self, plan: Mapping[str, Any]) -> None:
        path = os.path.join(self._path, PLAN)
        data = encode({"format": FORMAT, "plan": plan})
        self._check_lock()
        try:
            with storage("write", path, may_pass=False):
                for folder, _, _ in os.walk(self._objects):  # a given start
                    sync_folder(folder)
                create_file(path, [data], lambda t: reach("plan-staged", path=t))
        except RunError as error:
            if isinstance(error.__cause__, FileExistsError):
                raise RunLockedError(f"{self._path} has a plan: another process began it") from None
            raise

    def plan(self) -> dict[str, Any]:
        return read_plan(self._path)

    def commit(self, index: int, record: Mapping[str, Any], fresh: Iterable[str] = ()) -> None:
        path = self._record_path(index)
        data = encode(record)
        details = {"index": index, "kind": str(record.get("kind"))}
        reach("record-writing", **details, path=path)
        with storage("write", path, may_pass=False):
            self._sync_names(fresh)
            self._check_lock()
            made = self._link_record(index, path, data, details)
            if made and self._is_behind(index):
                os.unlink(path)
                made = False
            if not made:
                raise RunLockedError(
                    f"record {index} or a later one exists: another process went on with this "
                    f"run. Let it end, or stop it and go on with {resume_command(self._path)}"
                )
        reach("record-committed", **details, path=path)
        if index == 0:
            if self._creation is not None:
                self._creation.done = True
            with storage("delete from", self._path, may_pass=False):
                creation_done(self._path)

    def _is_behind(self, index: int) -> bool:
        """Whether another process went on: numbers that it dropped are free again."""
        later = [other for other in read_records(self._path) if other > index]
        return any(isinstance(self._try_record(other), dict) for other in later)

    def _sync_names(self, names: Iterable[str]) -> None:
        """Make the names of objects, and of their folders, durable: they were written without."""
        folders: set[str] = set()
        for name in names:
            folder = os.path.dirname(name)
            while folder not in folders:
                folders.add(folder)
                folder = os.path.dirname(folder)  # at last that of all objects, ""
        for folder in sorted(folders):
            sync_folder(os.path.join(self._objects, folder))

    def _link_record(self, index: int, path: str, data: bytes, details: dict[str, Any]) -> bool:
        """Create the record; one that is damaged does not count and gives way."""
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
        if isinstance(self._try_record(index), dict):
            return False
        aside = f"{path}.damaged-{new_id()}"
        os.rename(path, aside)
        with open(aside, "rb") as file, suppress(ValueError, FileExistsError):
            decode(file.read())
            os.link(aside, path)  # it was replaced by a valid one meanwhile: put that back
        return True

    def record(self, index: int) -> dict[str, Any]:
        found = self._try_record(index)
        if isinstance(found, str):
            raise RunError(f"{self._record_path(index)}: {found}")
        return found

    def state(self, index: int) -> dict[str, Any]:
        found: dict[str, Any] = self.record(index)["state"]
        return found

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        self.damaged = []
        for index in reversed(read_records(self._path)):
            found = self._try_record(index)
            if isinstance(found, dict):
                return index, found
            self.damaged.append(f"record {index} is passed over: {found}")
        return None

    def _record_path(self, index: int) -> str:
        return os.path.join(self._path, RECORDS, f"{index}.json")

    def _try_record(self, index: int) -> dict[str, Any] | str:
        """A record, or in words why there is none."""
        path = self._record_path(index)
        try:
            with storage("read", path, may_pass=False), open_fresh(path) as file:
                return decode(file.read())
        except ValueError as error:
            return str(error)
        except RunError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return "it does not exist"
            raise

    def drop(self, keep: Iterable[str], records_before: int, wait: bool = True) -> None:
        """Delete objects whose name is not in ``keep`` and records below ``records_before``.

        The newest two valid records stay, so that damage to one costs one step. What ``keep``
        does not name of their objects is gone: name those of both. Only while no step runs, or
        what the step stored is deleted too. Without ``wait``, what there is now to delete is
        deleted while the caller goes on: a sample of some hundred MB takes half a second.
        """
        self.settle()
        kept = {f"{name}.npy" for name in keep}
        old, gone = time.time() - _LITTER_AGE, list[str]()
        with storage("delete from", self._path, may_pass=False):
            for folder, _, files in os.walk(self._objects, topdown=False):
                inside = os.path.relpath(folder, self._objects)
                for name in files:
                    path = os.path.join(folder, name)
                    if name.startswith(TEMPORARY) and _changed(path) > old:
                        continue  # a late process may be writing it
                    if os.path.normpath(os.path.join(inside, name)) not in kept:
                        gone.append(path)
                if folder != self._objects and _changed(folder) < old:
                    _leniently(os.rmdir, folder)
            self._check_lock()  # whoever took it over since has stored nothing that was seen above
            self._drop_records(records_before)
        self._deletion = _Deletion(gone)
        self._deletion.start()
        if wait:
            self.settle()

    def settle(self) -> None:
        """Wait until what ``drop`` deletes is gone."""
        deletion, self._deletion = self._deletion, None
        if deletion is not None:
            with storage("delete from", self._path, may_pass=False):
                deletion.settle()

    def _drop_records(self, before: int) -> None:
        valid: list[int] = []
        for index in reversed(read_records(self._path)):
            if len(valid) < 2:
                if isinstance(self._try_record(index), dict):
                    valid.append(index)
            elif index < before:
                _leniently(os.unlink, self._record_path(index))


class _Deletion(threading.Thread):
    """Deletes files, and keeps the error for whoever settles it."""

    def __init__(self, paths: list[str]) -> None:
        super().__init__(name="dnmf-delete")
        self._paths = paths
        self._error: OSError | None = None

    def run(self) -> None:
        try:
            for path in self._paths:
                _leniently(os.unlink, path)
        except OSError as error:
            self._error = error

    def settle(self) -> None:
        self.join()
        if self._error is not None:
            raise self._error


def _changed(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return 0.0


def _leniently(delete: Callable[[str], None], path: str) -> None:
    try:
        delete(path)
    except OSError as error:
        if error.errno not in _LATE:
            raise
