"""The source of a path or URL, or an error that says what is there instead."""

from __future__ import annotations

import os
import warnings
from contextlib import suppress

import zarr

from dnmf.errors import DnmfError, InputError
from dnmf.names import is_url, local_name
from dnmf.sources.base import Source
from dnmf.sources.compressed import CompressedArrays, encoding_of
from dnmf.sources.store import Location, locate, location_of
from dnmf.sources.stored_labels import with_stored_labels
from dnmf.sources.zarr_csc import ZarrCSC
from dnmf.sources.zarr_csr import ZarrCSR
from dnmf.sources.zarr_dense import ZarrDense

__all__ = ["open_node", "open_path"]

NOTE = " (X of an AnnData store)"
NOTES = {"10x": " (cells x features of a 10x file)"}
"""What a person should know about a matrix that was found by the path of its store."""

_CONVERTIBLE = (".npz", ".mtx", ".mtx.gz", ".mtx.bz2")
_HDF5 = (".h5ad", ".h5", ".hdf5", ".nc", ".nc4")
_MOST_NAMES = 20
NO_ARRAYS = "It holds no arrays"
_MOST_PARENTS = 4


def open_path(text: str) -> Source:
    """Return the source of the matrix at a path or URL.

    Raises
    ------
    InputError
        There is nothing, no Zarr, or no matrix.
    """
    location = locate(text)
    try:
        node = location.open()
    except FileNotFoundError:
        raise InputError(_nothing_at(text, location)) from None
    return _source(location, node)


def open_node(node: zarr.Array | zarr.Group) -> Source:
    """Return the source of an open Zarr array or group."""
    return _source(location_of(node), node)


def _source(location: Location, node: zarr.Array | zarr.Group, note: str = "") -> Source:
    if isinstance(node, zarr.Array):
        return with_stored_labels(ZarrDense.open(location, node, note), location, node)
    encoding = encoding_of(node)
    if encoding is not None:
        arrays = CompressedArrays.open(location, node, note)
        sparse = ZarrCSC(arrays) if encoding == "csc_matrix" else ZarrCSR(arrays)
        return with_stored_labels(sparse, location, node)
    if node.attrs.get("encoding-type") == "anndata" and not note:
        X = location.child("X")
        with suppress(FileNotFoundError):
            return _source(X, X.open(), NOTES.get(str(node.attrs.get("note")), NOTE))
    what = f"{location.format_name} group"
    raise InputError(f"{location.name} is {what}, not a matrix. {_contents(node)}")


def _contents(group: zarr.Group) -> str:
    """List the arrays and sparse matrices that a group holds, two levels deep."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # files that are no part of the hierarchy
        try:
            members = sorted(group.members(max_depth=2), key=lambda member: member[0])
        except Exception as error:  # whatever Zarr raises on damaged metadata
            return f"What it holds cannot be listed ({type(error).__name__}: {error})"
    found, inside = [], ""
    for name, node in members:
        if inside and name.startswith(inside):
            continue
        if isinstance(node, zarr.Array) and node.ndim and node.dtype.kind in "buifc":
            found.append(f"{name} ({' x '.join(map(str, node.shape))} {node.dtype})")
        elif isinstance(node, zarr.Group) and encoding_of(node) is not None:
            found.append(f"{name} ({encoding_of(node)})")
            inside = f"{name}/"
    if not found:
        return NO_ARRAYS
    more = f" and {len(found) - _MOST_NAMES} more" if len(found) > _MOST_NAMES else ""
    listed = ", ".join(found[:_MOST_NAMES])
    return f"Its arrays: {listed}{more}; add the name of one to the path"


def _nothing_at(text: str, location: Location) -> str:
    """Return a sentence about a location without a Zarr node."""
    group = _parent_group(text)
    if group is not None:
        above, node = group
        what = f"{above.name} is {above.format_name} group"
        return f"{location.name} does not exist. {what}. {_contents(node)}"
    if is_url(text):
        if text.lower().endswith(".zip") and "::" not in text:
            return f"{location.name} is a zip file, not Zarr; give what is in it: zip://::{text}"
        return f"there is no Zarr array or group at {location.name}"
    path = str(location.url)
    if not os.path.lexists(path):
        return f"{path} does not exist"
    if path.endswith(_CONVERTIBLE):
        return f"{path} is not Zarr; convert it first: dnmf convert {path} V.zarr"
    if path.endswith(_HDF5):
        return f"{path} is no HDF5 file, though its name says so"
    if os.path.isfile(path) and path.lower().endswith(".zip"):
        return f"{path} holds no Zarr array or group, neither at its root nor in its one folder"
    if os.path.isfile(path):
        return f"{path} is a file, neither a Zarr array nor a .npy file"
    return (
        f"{path} is a folder, but not a Zarr array or group (it has no zarr.json, .zarray or "
        f".zgroup){_hierarchies_in(path)}"
    )


def _hierarchies_in(path: str) -> str:
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        return f": {error}"
    marks = ("zarr.json", ".zarray", ".zgroup")
    found = [n for n in names if any(os.path.exists(os.path.join(path, n, m)) for m in marks)]
    return f"; Zarr in it: {', '.join(found[:_MOST_NAMES])}" if found else ""


def _parent_group(text: str) -> tuple[Location, zarr.Group] | None:
    """Return the nearest group above a location without a node; one with arrays, if any has."""
    nearest = None
    parent = text if is_url(text) else os.path.abspath(local_name(text))
    for _ in range(_MOST_PARENTS):
        parent = parent.rstrip("/").rpartition("/")[0]
        if not parent or parent.endswith(("/", ":")):
            break
        try:
            location = locate(parent)
            node = location.open()
        except (FileNotFoundError, DnmfError):
            continue
        if isinstance(node, zarr.Group):
            nearest = nearest or (location, node)
            if _contents(node) != NO_ARRAYS:
                return location, node
    return nearest
