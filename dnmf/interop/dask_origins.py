"""What a Dask graph reads from, as far as its tasks show it: paths, and Zarr arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import zarr

from dnmf.sources.missing import check_stored
from dnmf.sources.packing import packed_by
from dnmf.sources.store import location_of
from dnmf.sources.stored import StoredArray

if TYPE_CHECKING:
    from dnmf.interop.dask_array import DaskArraySource
    from dnmf.sources.base import Source

__all__ = ["check_origins", "paths_read"]

ROWS = 64
"""Rows of chunks that storage is asked about at once."""

_INSIDE = ("func", "args", "keywords", "kwargs", "value", "array", "_array")
"""Attributes of tasks, partial functions and lazy arrays (xarray's) behind which arrays are."""


def paths_read(graph: Mapping[Any, Any]) -> list[str]:
    """Return local paths in a graph: of Zarr arrays, and what else looks like an absolute path.

    Parameters
    ----------
    graph : mapping of keys to tasks

    Returns
    -------
    list of str
        Sorted, each once.
    """
    found: set[str] = set()
    for item in _walk(graph):
        if isinstance(item, zarr.Array):
            url = location_of(item).url
            if url is not None and os.path.isabs(url):
                found.add(url)
        elif isinstance(item, (str, os.PathLike)):
            text = os.fspath(item)
            if isinstance(text, str) and os.path.isabs(text) and "\0" not in text:
                found.add(text)
    return sorted(found)


def check_origins(source: Source, how: str) -> list[str]:
    """Ask the storage for the chunks of Zarr arrays that lazy data are read from.

    Zarr gives a chunk that is not stored as fill values, and Dask and xarray pass them on. Seen
    are Zarr arrays of the shape of V (or of V') in its graph, as `dask.array.from_zarr` and
    `xarray.open_zarr` have them, behind functions of entries too. Not seen is what an array of
    another shape became a part of V (slices, stacks), compressed matrices, and what a cluster or
    `dask.array.Array.persist` has computed already.

    Parameters
    ----------
    source : Source
        Parts of it that are not lazy are passed over.
    how : {"auto", "fill", "error"}
        As for `dnmf.sources.missing.check_missing`.

    Returns
    -------
    list of str
        Remarks about missing chunks that were accepted.

    Raises
    ------
    CorruptDataError
        Chunks are missing: how many of how many, the first names, and what to do.
    """
    notes: list[str] = []
    lazy = [cast("DaskArraySource", part) for part in source.parts if part.lazy]
    for part in lazy if how != "fill" else []:
        for array, packed in _origins(part.array.__dask_graph__(), part.shape):
            rows = range(0, array.shape[0], ROWS * array.chunks[0])
            columns = (0, array.shape[1])
            names = [
                name
                for start in rows
                for name in array.unstored(
                    ((start, min(start + rows.step, array.shape[0])), columns), None, begun=True
                )
            ]
            if names:
                where = [array.location.name]
                # zeros of what is packed tell nothing of the numbers that it stands for
                judged = "error" if packed else how
                notes.append(check_stored([array], where, len(names), names, judged))
    return notes


def _origins(graph: Mapping[Any, Any], shape: tuple[int, int]) -> list[tuple[StoredArray, bool]]:
    """Return the Zarr arrays in a graph that have this shape, in any order of its axes.

    Each with whether it is packed, so that what reads it decodes it.
    """
    found: dict[str, tuple[StoredArray, bool]] = {}
    for item in _walk(graph):
        if isinstance(item, zarr.Array) and sorted(item.shape) == sorted(shape):
            location = location_of(item)
            packed = bool(packed_by(location, item))
            found[location.name] = StoredArray(location, item, packed=True), packed
    return list(found.values())


def _walk(graph: Mapping[Any, Any]) -> Iterator[Any]:
    """Give the paths and the Zarr arrays in a graph, wherever they are in it."""
    seen: dict[int, Any] = {}  # kept alive: else another object may get the id of one that is gone
    waiting: list[Any] = [graph]
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, (bytes, int, float, np.ndarray, type)):
            continue
        seen[id(item)] = item
        if isinstance(item, (str, os.PathLike, zarr.Array)):
            yield item
        elif isinstance(item, Mapping):
            waiting.extend(item.values())
        elif isinstance(item, (list, tuple, set, frozenset)):
            waiting.extend(item)
        else:
            # Only what is really there: some objects answer to any name, with ever new ones.
            own = getattr(item, "__dict__", {})
            waiting += [
                getattr(item, name) for name in _INSIDE if name in own or hasattr(type(item), name)
            ]
