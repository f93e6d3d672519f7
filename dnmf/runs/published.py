"""Writing a result as a Zarr group: arrays first, root metadata last.

Until ``finish`` has written the root's ``zarr.json`` the folder is no Zarr group, so nobody takes
a half-written result for a whole one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from dnmf.errors import RunError
from dnmf.faultpoints import reach
from dnmf.runs.files import make_folder, replace_file, storage, sync_folder
from dnmf.runs.layout import STATE
from dnmf.runs.records import finite
from dnmf.runs.sealed import COLUMN, RESULT_FORMAT, chunk_name, described, ending, seal

__all__ = ["H_chunk_columns", "create_arrays", "finish", "write_H", "write_W"]

_CHUNK_BYTES = 32 << 20
_DIMENSIONS = {"W": ("row", "component"), "H": ("component", "column")}


def create_arrays(
    path: str,
    n: int,
    d: int | None,
    k: int,
    dtype: np.dtype | str,
    chunk_rows: int,
    *,
    chunk_columns: int | None = None,
    group: str = "",
) -> None:
    """Create the arrays ``W`` (n, k) and ``H`` (k, d) of a result.

    Arrays that are there already, with this shape, these chunks and this dtype, stay as they are.

    Parameters
    ----------
    path : str
        The run folder.
    n, d, k : int
        d None: the result has no H.
    dtype : numpy.dtype or str
    chunk_rows : int
        Rows of a chunk of W; chunks are (chunk_rows, k).
    chunk_columns : int, optional
        Columns of a chunk of H; chunks are (k, chunk_columns), by default of 32 MiB at most.
    group : str
        ``""``, or a group inside such as ``"models/3"``.
    """
    folder = _group_folder(path, group)
    shapes = {"W": ((n, k), (min(chunk_rows, n), k))}
    if d is not None:
        shapes["H"] = (k, d), (k, min(chunk_columns or H_chunk_columns(k, d, dtype), d))
    for name, (shape, chunks) in shapes.items():
        _create(folder, name, shape, chunks, dtype)
    with storage("create", folder):
        _sync([os.path.join(folder, name, "zarr.json") for name in shapes], folder)


def H_chunk_columns(k: int, d: int, dtype: np.dtype | str) -> int:
    """Return the columns of a chunk of H (k, d), as `create_arrays` cuts it by itself."""
    return min(d, max(1, _CHUNK_BYTES // (k * np.dtype(dtype).itemsize)))


def _group_folder(path: str, group: str) -> str:
    folder = path
    for part in [part for part in group.split("/") if part]:
        folder = os.path.join(folder, part)
        with storage("create", folder):
            if not os.path.isdir(folder):
                make_folder(folder)
    return folder


def _create(
    folder: str, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype | str
) -> zarr.Array[Any]:
    """Create an array of a result, or open it to write; it is not durable before `_sync`."""
    path = os.path.join(folder, name)
    with storage("create", path):
        if os.path.exists(os.path.join(path, "zarr.json")):
            with suppress(ValueError):  # a power failure may have left it empty
                there = _writable(path)
                if (there.shape, there.chunks, there.dtype) == (shape, chunks, np.dtype(dtype)):
                    return there
        return zarr.create_array(
            path,
            shape=shape,
            chunks=chunks,
            dtype=np.dtype(dtype),
            # Its checksum makes a damaged chunk an error instead of wrong numbers.
            compressors=ZstdCodec(level=1, checksum=True),
            fill_value=0,
            dimension_names=_DIMENSIONS.get(name, ("pass",)),
            # A chunk of zeros is stored too: an absent one is then always a lost one.
            config={"write_empty_chunks": True},
            overwrite=True,
        )


def _writable(path: str) -> zarr.Array:
    """Open an array to write, zeros too: ``open_array(config=...)`` of zarr 3.1 loses this."""
    return zarr.open_array(path, mode="r+").with_config({"write_empty_chunks": True})


def _sync(files: Iterable[str], top: str) -> None:
    """Make files that Zarr wrote durable, and their names and folders inside of ``top``.

    Many at once: a folder is flushed once, and what one flush writes the next ones need not.
    """
    folders = {top}
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        inside = os.path.relpath(os.path.dirname(file), top).split(os.sep)
        folders |= {os.path.join(top, *inside[:depth]) for depth in range(1, len(inside) + 1)}
    for folder in sorted(folders, key=len, reverse=True):
        sync_folder(folder)


def write_W(path: str, start: int, rows: np.ndarray, *, group: str = "") -> None:
    """Write rows ``start`` and following of W, durably. May be repeated.

    Parameters
    ----------
    path : str
    start : int
        A multiple of the chunk's rows; so is the end, unless it is n.
    rows : (m, k) array
        In the dtype of W.
    """
    _write(os.path.join(path, group, "W"), 0, start, rows)


def write_H(path: str, start_column: int, columns: np.ndarray, *, group: str = "") -> None:
    """Write columns of H, durably. May be repeated.

    Parameters
    ----------
    path : str
    start_column : int
        A multiple of the chunk's columns; so is the end, unless it is d.
    columns : (k, m) array
        In the dtype of H.
    """
    _write(os.path.join(path, group, "H"), 1, start_column, columns)


def _write(path: str, axis: int, start: int, part: np.ndarray) -> None:
    with storage("write", path):
        reach("array-writing", kind=os.path.basename(path), start=start, path=path)
        array = _writable(path)
        chunk, size = array.chunks[axis], array.shape[axis]
        stop = start + part.shape[axis]
        other = 1 - axis
        if part.dtype != array.dtype or part.shape[other] != array.shape[other]:
            raise RunError(
                f"{path} is {array.shape} {array.dtype}, what is written {part.shape} {part.dtype}"
            )
        if start % chunk or (stop % chunk and stop != size) or stop > size:
            raise RunError(
                f"{path} is written in whole chunks of {chunk} up to {size}, not {start}:{stop}"
            )
        where = (slice(start, stop), slice(None))
        array[where if axis == 0 else where[::-1]] = part
        written = range(start // chunk, -(-stop // chunk))
        _sync([_chunk_file(path, axis, index) for index in written], path)
    reach("array-written", kind=os.path.basename(path), start=start, path=path)


def _chunk_file(path: str, axis: int, index: int) -> str:
    return os.path.join(path, *chunk_name(axis, index).split("/"))


def finish(
    path: str,
    attributes: Mapping[str, Any],
    history: Mapping[str, Any],
    *,
    group: str = "",
    one_of_many: bool = False,
    names: Sequence[str] | None = None,
) -> None:
    """Write the history and, last, the metadata that makes the folder a Zarr group.

    Parameters
    ----------
    path : str
    attributes : dict
        What the result says of itself; becomes ``attributes["dnmf"]`` of the group. NaN and
        infinity become null.
    history : dict of str to (passes,) array
        Columns of numbers or truth values, all of one length; arrays of dimension ``pass``.
    group : str
        Finish inner groups first, the root (``""``) last.
    one_of_many : bool
        Other groups beside this one follow, and the root at the end writes those between.
    names : sequence of str, optional
        Of the columns of H; become the coordinate ``column``, as xarray has it.

    Raises
    ------
    RunError
        A chunk of W or H was not written, or a column is not one of numbers.
    """
    folder = _group_folder(path, group)
    columns = _columns(history)
    factors = [(axis, name) for axis, name in enumerate("WH") if _there(folder, name)]
    endings = {name: _check_written(os.path.join(folder, name), axis) for axis, name in factors}
    written = _write_columns(folder, columns)
    arrays = {
        name: described(zarr.open_array(os.path.join(folder, name), mode="r")) for name in endings
    }
    arrays |= {name: described(array) for name, array in written.items()}
    if names is not None:
        arrays[COLUMN] = described(_write_names(folder, names))
    own = {"format": RESULT_FORMAT, **finite(attributes), "history_columns": list(columns)}
    own = seal({**own, "arrays": arrays, "chunks": endings})
    if not group and os.path.isdir(os.path.join(path, STATE)):
        # Listing members without consolidated metadata warns of folders that are no node.
        _write_group(os.path.join(path, STATE), {})
    if not group and os.path.isdir(os.path.join(path, "models")):
        _write_group(os.path.join(path, "models"), {})
    details = {"group": group, "path": os.path.join(folder, "zarr.json")}
    reach("result-finishing", **details)
    _write_group(folder, {"dnmf": own})
    for parent in [] if one_of_many else _parents(group):
        _write_group(os.path.join(path, parent), {})
    reach("result-published", **details)


def _parents(group: str) -> list[str]:
    """List the groups between ``group`` and the root, without both, innermost first."""
    parts = group.split("/")
    return ["/".join(parts[:depth]) for depth in range(len(parts) - 1, 0, -1)]


def _columns(history: Mapping[str, Any]) -> dict[str, np.ndarray]:
    columns = {name: np.asarray(values) for name, values in history.items()}
    for name, column in columns.items():
        if column.ndim != 1 or column.dtype.kind not in "biuf" or name in _DIMENSIONS:
            raise RunError(f"the history's column {name!r} is not one of numbers: {column.dtype}")
    if len({len(column) for column in columns.values()}) > 1:
        lengths = ", ".join(f"{name} {len(column)}" for name, column in columns.items())
        raise RunError(f"the columns of the history differ in length: {lengths}")
    return columns


def _write_columns(folder: str, columns: Mapping[str, np.ndarray]) -> dict[str, zarr.Array[Any]]:
    found, files = {}, []
    for name, column in columns.items():
        size = max(1, len(column))
        found[name] = _create(folder, name, column.shape, (size,), column.dtype)
        files.append(os.path.join(folder, name, "zarr.json"))
        if len(column):
            with storage("write", os.path.join(folder, name)):
                found[name][:] = column
            files.append(os.path.join(folder, name, "c", "0"))
    with storage("write", folder):
        _sync(files, folder)
    return found


def _write_names(folder: str, names: Sequence[str]) -> zarr.Array[Any]:
    path = os.path.join(folder, COLUMN)
    with storage("write", path):
        array = zarr.create_array(
            path,
            shape=(len(names),),
            chunks=(len(names),),
            dtype=str,
            compressors=ZstdCodec(level=1, checksum=True),
            dimension_names=(COLUMN,),
            config={"write_empty_chunks": True},
            overwrite=True,
        )
        array[:] = np.array(names, dtype=object)
        _sync([os.path.join(path, "zarr.json"), os.path.join(path, "c", "0")], folder)
    return array


def _there(folder: str, name: str) -> bool:
    return os.path.isdir(os.path.join(folder, name))


def _check_written(path: str, axis: int) -> list[str]:
    """Refuse an array without one of its chunks, which would read as zeros; says how each ends."""
    with storage("read", path):
        array = zarr.open_array(path, mode="r")
    chunk, endings = array.chunks[axis], []
    for index in range(-(-array.shape[axis] // chunk)):
        if not os.path.isfile(_chunk_file(path, axis, index)):
            raise RunError(
                f"{path} is not complete: {index * chunk} to "
                f"{min((index + 1) * chunk, array.shape[axis]) - 1} were not written. Go on with "
                "dnmf resume"
            )
        with storage("read", path):
            endings.append(ending(_chunk_file(path, axis, index)))
    return endings


def _write_group(folder: str, attributes: dict[str, Any]) -> None:
    """Write a group's metadata with that of all nodes inside, so that opening reads one file."""
    metadata = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": attributes,
        "consolidated_metadata": {
            "kind": "inline",
            "must_understand": False,
            "metadata": _nodes(folder),
        },
    }
    target = os.path.join(folder, "zarr.json")
    data = json.dumps(metadata, indent=2, allow_nan=False).encode()
    with storage("write", target):
        replace_file(target, [data])


def _nodes(folder: str, prefix: str = "") -> dict[str, Any]:
    """Read the metadata of the Zarr nodes below a group, by path."""
    found: dict[str, Any] = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        target = os.path.join(entry.path, "zarr.json")
        if entry.name == STATE or not os.path.isfile(target):
            continue
        with open(target, encoding="utf-8") as file:
            node = json.load(file)
        node.pop("consolidated_metadata", None)
        found[prefix + entry.name] = node
        if node["node_type"] == "group":
            found |= _nodes(entry.path, f"{prefix}{entry.name}/")
    return found
