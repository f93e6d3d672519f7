"""What lies at a path of an HDF5 file: groups and arrays with attributes, as Zarr knows them.

Three kinds of files have their matrix under other names than AnnData's, and are shown as AnnData:
counts of Cell Ranger (10x Genomics), which lie as features x cells in compressed columns, and so
are cells x features in compressed rows; h5ad files that do not say what they are (before AnnData
0.7); and columns of obs and var in one compound dataset, as those have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dnmf.errors import InputError
from dnmf.sources.hdf5.files import h5py_module

__all__ = ["Node", "find"]

TENX = {"data", "indices", "indptr", "shape", "barcodes"}
"""Members of a matrix of Cell Ranger, beside those that name its features."""

SHOWN_AS = ("X", "obs", "var")

SINGLE = {"_FillValue", "missing_value", "scale_factor", "add_offset", "units", "calendar"}
SINGLE |= {"_Unsigned", "valid_min", "valid_max"}
"""Attributes of the CF conventions, which NetCDF4 stores as arrays of one number."""

HIDDEN = {"CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST", "DIMENSION_LABELS"}
HIDDEN |= {"_Netcdf4Dimid", "_Netcdf4Coordinates", "_NCProperties"}
"""Attributes by which HDF5 and NetCDF4 link dimensions."""

NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable"


@dataclass(frozen=True)
class Node:
    """A group or an array.

    Attributes
    ----------
    attrs : dict
        As JSON has them.
    members : tuple of str
        Of a group.
    dataset : h5py.Dataset or None
        Of an array of numbers, or of texts.
    values : array of object or None
        Of an array of texts.
    """

    attrs: dict[str, Any] = field(default_factory=dict)
    members: tuple[str, ...] = ()
    dataset: Any = None
    values: np.ndarray | None = None

    @property
    def is_array(self) -> bool:
        return self.dataset is not None or self.values is not None


def find(file: Any, path: str) -> Node | None:
    """Return what lies at a path of an open file, or None.

    Parameters
    ----------
    file : h5py.File
    path : str
        "" is the root.
    """
    parts = [part for part in path.split("/") if part]
    counts = _tenx_groups(file)
    if len(counts) == 1 and (not parts or parts[0] in SHOWN_AS):
        return _find_tenx(file[counts[0]], parts)
    if parts and parts[0] in counts and (len(parts) == 1 or parts[1] in SHOWN_AS):
        return _find_tenx(file[parts[0]], parts[1:])
    return _find(file, parts)


def _find(file: Any, parts: Sequence[str]) -> Node | None:
    h5py = h5py_module()
    found: Any = file
    for index, name in enumerate(parts):
        if isinstance(found, h5py.Dataset):
            return _field(found, parts[index:])
        found = _member(found, name)
        if found is None:
            return None
    if isinstance(found, h5py.Group):
        return Node(_attributes(found), tuple(found))
    if isinstance(found, h5py.Dataset):
        return _array(found)
    return None


def _member(group: Any, name: str) -> Any:
    """Return a member of a group; None where there is none, or a link that leads nowhere."""
    try:
        found = group[name]
    except (KeyError, OSError, ValueError):
        return None
    if found.file.filename != group.file.filename:
        raise InputError(
            f"{group.file.filename}: {group.name.rstrip('/')}/{name} is a link to another file; "
            f"give that one: {found.file.filename}{found.name}"
        )
    return found


def _array(dataset: Any) -> Node | None:
    h5py = h5py_module()
    if str(_plain(dataset.attrs.get("NAME", ""))).startswith(NO_VARIABLE):
        return None
    try:
        dtype = dataset.dtype
    except TypeError:  # a type that NumPy does not have
        return None
    if dtype.fields and dataset.ndim == 1:
        names = tuple(dtype.names)
        index = "index" if "index" in names else names[0]
        return Node({"_index": index, "encoding-type": "dataframe"}, names)
    if h5py.check_string_dtype(dtype) is not None and dtype.kind == "O":
        return Node(_attributes(dataset), values=_texts(dataset[...])) if dataset.ndim else None
    if dtype.kind not in "buifcS" or dataset.shape is None:
        return None
    return Node(_attributes(dataset), dataset=dataset)


def _field(dataset: Any, rest: Sequence[str]) -> Node | None:
    """Return a column of a compound dataset."""
    names = dataset.dtype.names or ()
    if len(rest) != 1 or rest[0] not in names:
        return None
    return Node(values=_texts(np.asarray(dataset[rest[0]], object)))


def _tenx_groups(file: Any) -> list[str]:
    """Return the groups of a file that are matrices of Cell Ranger."""
    h5py = h5py_module()
    return [
        name
        for name in file
        if isinstance(file.get(name, getclass=True), type)
        and issubclass(file.get(name, getclass=True), h5py.Group)
        and _is_tenx(file[name])
    ]


def _is_tenx(group: Any) -> bool:
    members = set(group)
    return members >= TENX and bool(members & {"features", "genes"})


def _find_tenx(group: Any, parts: Sequence[str]) -> Node | None:
    """Show a matrix of Cell Ranger as AnnData shows cells x features."""
    if not parts:
        return Node({"encoding-type": "anndata", "note": "10x"}, SHOWN_AS)
    if parts[0] == "X":
        if len(parts) == 1:
            shape = [int(size) for size in group["shape"][:]][::-1]
            members = ("data", "indices", "indptr")
            return Node({"encoding-type": "csr_matrix", "shape": shape}, members)
        return _find(group, parts[1:]) if parts[1] in TENX else None
    if len(parts) == 1:
        return Node({"_index": "_index", "encoding-type": "dataframe"}, ("_index",))
    if parts[1:] != ["_index"]:
        return None
    return Node(values=_texts(group["barcodes"][:]) if parts[0] == "obs" else _features(group))


def _features(group: Any) -> np.ndarray:
    """Return names of features; those that several have are followed by their ids."""
    v3 = "features" in group
    names = _texts((group["features/name"] if v3 else group["gene_names"])[:])
    ids = _texts((group["features/id"] if v3 else group["genes"])[:])
    count = Counter(names.tolist())
    pairs = zip(names, ids, strict=True)
    return np.array([f"{n} ({i})" if count[n] > 1 else n for n, i in pairs], object)


def _texts(values: Any) -> np.ndarray:
    """Return labels as an array of str."""
    found = np.asarray(values, object)
    texts = [_plain(value) if isinstance(value, bytes) else str(value) for value in found.flat]
    return np.array(texts, object).reshape(found.shape)


def _attributes(found: Any) -> dict[str, Any]:
    """Return the attributes of a group or dataset that JSON can have."""
    h5py = h5py_module()
    attrs: dict[str, Any] = {}
    for name in found.attrs:
        if name in HIDDEN:
            continue
        try:
            value = found.attrs[name]
        except (OSError, TypeError):  # of a type that NumPy does not have
            continue
        if isinstance(value, h5py.Empty):
            attrs[name] = None
            continue
        if name in SINGLE and isinstance(value, np.ndarray) and value.size == 1:
            value = value.reshape(())[()]
        with_json = _plain(value)
        if with_json is not NotImplemented:
            attrs[name] = with_json
    if isinstance(found, h5py.Dataset):
        named = _dimensions(found)
        if named is not None:
            attrs["_ARRAY_DIMENSIONS"] = named
    elif found.name == "/" and {"X", "obs", "var"} <= set(found):
        attrs.setdefault("encoding-type", "anndata")
    return attrs


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; NotImplemented where JSON has none."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray):
        found = [_plain(item) for item in value.tolist()]
        return NotImplemented if NotImplemented in found else found
    if isinstance(value, np.generic):
        value = value.item()
        return _plain(value) if isinstance(value, bytes) else value
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool) else NotImplemented


def _dimensions(dataset: Any) -> list[str] | None:
    """Return the names of dimensions, by their scales as NetCDF4 attaches them, or by labels."""
    names = []
    for dimension in dataset.dims:
        try:
            scale = dimension[0].name.rpartition("/")[2] if len(dimension) else ""
        except (KeyError, RuntimeError, OSError):
            scale = ""
        names.append(scale or dimension.label)
    if dataset.ndim == 1 and dataset.is_scale:
        return [dataset.name.rpartition("/")[2]]
    return names if names and all(names) else None
