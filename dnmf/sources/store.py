"""Locations of Zarr arrays and groups, opened read-only, with errors for people."""

from __future__ import annotations

import os
import socket
import zipfile
from dataclasses import dataclass
from typing import Any

import zarr
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, ZipStore

from dnmf.errors import DnmfError, InputError, MissingDependencyError, TransientError
from dnmf.names import is_url, local_name
from dnmf.sources.checks import may_pass
from dnmf.sources.hdf5.files import is_hdf5
from dnmf.sources.hdf5.store import Hdf5Store

__all__ = ["Location", "host", "locate", "location_of"]

Node = zarr.Array[Any] | zarr.Group


@dataclass(frozen=True)
class Location:
    """A node of a Zarr hierarchy.

    Attributes
    ----------
    store : zarr.abc.store.Store
        Read-only. It travels with pickles, so options and credentials that it was made with
        do too.
    path : str
        Within the store; "" is its root.
    url : str or None
        An absolute path or a URL that opens the node. It is what a run folder keeps: never
        options or credentials. None for stores without a name, or wrapped by others.
    shared : bool
        Whether other processes find the same data at ``url``.
    """

    store: Store
    path: str
    url: str | None
    shared: bool

    @property
    def name(self) -> str:
        """The location as errors name it."""
        return self.url or f"{self.store}{'/' if self.path else ''}{self.path}"

    @property
    def in_hdf5(self) -> bool:
        """Whether it lies in an HDF5 file."""
        return type(self.store) is Hdf5Store

    @property
    def format_name(self) -> str:
        """The format of its files, with an article."""
        return "an HDF5" if self.in_hdf5 else "a Zarr"

    def child(self, name: str) -> Location:
        """Return the location of a node of this group."""
        path = f"{self.path}/{name}" if self.path else name
        return Location(self.store, path, self.url and f"{self.url}/{name}", self.shared)

    def spec(self, kind: str) -> dict[str, Any]:
        """Return the JSON that makes a source of this kind in another process.

        Raises
        ------
        InputError
            Other processes cannot find the node.
        """
        if not self.shared:
            raise InputError(f"{self.name} is only in this process; others cannot open it")
        return {"kind": kind, "location": self.url}

    def open(self) -> Node:
        """Read the node's metadata.

        Raises
        ------
        FileNotFoundError
            There is no array and no group.
        InputError, MissingDependencyError, TransientError
            The metadata cannot be read.
        """
        try:
            return zarr.open(store=self.store, path=self.path, mode="r")
        except (FileNotFoundError, DnmfError, MemoryError):
            raise
        except ImportError as error:
            raise _missing(self.name, error) from error
        except PermissionError as error:
            raise InputError(f"{self.name} may not be read here: {error}") from error
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            if may_pass(error):
                raise TransientError(f"cannot reach {self.name} ({text})") from error
            raise InputError(f"the Zarr metadata of {self.name} cannot be read ({text})") from error


def locate(text: str) -> Location:
    """Return the location of a path or URL; nothing is opened yet.

    Raises
    ------
    InputError
        The URL's protocol is unknown.
    MissingDependencyError
        The protocol needs a package that is not installed.
    """
    if not is_url(text):
        path = os.path.abspath(local_name(text))
        file = _file_of(path)
        if file is not None and is_hdf5(file):
            return Location(Hdf5Store(file), path[len(file) + 1 :], path, True)
        if file is not None and file.lower().endswith(".zip"):
            inner = "/".join(part for part in (_root(file), path[len(file) + 1 :]) if part)
            return Location(ZipStore(file, mode="r"), inner, path, True)
        return Location(LocalStore(path, read_only=True), "", path, True)
    url = text.rstrip("/")
    try:
        store = FsspecStore.from_url(url, read_only=True)
    except ImportError as error:
        raise _missing(url, error) from error
    except Exception as error:
        raise InputError(f"cannot open {url}: {error}") from error
    return Location(store, "", url, not _in_memory(store))


def _file_of(path: str) -> str | None:
    """Return the file that a path is, or lies in, such as a zip file."""
    file = path
    while not os.path.exists(file) and os.path.dirname(file) != file:
        file = os.path.dirname(file)
    return file if os.path.isfile(file) else None


def _root(archive: str) -> str:
    """Return where Zarr begins in a zip file: at its root, or in the one folder that was zipped."""
    try:
        with zipfile.ZipFile(archive) as opened:
            names = opened.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{archive} is no zip file that can be read: {error}") from None
    marks = {"zarr.json", ".zarray", ".zgroup"}
    if marks & {*names}:
        return ""
    folders = {name.partition("/")[0] for name in names if name.count("/") == 1}
    roots = [folder for folder in folders if any(f"{folder}/{mark}" in names for mark in marks)]
    return roots[0] if len(roots) == 1 else ""


def location_of(node: Node) -> Location:
    """Return the location of an open array or group."""
    store = node.store
    if not store.read_only:
        try:
            store = store.with_read_only(True)
        except NotImplementedError as error:
            raise InputError(
                f"{node.store} cannot be opened read-only; open it so first"
            ) from error
    if isinstance(store, LocalStore) and getattr(store, "is_folder", False):
        store = LocalStore(store.root, read_only=True)  # a result's, which others open by its path
    if type(store) is Hdf5Store:
        return Location(store, node.path, f"{store.file}/{node.path}".rstrip("/"), True)
    if type(store) is LocalStore:
        url = os.path.join(os.path.abspath(store.root), node.path).rstrip("/")
        return Location(store, node.path, url, True)
    if type(store) is FsspecStore and not _chained(store):
        root = store.fs.unstrip_protocol(store.path).removeprefix("file://")
        url = f"{root.rstrip('/')}/{node.path}".rstrip("/")
        return Location(store, node.path, url, not _in_memory(store))
    return Location(store, node.path, None, False)


def _chained(store: FsspecStore) -> bool:
    """Return whether a file system reads through another one (archive, cache): no URL says so."""
    inner = getattr(store.fs, "sync_fs", store.fs)
    return bool({"fo", "target_protocol", "target_options"} & set(inner.storage_options))


def _in_memory(store: FsspecStore) -> bool:
    protocol = store.fs.protocol
    return "memory" in ((protocol,) if isinstance(protocol, str) else protocol)


def _missing(url: str, error: ImportError) -> MissingDependencyError:
    """Return the install command for an fsspec protocol."""
    if not is_url(url):
        return MissingDependencyError(f"{url} needs a package that is not installed: {error}")
    from fsspec.registry import known_implementations

    protocol = url.split("::")[0].split("://")[0]
    package = known_implementations.get(protocol, {}).get("class", "").split(".")[0]
    if package in ("", "fsspec"):
        package = f'"fsspec[{protocol}]"'
    return MissingDependencyError(
        f"{protocol}:// needs a package that is not installed ({error}); run: "
        f"python -m pip install {package}"
    )


def host() -> str:
    """Return the name of this machine, for errors about what it cannot see."""
    return socket.gethostname()
