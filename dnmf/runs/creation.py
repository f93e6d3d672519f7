"""Making a run folder so that it can be unmade, and what it replaces comes back."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from dnmf.errors import OutputExistsError, RunLockedError
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
)
from dnmf.runs.lock import Holder, holder

__all__ = ["Creation", "creation_done", "forget_replaced", "prepare_folder"]

_MARK = "made-"
_LONGEST_NAME = 200
"""Bytes of a name that leave room for what hidden names add, of the 255 that file systems take."""
_IN_THE_WAY = {errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST}


@dataclass
class Creation:
    """What was made for a new run, so that it can be removed again.

    Attributes
    ----------
    path : str
    empty : bool
        Whether there is an empty folder, which is used.
    made : list of str
        Folders that were made, outermost first.
    aside : str or None
        Where what it replaces is, once that begins to be set aside.
    marked : bool
        Whether the folder has the mark of this creation. Another process may replace the folder
        before it is locked: what has no mark is not removed.
    done : bool
        Whether a step is committed, and nothing can be undone.
    """

    path: str
    empty: bool = False
    made: list[str] = field(default_factory=list)
    aside: str | None = None
    marked: bool = False
    done: bool = False

    def __post_init__(self) -> None:
        self._mark = os.path.join(self.path, RECORDS, _MARK + new_id())

    def make(self) -> None:
        """Make the folder, its parents and what is in it; FileExistsError if it is there."""
        missing, folder = [], os.path.dirname(self.path)
        while not os.path.lexists(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for parent in reversed(missing):
            with suppress(FileExistsError):  # made by another process meanwhile
                self._make(parent)
        if not self.empty:
            self._make(self.path)
        for inside in (STATE, RECORDS):
            self._make(os.path.join(self.path, inside))
        self._make(self._mark)
        self.marked = True
        if self.aside is not None:
            name = os.fsencode(os.path.basename(self.aside))
            create_file(os.path.join(self.path, REPLACED), [name])
        make_folder(os.path.join(self.path, OBJECTS))

    def _make(self, folder: str) -> None:
        self.made.append(folder)  # before it is: an interrupt may come in between
        try:
            make_folder(folder)
        except FileExistsError:
            self.made.pop()
            raise

    def is_there(self) -> bool:
        """Whether what is at the path is what this creation made, and has no committed step."""
        return os.path.isdir(self._mark)

    def set_aside(self) -> None:
        """Move a run out of the way until the new one has committed its first step.

        A run that committed nothing is deleted, and what it had replaced stays set aside.
        """
        earlier = _replaced(self.path)
        begun = os.path.isdir(os.path.join(self.path, RECORDS)) and read_records(self.path)
        if earlier is not None and not begun:
            self.aside = earlier
            _remove_tree(self.path)
            return
        forget_replaced(self.path)
        folder, name = os.path.dirname(self.path), _hidden(self.path, "replaced") + new_id()
        self.aside = os.path.join(folder, name)
        os.rename(self.path, self.aside)
        living = holder(self.aside)  # took the lock after it was looked at
        if living is not None:
            raise RunLockedError(_worked_on(self.path, living))
        sync_folder(folder)

    def undo(self) -> None:
        """Remove what was made, and put back what was replaced."""
        if self.marked and not self.is_there():
            return
        with storage("remove", self.path, may_pass=False):
            doomed = None
            if self.marked and not self.empty:
                doomed = _renamed(self.path)
            elif self.marked:
                shutil.rmtree(os.path.join(self.path, STATE))
            _remove_empty(folder for folder in self.made if folder.startswith(self.path))
            if self.aside is not None:
                try:
                    os.rename(self.aside, self.path)
                except OSError as error:  # it was not moved, or another run is in its place
                    if error.errno not in _IN_THE_WAY:
                        raise
            if doomed is not None:
                shutil.rmtree(doomed)
            _remove_empty(folder for folder in self.made if not folder.startswith(self.path))


def prepare_folder(
    path: str,
    overwrite: bool,
    protect: Iterable[str | os.PathLike[str]],
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
        _check_replaceable(path, existing, allowed, protect)
    creation = Creation(path, existing.kind == "empty")
    with storage("create", path, may_pass=False):
        try:
            if existing.kind in ("result", "run", "stub"):
                creation.set_aside()
            creation.make()
        except FileExistsError:
            creation.undo()
            raise OutputExistsError(f"another process just made {path}") from None
        except BaseException:
            creation.undo()
            raise
    return creation


def _check_replaceable(
    path: str,
    existing: Existing,
    overwrite: bool,
    protect: Iterable[str | os.PathLike[str]],
) -> None:
    if not overwrite or not existing.replaceable:
        raise OutputExistsError(f"{path} {existing.text}. {_remedy(path, existing)}")
    for source in [os.fspath(source) for source in protect]:
        if "://" in source:
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
        return f"Go on with it: dnmf resume {path}; or {replace}; or give another output path"
    if existing.replaceable:
        return f"Give another output path, or {replace}"
    return "Give another output path; dnmf deletes only what it made"


def _hidden(path: str, what: str) -> str:
    """How the names begin of what a run folder leaves beside it."""
    name = os.path.basename(path)
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return f".{name}.{what}-"


def _replaced(path: str) -> str | None:
    """The folder that the run at ``path`` replaced, while it is still there."""
    try:
        with open(os.path.join(path, REPLACED), "rb") as file:
            name = os.fsdecode(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    aside = os.path.join(os.path.dirname(path), os.path.basename(name))
    mine = os.path.basename(name).startswith(_hidden(path, "replaced"))
    return aside if mine and os.path.isdir(aside) else None


def creation_done(path: str) -> None:
    """The first step is committed: what was replaced goes, and nothing unmakes the run."""
    forget_replaced(path)
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


def _remove_tree(path: str) -> None:
    """Delete a folder; first it loses its name, so that nothing late is written into it."""
    shutil.rmtree(_renamed(path))


def _remove_empty(folders: Iterable[str]) -> None:
    """Remove folders, given outermost first, that hold nothing."""
    for folder in reversed(list(folders)):
        with suppress(OSError):  # not empty, or gone
            os.rmdir(folder)


def _renamed(path: str) -> str:
    doomed = os.path.join(os.path.dirname(path), _hidden(path, "removed") + new_id())
    os.rename(path, doomed)
    return doomed
