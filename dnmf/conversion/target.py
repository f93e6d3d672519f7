"""The target of a conversion: a temporary folder beside it, renamed at the end."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dnmf.errors import (
    ClusterError,
    DnmfError,
    OptionError,
    OutputExistsError,
    ResumableError,
    RunError,
)
from dnmf.names import is_url
from dnmf.runs.files import TEMPORARY
from dnmf.sources.store import locate

__all__ = ["Target", "Workplace", "open_target", "writing"]

STRAGGLERS = 20
"""How often a folder is deleted that a worker may still write into, after another one failed."""

_ZARR = ("zarr.json", ".zarray", ".zgroup")
_FOR_GOOD = {
    errno.EACCES,
    errno.EDQUOT,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.EPERM,
    errno.EROFS,
}


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Turn failures of storage that trying again cannot help into errors for people."""
    try:
        yield
    except DnmfError:
        raise
    except FileNotFoundError as error:
        raise RunError(
            f"{path} is not there on {socket.gethostname()}; every worker must reach the target "
            f"under this name, on storage that all workers and this process share"
        ) from error
    except OSError as error:
        if error.errno not in _FOR_GOOD:
            raise
        raise _cannot_write(path, error) from error


def _cannot_write(path: str, error: OSError) -> RunError:
    text = os.strerror(error.errno) if error.errno else str(error)
    return RunError(
        f"cannot write {path}: {text}. Make room or change the permissions, or give another "
        f"folder, and run this again"
    )


def open_target(path: str) -> Any:
    """Open an array to write to. Chunks of zeros are stored too: one that is missing was lost."""
    import zarr

    return zarr.open_array(path, mode="r+").with_config({"write_empty_chunks": True})


@dataclass(frozen=True)
class Target:
    """The output of a conversion.

    Attributes
    ----------
    path : str
        Absolute, or a URL.
    fs : fsspec file system or None
        None for local paths.
    temporary : str
        How the path of the temporary folder begins.
    """

    path: str
    fs: Any
    temporary: str

    @classmethod
    def in_run(cls, folder: str, name: str) -> Target:
        """Return the target of a matrix that a run reads, in the folder of the run's own files."""
        return cls(os.path.join(folder, name), None, os.path.join(folder, f"{TEMPORARY}staged-"))

    @classmethod
    def at(cls, path: str | os.PathLike[str], overwrite: bool) -> Target:
        """Check the target, without writing anything.

        Raises
        ------
        OutputExistsError
            It exists, and ``overwrite`` is false.
        OptionError
            It exists and is no Zarr: that is never deleted.
        RunError
            It cannot be written there.
        """
        text = os.fspath(path).removeprefix("file://").rstrip("/")
        if not text:
            raise OptionError("the path to write is empty")
        if is_url(text):
            target = cls._at_url(text)
        else:
            path = os.path.abspath(os.path.expanduser(text))
            target = cls(path, None, f"{path}.converting-")
        target._check(overwrite)
        return target

    @classmethod
    def _at_url(cls, url: str) -> Target:
        from fsspec.core import url_to_fs

        locate(url)  # says what is wrong with the URL, or which package is missing
        return cls(url, url_to_fs(url)[0], f"{url}.converting-")

    def _check(self, overwrite: bool) -> None:
        if self.exists():
            if not overwrite:
                raise OutputExistsError(
                    f"{self.path} exists; choose another path, or replace it with --overwrite "
                    f"(overwrite=True)"
                )
            if not any(self._has(name) for name in _ZARR):
                raise OptionError(
                    f"{self.path} is not a Zarr array or group, so it is not overwritten; delete "
                    f"it yourself or choose another path"
                )
        if self.fs is None:
            parent = os.path.dirname(self.path)
            if not os.path.isdir(parent):
                raise RunError(f"the folder {parent} does not exist; make it, or choose another")
            if not os.access(parent, os.W_OK | os.X_OK):
                raise RunError(f"this user may not write to the folder {parent}; choose another")

    def exists(self) -> bool:
        """Return whether the target exists."""
        if self.fs is None:
            return os.path.lexists(self.path)
        return bool(self.fs.exists(self.path))

    def _has(self, name: str) -> bool:
        if self.fs is None:
            return os.path.isfile(os.path.join(self.path, name))
        return bool(self.fs.exists(f"{self.path}/{name}"))

    def refuse_to_hold(self, places: Sequence[str], within: bool = True) -> None:
        """Refuse a target whose replacement would delete the source, or a part of it.

        To replace the source itself is fine.

        Parameters
        ----------
        places : sequence of str
            Paths and URLs that the source is read from.
        within : bool
            Refuse a target within one of them, too; not where they are only thought to be such.

        Raises
        ------
        OptionError
        """
        for place in filter(None, places):
            mine, other = self.path, place
            if self.fs is None and "://" not in place:  # links lead to the same folder
                mine, other = os.path.realpath(mine), os.path.realpath(place)
            inside, around = f"{other}/".startswith(f"{mine}/"), mine.startswith(f"{other}/")
            if other != mine and (inside or (around and within)):
                raise OptionError(
                    f"{self.path} and the source {place} lie within each other; choose another path"
                )

    @contextmanager
    def workplace(self) -> Iterator[Workplace]:
        """Create a temporary folder beside the target, deleted at the end in any case."""
        base = f"{self.temporary}{secrets.token_hex(4)}"
        place = Workplace(self, base)
        try:
            if self.fs is None:
                try:
                    os.mkdir(base)
                except OSError as error:
                    raise _cannot_write(self.path, error) from error
            yield place
        finally:
            place.remove()


