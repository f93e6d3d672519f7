"""Making a run folder so that it can be unmade, and what it replaces comes back."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from dnmf.errors import OutputExistsError, RunLockedError
from dnmf.names import is_url
from dnmf.runs.files import create_file, make_folder, new_id, storage, sync_folder
from dnmf.runs.layout import (
    OBJECTS,
    RECORDS,
    REPLACED,
    STATE,
    Existing,
    examine,
    foreign_entries,
    read_records,
    resume_command,
)
from dnmf.runs.lock import Holder, holder

__all__ = ["Creation", "creation_done", "forget_replaced", "prepare_folder"]

_MARK = "made-"
_LONGEST_NAME = 200
"""Bytes of a name that leave room for what hidden names add, of the 255 that file systems take."""
_LITTER_AGE = 3600.0
"""Seconds after which nobody is at what is left beside a run."""
_IN_THE_WAY = {errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST}


@dataclass
class Creation:
    """Makes the folders of a new run, and knows them so that it can remove them again.

    Attributes
    ----------
    path : str
    kind : str
        What is there, as `examine` calls it.
    made : list of str
        Folders that were made, outermost first.
    aside : str or None
        Where what it replaces will be until the first commit.
    in_place : bool
        Whether the path had the folder of this creation. Another process may replace it before it
        is locked: what has not this creation's mark is not removed then.
    done : bool
        Whether a step is committed, and nothing can be undone.
    """

    path: str
    kind: str
    made: list[str] = field(default_factory=list)
    aside: str | None = None
    in_place: bool = False
    done: bool = False

    def __post_init__(self) -> None:
        self._mark = _MARK + new_id()
        self._hidden: list[str] = []

    def make(self) -> None:
        """Make the run's folder; FileExistsError where another process made one."""
        if self.kind in ("result", "run", "stub"):
            self._replace()
            return
        missing, folder = [], os.path.dirname(self.path)
        while not os.path.lexists(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for parent in reversed(missing):
            with suppress(FileExistsError):  # made by another process meanwhile
                self._make(parent)
        if self.kind != "empty":
            self._make(self.path)
        self._fill(self.path)

    def _fill(self, folder: str) -> None:
        """Make what is in a run folder, its mark before anything else that it may be known by."""
        for inside in (STATE, RECORDS, os.path.join(RECORDS, self._mark)):
            self._make(os.path.join(folder, inside))
        self.in_place = folder == self.path
        if self.aside is not None:
            name = os.fsencode(os.path.basename(self.aside))
            create_file(os.path.join(folder, REPLACED), [name])
        make_folder(os.path.join(folder, OBJECTS))

    def _make(self, folder: str) -> None:
        self.made.append(folder)  # before it is: an interrupt may come in between
        try:
            make_folder(folder)
        except FileExistsError:
            self.made.pop()
            raise

    def _replace(self) -> None:
        """Put a new folder in the place of a run, which is set aside until the first commit.

        A run that committed nothing is deleted, and what it had replaced stays set aside. The new
        folder is made beside it, so that a process that is killed leaves one or the other.
        """
        earlier = _replaced(self.path)
        begun = os.path.isdir(os.path.join(self.path, RECORDS)) and read_records(self.path)
        of_no_use = earlier is not None and not begun
        moved = self._beside("removed" if of_no_use else "replaced")
        self.aside = earlier if of_no_use else moved
        new = self._beside("new")
        self._hidden = [new, moved] if of_no_use else [new]
        self._make(new)
        self._fill(new)
        if not of_no_use:
            forget_replaced(self.path)
        os.rename(self.path, moved)
        living = holder(moved)  # took the lock after it was looked at
        if living is not None:
            os.rename(moved, self.path)
            raise RunLockedError(_worked_on(self.path, living))
        os.rename(new, self.path)
        self.in_place = True
        sync_folder(os.path.dirname(self.path))
        if of_no_use:
            shutil.rmtree(moved)

    def _beside(self, what: str) -> str:
        return os.path.join(os.path.dirname(self.path), _hidden(self.path, what) + new_id())

    def is_there(self) -> bool:
        """Say whether what is at the path was made here, and has no committed step."""
        return os.path.isdir(os.path.join(self.path, RECORDS, self._mark))

    def undo(self) -> None:
        """Remove what was made, and put back what was replaced."""
        mine = self.is_there()
        if self.in_place and not mine:
            return
        with storage("remove", self.path, may_pass=False):
            if mine and self.kind == "empty":
                shutil.rmtree(os.path.join(self.path, STATE))
            elif mine:
                self._hidden.append(_renamed(self.path))
            _remove_empty(folder for folder in self.made if folder.startswith(self.path))
            if self.aside is not None:
                try:
                    os.rename(self.aside, self.path)
                except OSError as error:  # it was not moved, or another run is in its place
                    if error.errno not in _IN_THE_WAY:
                        raise
            for folder in self._hidden:
                if os.path.isdir(folder):
                    shutil.rmtree(folder)
            _remove_empty(folder for folder in self.made if not folder.startswith(self.path))


def prepare_folder(
    path: str,
    overwrite: bool,
    protected: Iterable[str | os.PathLike[str]],
    unbegun: bool = False,
) -> Creation:
    """Make the folders of a new run at ``path``, where nothing may be.

    With ``unbegun`` an empty folder, or a run that was cut off before it had a plan, may be there.

    Raises
    ------
    OutputExistsError
        Something is there that may not be replaced.
    RunLockedError
        A living process works on the run that is there.
    RunError
        The storage refuses.
    """
    path = os.path.realpath(path)
    existing = examine(path)
    if existing.kind != "absent":
        allowed = overwrite or (unbegun and existing.unbegun)
        _check_replaceable(path, existing, allowed, protected)
    creation = Creation(path, existing.kind)
    with storage("create", path, may_pass=False):
        try:
            creation.make()
        except BaseException as error:
            creation.undo()
            if isinstance(error, OSError) and error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                raise OutputExistsError(f"another process just made {path}") from None
            raise
    return creation


def _check_replaceable(
    path: str,
    existing: Existing,
    overwrite: bool,
    protected: Iterable[str | os.PathLike[str]],
) -> None:
    if not overwrite or not existing.replaceable:
        raise OutputExistsError(f"{path} {existing.text}. {_remedy(path, existing)}")
    for source in [os.fspath(source) for source in protected]:
        if is_url(source):
            continue
        real = os.path.realpath(os.path.expanduser(source))
        if os.path.commonpath([real, path]) == path:
            raise OutputExistsError(
                f"{path} contains the data to read ({source}), so it is not overwritten. Give "
                "another output path"
            )
    if existing.kind == "empty":
        return
    foreign = foreign_entries(path)
    if foreign:
        raise OutputExistsError(
            f"{path} {existing.text}, but also what dnmf did not write ({', '.join(foreign[:3])}),"
            " so it is not overwritten. Move that away, or give another output path"
        )
    living = holder(path)
    if living is not None:
        raise RunLockedError(_worked_on(path, living))
    here = _working_folder()
    if here is not None and os.path.commonpath([here, path]) == path:
        raise OutputExistsError(
            f"{path} {existing.text}, and this process is in it ({here}): replacing would delete "
            "its working directory. Change to another one, or give another output path"
        )


def _working_folder() -> str | None:
    with suppress(OSError):  # it was deleted
        return os.path.realpath(os.getcwd())
    return None


def _worked_on(path: str, living: Holder) -> str:
    return f"{path} is being worked on by {living}. Stop that process first"


def _remedy(path: str, existing: Existing) -> str:
    replace = "replace it with overwrite=True (--overwrite)"
    if existing.kind == "run":
        return f"Go on with it: {resume_command(path)}; or {replace}; or give another output path"
    if existing.replaceable:
        return f"Give another output path, or {replace}"
    return "Give another output path; dnmf deletes only what it made"


def _hidden(path: str, what: str) -> str:
    """Say how the names begin of what a run folder leaves beside it."""
    name = os.path.basename(path)
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return f".{name}.{what}-"


def _replaced(path: str) -> str | None:
    """Find the folder that the run at ``path`` replaced, while it is still there."""
    try:
        with open(os.path.join(path, REPLACED), "rb") as file:
            name = os.fsdecode(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    aside = os.path.join(os.path.dirname(path), os.path.basename(name))
    mine = os.path.basename(name).startswith(_hidden(path, "replaced"))
    return aside if mine and os.path.isdir(aside) else None


def creation_done(path: str) -> None:
    """Delete what the run replaced and its mark: with the first record nothing unmakes it."""
    forget_replaced(path)
    _clear_litter(os.path.realpath(path))
    folder = os.path.join(path, RECORDS)
    for name in os.listdir(folder):
        if name.startswith(_MARK):
            with suppress(OSError):
                os.rmdir(os.path.join(folder, name))


def forget_replaced(path: str) -> None:
    """Delete what the run at ``path`` replaced, if that is still there."""
    path = os.path.realpath(path)
    replaced = _replaced(path)
    if replaced is not None:
        shutil.rmtree(replaced, ignore_errors=True)
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(path, REPLACED))


def _clear_litter(path: str) -> None:
    """Delete what processes that were killed left beside a run; not what one may be at."""
    begins = tuple(_hidden(path, what) for what in ("new", "removed"))
    for entry in list(os.scandir(os.path.dirname(path))):
        with suppress(OSError):
            if entry.name.startswith(begins) and time.time() - entry.stat().st_mtime > _LITTER_AGE:
                shutil.rmtree(entry.path)


def _remove_empty(folders: Iterable[str]) -> None:
    """Remove folders, given outermost first, that hold nothing."""
    for folder in reversed(list(folders)):
        with suppress(OSError):  # not empty, or gone
            os.rmdir(folder)


def _renamed(path: str) -> str:
    """Take a folder's name, so that nothing late is written into it while it is deleted."""
    doomed = os.path.join(os.path.dirname(path), _hidden(path, "removed") + new_id())
    os.rename(path, doomed)
    return doomed
