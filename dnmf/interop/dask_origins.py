"""What a Dask graph reads from, as far as its tasks show it: paths, and Zarr arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import zarr

from dnmf.executors.dask_private import Alias, DataNode, Task, TaskRef
from dnmf.sources.compressed import CompressedArrays, encoding_of
from dnmf.sources.missing import check_stored
from dnmf.sources.packing import packed_by
from dnmf.sources.store import location_of
from dnmf.sources.stored import Region, StoredArray

if TYPE_CHECKING:
    from dnmf.interop.dask_array import DaskArraySource
    from dnmf.sources.base import Source

__all__ = ["check_origins", "paths_read"]

DEPTH = 8
"""Most names and wrappers that an array in a task is behind."""

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
    """Ask the storage for the chunks of what lazy data are read from.

    Zarr gives a chunk that is not stored as fill values, and Dask and xarray pass them on. Seen is
    every Zarr array in the graph, for the parts of it that its tasks read (slices, stacks, arrays
    behind functions and behind xarray), and sparse matrices that AnnData left on storage. Not seen
    is what a cluster or `dask.array.Array.persist` has computed already, and what functions open
    themselves.

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
        for origin in origins_in(part.tasks):
            names, looked_at = origin.unstored()
            if names:
                # zeros of what is packed tell nothing of the numbers that it stands for
                judged = "error" if origin.packed else how
                given = origin.arrays, [origin.where], len(names), names, judged
                notes.append(check_stored(*given, looked_at))
    return notes


@dataclass
class Origin:
    """What tasks read from storage.

    Attributes
    ----------
    where : str
        Its name, for people.
    arrays : tuple of StoredArray
        One, or the three of a compressed matrix.
    packed : bool
        What reads it decodes it.
    regions : list of Region
        Which parts tasks read; none: all of it.
    """

    where: str
    arrays: tuple[StoredArray, ...]
    packed: bool = False
    regions: list[Region] = field(default_factory=list)

    def unstored(self) -> tuple[list[str], int]:
        """Return the names of chunks that are not stored, and how many were looked for."""
        names, count = list[str](), 0
        for array in self.arrays:
            whole = tuple((0, size) for size in array.shape)
            absent, asked = array.absent(self.regions or [whole])
            names, count = names + absent, count + asked
        return names, count


def origins_in(graph: Mapping[Any, Any]) -> list[Origin]:
    """Return the Zarr arrays and compressed matrices that the tasks of a graph read."""
    found: dict[str, Origin] = {}
    for item in _walk(graph):
        if isinstance(item, zarr.Array) and item.ndim and item.dtype.kind in "buif" and item.size:
            location = location_of(item)
            packed = bool(packed_by(location, item))
            array = StoredArray(location, item, packed=True)
            found[location.name] = Origin(location.name, (array,), packed)
        elif isinstance(item, zarr.Group) and encoding_of(item) is not None:
            location = location_of(item)
            parts = CompressedArrays.open(location, item)
            arrays = parts.data, parts.indices, parts.indptr
            found[location.name] = Origin(location.name, arrays)
    for name, regions in _regions_read(graph).items():
        if name in found:
            found[name].regions = regions
    return list(found.values())


def _regions_read(graph: Mapping[Any, Any]) -> dict[str, list[Region]]:
    """Return which regions of Zarr arrays tasks read, of those whose every reader is understood.

    A task that Dask makes of an array has its key, and then a tuple of slices; a task that others
    were fused into gives both to one of them.
    """
    at = ((key, _array_at(graph, key)) for key in graph)
    arrays = {key: array for key, array in at if array is not None}
    names = {key: location_of(array).name for key, array in arrays.items()}
    found: dict[str, list[Region]] = {}
    others = {key: node for key, node in graph.items() if key not in arrays}
    inside = (item for item in _walk(others) if isinstance(item, zarr.Array))
    unclear = {location_of(array).name for array in inside}
    for node in graph.values():
        needed = set(getattr(node, "dependencies", arrays)) & arrays.keys()
        if not needed or isinstance(node, (Alias, zarr.Array, DataNode)):
            continue
        seen = list(_reads(node, {key: _Key(key) for key in needed}))
        for key in needed:
            regions = [_region(arrays[key].shape, index) for one, index in seen if one == key]
            if not regions or None in regions:
                unclear.add(names[key])
            found.setdefault(names[key], []).extend(part for part in regions if part is not None)
    return {name: regions for name, regions in found.items() if name not in unclear}


