"""A run in a folder on a local or shared file system."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from dnmf.errors import RunError, RunLockedError
from dnmf.faultpoints import reach
from dnmf.runs.base import ObjectRef, RunStore
from dnmf.runs.creation import Creation, creation_done, prepare_folder
from dnmf.runs.deletion import Deletion, clear_objects
from dnmf.runs.files import create_file, storage, sync_folder
from dnmf.runs.layout import (
    FORMAT,
    OBJECTS,
    PLAN,
    STATE,
    local_path,
    read_plan,
    read_records,
    resume_command,
)
from dnmf.runs.lock import RunLock
from dnmf.runs.objects import read_object, write_object
from dnmf.runs.record_folder import RecordFolder
from dnmf.runs.records import encode

__all__ = ["FolderStore"]


class FolderStore(RunStore):
    """Keeps a run in a folder that every process of the run reaches.

    Cheap to make (nothing is read), and picklable: another process makes it again from its path.

    Parameters
    ----------
    path : str or path-like
        The run folder.

    Raises
    ------
    RunError
        The path is a URL of an object store.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = local_path(path)
        self._objects = os.path.join(self._path, OBJECTS)
        self._records = RecordFolder(self._path)
        self._creation: Creation | None = None
        self._lock: RunLock | None = None
        self._deletion: Deletion | None = None
        self._damaged: list[str] = []

    def __reduce__(self) -> tuple[type[FolderStore], tuple[str]]:
        return FolderStore, (self._path,)

    def __repr__(self) -> str:
        return f"FolderStore({self._path!r})"

    @property
    def path(self) -> str:
        """The run folder, absolute."""
        return self._path

    @property
    def damaged(self) -> Sequence[str]:
        return self._damaged

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
        protected: Iterable[str | os.PathLike[str]] = (),
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
        protected : iterable of str or path-like
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
        store._creation = prepare_folder(store._path, overwrite, protected, unbegun)
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
                if self.latest() is not None:  # who committed the first step may have ended there
                    self._created()
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
        path = self._records.path(index)
        data = encode(record)
        details = {"index": index, "kind": str(record.get("kind"))}
        reach("record-writing", **details, path=path)
        with storage("write", path, may_pass=False):
            self._sync_names(fresh)
            self._check_lock()
            if not self._records.create(index, data, details):
                raise RunLockedError(
                    f"record {index} or a later one exists: another process went on with this "
                    f"run. Let it end, or stop it and go on with {resume_command(self._path)}"
                )
        reach("record-committed", **details, path=path)
        if index == 0:
            self._created()

    def _created(self) -> None:
        """Delete what the run replaced: from its first record on, nothing unmakes it."""
        if self._creation is not None:
            self._creation.done = True
        with storage("delete from", self._path, may_pass=False):
            creation_done(self._path)

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

    def record(self, index: int) -> dict[str, Any]:
        found = self._records.find(index)
        if isinstance(found, str):
            raise RunError(f"{self._records.path(index)}: {found}")
        return found

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        self._damaged = []
        return self._records.latest(self._damaged)

    def drop(self, needed: Iterable[str], records_before: int, wait: bool = True) -> None:
        # a sample of some hundred MB takes half a second to delete: the caller need not wait
        self.wait_for_deletion()
        with storage("delete from", self._path, may_pass=False):
            found = clear_objects(self._objects, needed)
            self._check_lock()  # whoever took it over since has stored nothing that was found
            self._records.drop(records_before)
        self._deletion = Deletion(found)
        self._deletion.start()
        if wait:
            self.wait_for_deletion()

    def wait_for_deletion(self) -> None:
        deletion, self._deletion = self._deletion, None
        if deletion is not None:
            with storage("delete from", self._path, may_pass=False):
                deletion.wait()
