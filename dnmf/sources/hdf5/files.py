"""Which file a path is or lies in, and HDF5 files opened with h5py for a moment."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dnmf.errors import CorruptDataError, InputError, MissingDependencyError

__all__ = ["Identity", "h5py_module", "identity_of", "is_hdf5", "opened"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""What an HDF5 file begins with, at one of `PLACES` (HDF5 file format specification, II.A)."""

PLACES = (0, 512, 1024, 2048)

Identity = tuple[int, int]
"""Size and time of the last change in nanoseconds."""

_LOCK = threading.RLock()


def is_hdf5(path: str) -> bool:
    """Return whether a path is a file that begins as HDF5 files do."""
    try:
        with open(path, "rb") as file:
            begins = []
            for place in PLACES:
                file.seek(place)
                begins.append(file.read(len(SIGNATURE)))
    except OSError:
        return False
    return SIGNATURE in begins


def identity_of(path: str) -> Identity:
    """Return what tells a file from itself after a change."""
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def h5py_module() -> Any:
    """Import h5py.

    Raises
    ------
    MissingDependencyError
        It is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(
            "HDF5 files (h5ad, 10x, NetCDF4) need h5py; run: python -m pip install 'dnmf[hdf5]'"
        ) from error
    return h5py


@contextmanager
def opened(path: str) -> Iterator[Any]:
    """Open an HDF5 file for reading, with one thread of this process in it at a time.

    Raises
    ------
    InputError
        The file is open for writing, here or elsewhere, or may not be read.
    CorruptDataError
        It is no HDF5 file, or cut off.
    """
    h5py = h5py_module()
    with _LOCK:
        try:
            file = h5py.File(path, "r")
        except PermissionError as error:
            raise InputError(f"{path} may not be read here: {error}") from error
        except FileNotFoundError as error:
            raise CorruptDataError(f"{path} is no longer there") from error
        except OSError as error:
            raise _refused(path, error) from error
        with file:
            if file.mode != "r":
                raise InputError(
                    f"{path} is open for writing in this process, so that parts of it may not be "
                    "in the file yet; close it first"
                )
            yield file


def _refused(path: str, error: OSError) -> InputError | CorruptDataError:
    text = str(error)
    locked = isinstance(error, BlockingIOError) or "lock file" in text
    if locked or "already open for write" in text:
        return InputError(
            f"{path} is open for writing elsewhere, so that parts of it may not be in the file "
            f"yet; close it there first ({text})"
        )
    return CorruptDataError(f"{path} cannot be opened as HDF5 ({text})")
