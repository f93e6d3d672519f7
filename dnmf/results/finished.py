"""A finished result as it is read: what was changed or lost since is an error, never numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import zarr

from dnmf.errors import DnmfError, RunError
from dnmf.labels import Labels
from dnmf.results.checked_chunks import checked
from dnmf.results.result import Result
from dnmf.runs.sealed import COLUMN, RESULT_FORMAT, checksum, described

__all__ = ["FinishedArray", "open_finished"]

_OWN = {
    *("format", "history_columns", "arrays", "chunks", "checksum", "objective"),
    *("relative_error", "stop_reason", "config", "fingerprint", "versions", "history_rows"),
}


class FinishedArray(zarr.Array[Any]):
    """Reads a Zarr array of a result, and tells its damage as a `RunError`."""

    def __getitem__(self, selection: Any) -> Any:
        return _told(self, lambda: super(FinishedArray, self).__getitem__(selection))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        whole: np.ndarray = self[...]
        return whole.astype(dtype, copy=False) if dtype is not None else whole


def _told(array: zarr.Array[Any], read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (DnmfError, IndexError, TypeError, MemoryError):
        raise
    except Exception as error:
        raise _damaged(str(array.store_path), error) from error


def _damaged(where: str, why: object) -> RunError:
    text = f"{type(why).__name__}: {why}" if isinstance(why, Exception) else str(why)
    return RunError(f"{where} is damaged: {text}. Copy it again, or fit again with --overwrite")


def open_finished(where: str, group: str, attributes: Mapping[str, Any]) -> Result:
    """Open the result whose root metadata said ``attributes``.

    Raises
    ------
    RunError
        It is of another format, or was changed since it was written.
    """
    found = attributes.get("format")
    if found != RESULT_FORMAT:
        raise RunError(
            f"{where} is a result of format {found}, this version of dnmf reads format "
            f"{RESULT_FORMAT}; use the version that wrote it, or read it with Zarr"
        )
    if attributes.get("checksum") != checksum(attributes):
        raise _damaged(where, "its metadata differ from their checksum")
    try:
        node = zarr.open_group(where, path=group, mode="r")
        if "chunks" in attributes:  # a result of an earlier version does not say where they belong
            inside = f"{group}/" if group else ""
            endings = {f"{inside}{name}": ends for name, ends in attributes["chunks"].items()}
            node = zarr.open_group(checked(node.store, endings), path=group, mode="r")
        arrays = {name: _array(node, name, what) for name, what in attributes["arrays"].items()}
        columns = {name: arrays[name][:].tolist() for name in attributes["history_columns"]}
        columns_of_rows = zip(*columns.values(), strict=True)
        rows = [dict(zip(columns, row, strict=True)) for row in columns_of_rows]
        rows = attributes.get("history_rows", rows)
    except (DnmfError, MemoryError):
        raise
    except Exception as error:  # whatever Zarr and its codecs raise
        raise _damaged(where, error) from error
    return Result(
        path=where,
        done=True,
        stop_reason=attributes.get("stop_reason"),
        objective=attributes.get("objective"),
        relative_error=attributes.get("relative_error"),
        history=rows,
        config=attributes.get("config") or {},
        fingerprint=attributes.get("fingerprint"),
        versions=attributes.get("versions") or {},
        details={key: value for key, value in attributes.items() if key not in _OWN},
        _factors={name: arrays[name] for name in ("W", "H") if name in arrays},
        _columns=partial(_names, arrays[COLUMN]) if COLUMN in arrays else None,
    )


def _names(stored: FinishedArray) -> Labels:
    return tuple(map(str, stored[:]))


def _array(group: zarr.Group, name: str, what: list[Any]) -> FinishedArray:
    """Open an array of a result, if it is as it was written and has all of its chunks.

    A chunk that is missing would read as zeros.
    """
    array = group[name]
    if not isinstance(array, zarr.Array) or described(array) != what:
        where = str(group.store_path / name)
        raise _damaged(where, f"it is not the array {what} that was written")
    if array.nchunks_initialized != array.nchunks:
        lost = array.nchunks - array.nchunks_initialized
        raise _damaged(str(array.store_path), f"{lost} of {array.nchunks} chunks are missing")
    return FinishedArray(array._async_array)
