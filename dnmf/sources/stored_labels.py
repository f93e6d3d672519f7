"""Names of rows and columns in a Zarr store: of AnnData, or coordinates that xarray wrote."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import zarr

from dnmf.errors import CorruptDataError, DnmfError
from dnmf.labels import Labels, texts
from dnmf.sources.base import Source
from dnmf.sources.store import Location, locate

__all__ = ["with_stored_labels"]

FRAMES = ("obs", "var")
"""Groups of an AnnData store that name its rows and its columns."""

DEPTH = 2
"""How far above X, a layer, or X of ``raw`` an AnnData store may begin."""

CODECS = {"bytes", "crc32c", "transpose", "sharding_indexed", "blosc", "zstd", "gzip", "zlib"}
CODECS |= {"lz4", "bz2", "lzma", "vlen-utf8", "vlen-bytes", "vlen-array", "shuffle", "endian"}
"""Codecs that decode bytes to numbers and texts, and cannot do anything else."""


def with_stored_labels(source: Source, location: Location, node: Any) -> Source:
    """Let a source find the names in the store that it is of; they are read when asked for."""
    return source.labelled(partial(_labels, location, _dimensions(node), source.shape))


def _dimensions(node: Any) -> tuple[str | None, ...]:
    """Return the names of an array's dimensions, by which xarray finds coordinates."""
    if not isinstance(node, zarr.Array) or node.ndim != 2:
        return None, None
    named = getattr(node.metadata, "dimension_names", None)
    named = named or node.attrs.get("_ARRAY_DIMENSIONS")
    if not isinstance(named, (list, tuple)) or len(named) != 2:
        return None, None
    return tuple(str(name) if name else None for name in named)


def _labels(
    location: Location, dimensions: tuple[str | None, ...], shape: tuple[int, int], axis: int
) -> Labels | None:
    above, inside = location, ""
    for _ in range(DEPTH):
        parent = _parent(above)
        if parent is None:
            return None
        above, name = parent
        inside = f"{name}/{inside}".rstrip("/")
        group = _opened(above)
        if not isinstance(group, zarr.Group):
            return None
        if _is_matrix_of_anndata(inside):
            found = _of_anndata(above, axis)
            if found is not None and len(found) == shape[axis]:
                return found
        dimension = dimensions[axis]
        if "/" not in inside and dimension and dimension != name:
            return _coordinate(above.child(dimension), shape[axis])
    return None


def _is_matrix_of_anndata(inside: str) -> bool:
    """Return whether AnnData's names belong to what has this path in a store (or in ``raw``)."""
    first, _, rest = inside.partition("/")
    return inside in ("X", "raw/X") or (first == "layers" and bool(rest) and "/" not in rest)


def _parent(location: Location) -> tuple[Location, str] | None:
    """Return the location of the group around a node, and the name of the node in it."""
    if location.path:
        head, _, name = location.path.rpartition("/")
        url = location.url and location.url.rpartition("/")[0]
        return Location(location.store, head, url, location.shared), name
    head, _, name = (location.url or "").rstrip("/").rpartition("/")
    if not head or not name or head.endswith((":", "/")) or "::" in head:
        return None
    try:
        return locate(head), name
    except DnmfError:
        return None


def _opened(location: Location) -> Any:
    try:
        return location.open()
    except (FileNotFoundError, DnmfError):
        return None


def _of_anndata(root: Location, axis: int) -> Labels | None:
    frame = root.child(FRAMES[axis])
    group = _opened(frame)
    if not isinstance(group, zarr.Group) or "_index" not in group.attrs:
        return None
    return _column(frame.child(str(group.attrs["_index"])))


def _coordinate(location: Location, size: int) -> Labels | None:
    """Return a coordinate of xarray; times are left out, since their numbers need a calendar."""
    node = _opened(location)
    if not isinstance(node, zarr.Array) or node.shape != (size,):
        return None
    if {"scale_factor", "add_offset", "calendar"} & set(node.attrs):
        return None
    return None if " since " in str(node.attrs.get("units")) else _column(location)


def _column(location: Location) -> Labels | None:
    """Read a column of texts or numbers, as AnnData and xarray store them."""
    node = _opened(location)
    if isinstance(node, zarr.Array):
        return texts(_values(location, node))
    if not isinstance(node, zarr.Group):
        raise _unreadable(location, "it is not there")
    if node.attrs.get("encoding-type") == "categorical":
        known = _column(location.child("categories")) or ()
        codes = _column(location.child("codes")) or ()
        if any(not -1 <= int(code) < len(known) for code in codes):
            raise _unreadable(location, "its codes are not those of its categories")
        return tuple("nan" if code == "-1" else known[int(code)] for code in codes)
    if "values" in node:  # of a nullable column; names that are missing are none
        return _column(location.child("values"))
    raise _unreadable(location, f"its encoding is {node.attrs.get('encoding-type')!r}")


def _values(location: Location, node: zarr.Array[Any]) -> np.ndarray:
    metadata = node.metadata.to_dict()
    codecs: list[Any] = []
    for key in ("codecs", "filters", "compressor"):
        some: Any = metadata.get(key) or ()
        codecs += [some] if isinstance(some, dict) else some
    names = {str(codec.get("name", codec.get("id"))) for codec in codecs}
    names = {name.removeprefix("numcodecs.") for name in names}
    if not names <= CODECS:
        others = ", ".join(sorted(names - CODECS))
        raise _unreadable(location, f"its codec {others} may do anything")
    if node.ndim != 1:
        raise _unreadable(location, f"it has {node.ndim} dimensions")
    try:
        if node.nchunks_initialized != node.nchunks:
            lost = node.nchunks - node.nchunks_initialized
            raise _unreadable(location, f"{lost} of {node.nchunks} chunks are missing")
        return np.asarray(node[:])
    except (DnmfError, MemoryError):
        raise
    except Exception as error:  # whatever Zarr and its codecs raise
        raise _unreadable(location, f"{type(error).__name__}: {error}") from error


def _unreadable(location: Location, why: str) -> CorruptDataError:
    return CorruptDataError(
        f"the names of rows or columns at {location.name} cannot be read: {why}. Restore them, or "
        f"copy the matrix alone to another store (dnmf convert IN OUT), whose columns have none"
    )
