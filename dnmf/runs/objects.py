"""Arrays as files: raw ``.npy``, written whole, read back only as they were written."""

from __future__ import annotations

import io
import os
import re
import time
import zlib
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from dnmf.errors import RunError
from dnmf.faultpoints import reach
from dnmf.npy_header import read_array
from dnmf.runs.base import ObjectRef
from dnmf.runs.files import new_id, replace_file, storage

__all__ = ["checksum", "open_fresh", "read_object", "write_object"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*(/[A-Za-z0-9_][A-Za-z0-9._+-]*)*")
_TRIES = 20


def check_name(name: str) -> str:
    """Return a name if it cannot leave the folder of objects."""
    if not _NAME.fullmatch(name):
        raise RunError(f"{name!r} is no name of an object: letters, digits, - _ . + and / only")
    return name


def checksum(array: np.ndarray) -> str:
    """Compute the checksum of dtype, shape and bytes in C order."""
    head = f"{array.dtype.str}{array.shape}".encode()
    return f"{zlib.crc32(_raw(array), zlib.crc32(head)):08x}"


def _raw(array: np.ndarray) -> memoryview:
    """View the bytes of a C-contiguous array."""
    return array.reshape(-1).view(np.uint8).data


def point_details(name: str, path: str) -> dict[str, Any]:
    """Say of an object what fault points tell: ``3/W-0-17`` is of kind W and segment 17."""
    folder, _, last = name.rpartition("/")
    kind = last.partition("-")[0] if folder.isdecimal() else name.partition("/")[0]
    details: dict[str, Any] = {"kind": kind, "name": name, "path": path}
    number = re.search(r"(\d+)$", name)
    if number:
        details["segment"] = int(number[1])
    return details


def write_object(folder: str, name: str, array: np.ndarray) -> ObjectRef:
    """Store an array under ``folder/name-<attempt id>.npy``, whole and with durable contents.

    Its name is made durable once for all objects of a step, by the commit of the record that
    names them: half the flushes of a pass.
    """
    array = np.asarray(array, order="C")
    if array.dtype.hasobject:
        raise RunError(f"{name}: an array of Python objects cannot be stored")
    full = f"{check_name(name)}-{new_id()}"
    path = os.path.join(folder, f"{full}.npy")
    details = point_details(name, path)
    reach("object-writing", **details)
    with storage("write", path):
        _write(folder, path, array, details)
    reach("object-written", **details)
    return ObjectRef(full, checksum(array))


def _write(folder: str, path: str, array: np.ndarray, details: dict[str, Any]) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
    # Not array.tofile: its errors do not carry an errno, so a full disk could not be told.
    parts = (head.getvalue(), _raw(array))
    for attempt in range(_TRIES):
        try:
            staged = partial(_staged, details)
            replace_file(path, parts, staged, named=False)
            return
        except FileNotFoundError:  # a new subfolder, or one that ``drop`` removed meanwhile
            if attempt == _TRIES - 1 or not os.path.isdir(folder):
                raise
            time.sleep(0.002 * attempt)
            with suppress(FileNotFoundError):
                _make_folders(folder, os.path.dirname(path))


def _staged(details: dict[str, Any], temporary: str) -> None:
    reach("object-staged", **{**details, "path": temporary})


def _make_folders(root: str, path: str) -> None:
    step = root
    for part in os.path.relpath(path, root).split(os.sep):
        step = os.path.join(step, part)
        with suppress(FileExistsError):
            os.mkdir(step, 0o700)  # made durable with the names in it, see `write_object`


def read_object(folder: str, ref: ObjectRef) -> np.ndarray:
    """Read an array as it was written; it is read-only.

    Raises
    ------
    RunError
        Missing, truncated or different; the message has its path.
    TransientError
        The storage failed in a way that may pass.
    """
    path = os.path.join(folder, f"{check_name(ref.name)}.npy")
    with storage("read", path):
        array = _load(path)
    if isinstance(array, str):
        raise RunError(f"{path} {array}")
    if checksum(array) != ref.checksum:
        raise RunError(
            f"{path} differs from its checksum ({checksum(array)}, recorded {ref.checksum}): its "
            "storage changed it. The run has lost it: fit again with --overwrite"
        )
    array.flags.writeable = False
    return array


def _load(path: str) -> np.ndarray | str:
    """Read an array, or say in words what is wrong with the file."""
    try:
        with open_fresh(path) as file:
            return read_array(file)
    except FileNotFoundError:
        return (
            "is missing. Where the run went on since, open it again; where the file was "
            "deleted, the run has lost it: fit again with --overwrite"
        )
    except (ValueError, MemoryError) as error:
        return f"is truncated or damaged ({error}). The run has lost it: fit again with --overwrite"


def open_fresh(path: str) -> Any:
    """Open a file for reading that another host may just have made."""
    try:
        return open(path, "rb")
    except FileNotFoundError:
        # Network file systems remember for a while that a name was absent. Listing its
        # folders makes them look again.
        folder = os.path.dirname(path)
        for parent in (os.path.dirname(os.path.dirname(folder)), os.path.dirname(folder), folder):
            if os.path.isdir(parent):
                os.listdir(parent)
        return open(path, "rb")