@dataclass(frozen=True)
class _Key:
    """An argument that stands for an array, by its key in the graph."""

    key: Any


def _array_at(graph: Mapping[Any, Any], key: Any) -> zarr.Array[Any] | None:
    """Return the Zarr array at a key of a graph, or None."""
    node = graph[key]
    for _ in range(DEPTH):
        if isinstance(node, Alias):
            node = graph.get(node.target)
    return _array_of(node.value if isinstance(node, DataNode) else node)


def _reads(node: Any, known: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield keys of arrays that a task reads, each with what follows it in a call.

    Parameters
    ----------
    node : Task, or another node of a graph, of which nothing is known
    known : mapping
        What names of arguments stand for.
    """
    if not isinstance(node, Task) or not isinstance(node.args, tuple):
        return
    values = [_value(arg, known) for arg in node.args]
    if values and isinstance(values[0], Mapping):  # tasks that were fused, names, and their values
        inner = dict(zip(values[2], values[3:], strict=False)) if len(values) > 2 else {}
        for task in values[0].values():
            yield from _reads(task, inner)
        return
    for value, index in pairwise([*values, None]):
        if isinstance(value, _Key):
            yield value.key, index


def _value(arg: Any, known: Mapping[Any, Any]) -> Any:
    """Return what an argument of a task stands for, where that is at hand."""
    if isinstance(arg, TaskRef):
        return known.get(arg.key, arg)
    return arg.value if isinstance(arg, DataNode) else arg


def _array_of(value: Any) -> zarr.Array[Any] | None:
    """Return the Zarr array that a value is, or that xarray has wrapped whole."""
    for _ in range(DEPTH):
        if value is None or isinstance(value, zarr.Array):
            return value
        if not type(value).__module__.startswith("xarray."):
            return None
        index = getattr(getattr(value, "key", None), "tuple", ())
        if any(part != slice(None) for part in index):  # it has selected something already
            return None
        value = getattr(value, "array", None) or getattr(value, "_array", None)
    return None


def _region(shape: tuple[int, ...], index: Any) -> Region | None:
    """Return the region that a tuple of slices selects; None for anything else."""
    if not isinstance(index, tuple) or len(index) != len(shape):
        return None
    if not all(isinstance(part, slice) for part in index):
        return None
    bounds = [part.indices(size) for part, size in zip(index, shape, strict=True)]
    if any(step != 1 or stop <= start for start, stop, step in bounds):
        return None
    return tuple((start, stop) for start, stop, _ in bounds)


def _walk(graph: Mapping[Any, Any]) -> Iterator[Any]:
    """Give everything in a graph, wherever it is in it: tasks, paths, arrays."""
    seen: dict[int, Any] = {}  # kept alive: else another object may get the id of one that is gone
    waiting: list[Any] = [graph]
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, (bytes, int, float, np.ndarray, type)):
            continue
        seen[id(item)] = item
        yield item
        if isinstance(item, (str, os.PathLike, zarr.Array, zarr.Group)):
            continue
        if isinstance(item, Mapping):
            waiting.extend(item.values())
        elif isinstance(item, (list, tuple, set, frozenset)):
            waiting.extend(item)
        else:
            # Only what is really there: some objects answer to any name, with ever new ones.
            own = getattr(item, "__dict__", {})
            inside = [name for name in _INSIDE if name in own or hasattr(type(item), name)]
            if type(item).__module__.startswith("anndata."):
                inside.append("group")
            waiting += [getattr(item, name, None) for name in inside]