@dataclass
class Workplace:
    """The temporary folder.

    Attributes
    ----------
    target : Target
    base : str
        The folder itself.
    reachable : bool
        Whether other processes see what is in it.
    """

    target: Target
    base: str
    reachable: bool = True
    _elsewhere: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        protocol = getattr(self.target.fs, "protocol", ())
        self.reachable = "memory" not in ((protocol,) if isinstance(protocol, str) else protocol)

    @property
    def new(self) -> str:
        """What will be the target."""
        return self.folder("new")

    def folder(self, name: str) -> str:
        """Return a Zarr group's path in this folder; it is not created."""
        return f"{self.base}/{name}"

    def scratch(self) -> str:
        """Return a local folder for plain files: inside, or in this machine's temporary folder."""
        if self.target.fs is None:
            path = self.folder("scratch")
            os.mkdir(path)
            return path
        self.reachable = False
        self._elsewhere.append(tempfile.mkdtemp(prefix="dnmf-"))
        return self._elsewhere[-1]

    def publish(self) -> None:
        """Give what was written the target's name; what had it before is deleted.

        A local rename: whoever looks sees the old or the new one, or for a moment none. In an
        object store the objects are copied one after the other.
        """
        with writing(self.target.path):
            if self.target.fs is None:
                self._rename()
                return
            if self.target.exists():
                self.target.fs.rm(self.target.path, recursive=True)
            self.target.fs.mv(self.new, self.target.path, recursive=True)

    def _rename(self) -> None:
        old, path = self.folder("old"), self.target.path
        replaced = os.path.lexists(path)
        if replaced:
            os.rename(path, old)
        try:
            os.rename(self.new, path)
        except OSError:
            if replaced:
                os.rename(old, path)
            raise

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Say errors of a run in words of a conversion."""
        try:
            with writing(self.target.path):
                yield
        except ResumableError as error:
            raise ClusterError(
                f"{self.target.path} was not written: {error}. Nothing was left behind; run the "
                f"conversion again"
            ) from error
        except OSError as error:
            if isinstance(error, DnmfError):
                raise
            raise _cannot_write(self.target.path, error) from error

    def remove(self) -> None:
        """Delete the folder, as far as that is possible."""
        for path in self._elsewhere:
            shutil.rmtree(path, ignore_errors=True)
        if self.target.fs is None:
            for _ in range(STRAGGLERS):
                shutil.rmtree(self.base, ignore_errors=True)
                if not os.path.lexists(self.base):
                    break
                time.sleep(0.1)
        elif self.target.fs.exists(self.base):
            self.target.fs.rm(self.base, recursive=True)
