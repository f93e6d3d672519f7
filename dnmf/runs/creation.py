"""Making a run folder so that it can be unmade, and what it replaces comes back."""

from __future__ import annotations

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
from dnmf.runs.lock import holder

__all__ = ["Creation", "forget_replaced", "prepare_folder"]


@dataclass
class Creation:
    """What was made for a new run, so that it can be removed again.

    Attributes
    ----------
    path : str
    made : list of str
        Folders that were made, outermost first.
    """

    path: str
    made: list[str] = field(default_factory=list)

    def make(self) -> None:
        """Make the folder and its parents; FileExistsError if it is there."""
        missing, folder = [], os.path.dirname(self.path)
        while not os.path.lexists(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for parent in reversed(missing):
            with suppress(FileExistsError):  # made by another process meanwhile
                make_folder(parent)
                self.made.append(parent)
        make_folder(self.path)
        self.made.append(self.path)

    def undo(self) -> None:
        """Remove what was made, and put back what was replaced."""
        replaced = _replaced(self.path)
        with storage("remove", self.path, may_pass=False):
            if self.path in self.made:
                _remove_tree(self.path)
            else:
                for entry in list(os.scandir(self.path)):
                    _remove(entry)
            if replaced is not None:
                os.rename(replaced, self.path)
            for folder in reversed(self.made):
                with suppress(OSError):  # not empty, or gone
                    os.rmdir(folder)


def prepare_folder(
    path: str, overwrite: bool, protect: Iterable[str | os.PathLike[str]]
) -> Creation:
    """Make the folders of a new run at ``path``, where nothing may be.

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
        _check_replaceable(path, existing, overwrite, protect)
    creation = Creation(path)
    with storage("create", path, may_pass=False):
        aside = _set_aside(path) if existing.kind in ("result", "run", "stub") else None
        if existing.kind != "empty":
            try:
                creation.make()
            except FileExistsError:
                raise OutputExistsError(f"another process just made {path}") from None
        try:
            make_folder(os.path.join(path, STATE))
            if aside is not None:
                create_file(os.path.join(path, REPLACED), [os.path.basename(aside).encode()])
            make_folder(os.path.join(path, RECORDS))
            make_folder(os.path.join(path, OBJECTS))
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
        raise RunLockedError(f"{path} is being worked on by {living}. Stop that process first")


def _remedy(path: str, existing: Existing) -> str:
    replace = "replace it with overwrite=True (--overwrite)"
    if existing.kind == "run":
        return f"Go on with it: dnmf resume {path}; or {replace}; or give another output path"
    if existing.replaceable:
        return f"Give another output path, or {replace}"
    return "Give another output path; dnmf deletes only what it made"


def _set_aside(path: str) -> str:
    """Move a run out of the way until the new one has committed its first step.

    A run that committed nothing is deleted, and what it had replaced stays set aside.
    """
    earlier = _replaced(path)
    if earlier is not None and not read_records(path):
        _remove_tree(path)
        return earlier
    forget_replaced(path)
    aside = os.path.join(os.path.dirname(path), _aside_prefix(path) + new_id())
    os.rename(path, aside)
    sync_folder(os.path.dirname(path))
    return aside


def _aside_prefix(path: str) -> str:
    return f".{os.path.basename(path)}.replaced-"


def _replaced(path: str) -> str | None:
    """The folder that the run at ``path`` replaced, while it is still there."""
    try:
        with open(os.path.join(path, REPLACED), encoding="utf-8") as file:
            name = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    aside = os.path.join(os.path.dirname(path), os.path.basename(name))
    mine = os.path.basename(name).startswith(_aside_prefix(path))
    return aside if mine and os.path.isdir(aside) else None


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
    doomed = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.removed-{new_id()}")
    os.rename(path, doomed)
    shutil.rmtree(doomed)


def _remove(entry: os.DirEntry[str]) -> None:
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path)
    else:
        os.unlink(entry.path)
