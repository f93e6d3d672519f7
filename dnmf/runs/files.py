"""Files that are whole or absent, and storage errors as sentences."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from dnmf.errors import DnmfError, RunError, TransientError

__all__ = [
    "TEMPORARY",
    "create_file",
    "delete_leniently",
    "explained",
    "make_folder",
    "new_id",
    "replace_file",
    "storage",
    "storage_failed",
    "sync_folder",
    "temporary_folder",
]

TEMPORARY = ".tmp-"
"""The names of files that are being written begin with this."""

Buffer = Any

_FULL = {errno.ENOSPC, errno.EDQUOT}
_MAY_PASS = {
    errno.EIO,
    errno.EAGAIN,
    errno.EINTR,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ECONNRESET,
}
_FAILED = {*_FULL, *_MAY_PASS, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE}
"""Errors of the storage, not of what lies there, such as a folder in a file's place."""

_LATE = {errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.ESTALE}
"""Errors of deleting that do not matter: another process was late, or first."""

_REMEDIES = {
    errno.EROFS: "The file system is read-only: mount it for writing, or give another folder",
    errno.EACCES: "This user may not do that there: change the permissions, or give another folder",
    errno.EPERM: "This user or this file system does not allow that: give another folder",
    errno.ENOTSUP: "This file system cannot create a file only if it is absent (hard links), "
    "which committing needs: give another folder",
    errno.ENAMETOOLONG: "The name is too long: give a shorter path",
    errno.ENOTDIR: "A part of the path is a file: give another path",
    errno.EMFILE: "Raise the number of open files (ulimit -n)",
    errno.ENOENT: "It is gone: was the run folder moved or deleted?",
}


def new_id() -> str:
    """Draw a random name for one attempt to write something."""
    return secrets.token_hex(6)


def explained(error: OSError, doing: str, path: str, may_pass: bool = True) -> DnmfError:
    """Make the error for people: what could not be done, where, why, and the remedy.

    A TransientError where trying again may help and ``may_pass`` is true, else a RunError.
    """
    text = os.strerror(error.errno) if error.errno else str(error)
    message = f"cannot {doing} {path}: {text}"
    if error.errno in _FULL:
        return RunError(f"{message}.{_free(path)} Free some space, then go on with dnmf resume")
    if error.errno in _MAY_PASS:
        if may_pass:
            return TransientError(message)
        return RunError(f"{message}. Committed steps are safe: go on with dnmf resume")
    return RunError(f"{message}. {_REMEDIES.get(error.errno or 0, 'Check the storage')}")


def storage_failed(error: BaseException) -> bool:
    """Say whether a run ended by its storage, so that it goes on once that is mended."""
    cause = error.__cause__
    return isinstance(error, RunError) and isinstance(cause, OSError) and cause.errno in _FAILED


def _free(path: str) -> str:
    with suppress(OSError):
        usage = shutil.disk_usage(_existing(path))
        return f" {usage.free / 1e6:,.1f} MB of {usage.total / 1e9:,.1f} GB are free there."
    return ""


def _existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


@contextmanager
def storage(doing: str, path: str, may_pass: bool = True) -> Iterator[None]:
    """Turn errors of the storage inside into ``explained`` ones."""
    try:
        yield
    except DnmfError:
        raise
    except OSError as error:
        raise explained(error, doing, path, may_pass) from error


def sync_folder(path: str) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems have no need
            raise
    finally:
        os.close(handle)


def make_folder(path: str) -> None:
    """Make one folder, private to the user, durably; FileExistsError if it is there."""
    os.mkdir(path, 0o700)
    sync_folder(os.path.dirname(path))


@contextmanager
def _staged(target: str, parts: Iterable[Buffer]) -> Iterator[str]:
    """Write ``parts`` to a temporary file beside ``target``, durably; gone afterwards."""
    path = os.path.join(os.path.dirname(target), TEMPORARY + new_id())
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        yield path
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)


def replace_file(
    target: str,
    parts: Iterable[Buffer],
    staged: Callable[[str], None] | None = None,
    named: bool = True,
) -> None:
    """Write a file so that it is whole or as before, also after a power failure.

    ``staged`` is called with the temporary file's path before the rename. Without ``named`` its
    contents are durable and its name is not, until somebody calls `sync_folder`.
    """
    with _staged(target, parts) as temporary:
        if staged is not None:
            staged(temporary)
        os.replace(temporary, target)
    if named:
        sync_folder(os.path.dirname(target))


def create_file(
    target: str,
    parts: Iterable[Buffer],
    staged: Callable[[str], None] | None = None,
    linked: Callable[[], None] | None = None,
) -> None:
    """Create a file, whole and durable, only if it is absent; else FileExistsError.

    ``staged`` is called with the temporary file's path before the file exists, ``linked``
    once it exists but may not be durable.
    """
    with _staged(target, parts) as temporary:
        if staged is not None:
            staged(temporary)
        try:
            os.link(temporary, target)
        except FileExistsError:
            # A network file system may have done it and lost the answer.
            if not _same_file(temporary, target):
                raise
        if linked is not None:
            linked()
    sync_folder(os.path.dirname(target))


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samestat(os.stat(one), os.stat(other))
    except FileNotFoundError:
        return False


def delete_leniently(delete: Callable[[str], None], path: str) -> None:
    """Delete a file or folder that another process may delete, or still use, at this time."""
    try:
        delete(path)
    except OSError as error:
        if error.errno not in _LATE:
            raise


@contextmanager
def temporary_folder() -> Iterator[str]:
    """Give a folder in this machine's temporary one, which is deleted at the end."""
    folder = tempfile.mkdtemp(prefix="dnmf-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
