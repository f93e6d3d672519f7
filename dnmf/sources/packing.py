"""Attributes by which stored numbers mean others: scale and offset, missing values, signs.

NetCDF, and xarray in Zarr, store what is called packed data: small integers beside the attributes
that decode them. The arrays here are not decoded. They are refused, with what decodes them.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import zarr

from dnmf.errors import DnmfError, InputError
from dnmf.sources.store import Location, locate

__all__ = ["check_unpacked", "packed_by", "packing", "refuse_packed"]

_MISSING = ("_FillValue", "missing_value")
_AXES = "_ARRAY_DIMENSIONS"
"""Attribute in which xarray keeps the names of dimensions in Zarr v2."""


def packing(attributes: Mapping[str, Any], dtype: np.dtype, fill: Any = None) -> dict[str, Any]:
    """Return the attributes that change what numbers of an array mean; none if it is plain.

    Those that change nothing are left out: a scale of 1, an offset of 0, NaN for missing entries,
    a missing value that the dtype does not have, and zeros that are missing where Zarr fills with
    zeros (``missing="zeros"`` serves them).

    Parameters
    ----------
    attributes : mapping
    dtype : numpy.dtype
        As stored.
    fill : number, optional
        The Zarr fill value.

    Returns
    -------
    dict
        Names of attributes and their values, numbers where they are understood.
    """
    found: dict[str, Any] = {}
    for name, neutral in (("scale_factor", 1), ("add_offset", 0)):
        value = _number(attributes.get(name))
        if value is not None and value != neutral:
            found[name] = value
    for name in _MISSING:
        value = attributes.get(name)
        values = value if isinstance(value, list | tuple | np.ndarray) else [value]
        wrong = [number for number in map(_number, values) if _occurs(number, dtype, fill)]
        if wrong:
            found[name] = wrong[0] if len(wrong) == 1 else wrong
    unsigned = str(attributes.get("_Unsigned", "")).lower()
    if (unsigned, dtype.kind) in (("true", "i"), ("false", "u")):
        found["_Unsigned"] = unsigned
    return found


def _number(value: Any) -> Any:
    """Return an attribute as a number, where it is one in whatever disguise, else as it is."""
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
        with suppress(ValueError, struct.error):  # as xarray writes floats in Zarr v3
            return struct.unpack("<d", base64.b64decode(value, validate=True))[0]
        return value
    with suppress(TypeError, ValueError):
        return np.asarray(value).item()
    return value


def _occurs(missing: Any, dtype: np.dtype, fill: Any) -> bool:
    """Return whether entries of the array may be equal to what stands for a missing one."""
    if missing is None or missing != missing:
        return False
    if not isinstance(missing, int | float):
        return True
    if missing == 0 and (fill is None or fill == 0):
        return False
    if dtype.kind not in "iu":
        return True
    limits = np.iinfo(dtype)  # of either sign, since `_Unsigned` may change it
    size = int(limits.max) - int(limits.min)
    return missing == int(missing) and -(size // 2) - 1 <= missing <= size


def packed_by(location: Location, array: zarr.Array[Any]) -> dict[str, Any]:
    """Return the attributes by which the numbers of an array mean others; none if it is plain.

    Raises
    ------
    InputError
        Its attributes are damaged.
    """
    attributes = array.metadata.attributes
    if not isinstance(attributes, Mapping):
        raise InputError(
            f"{location.name} has attributes that are no mapping ({attributes!r:.40}); its "
            "metadata are damaged"
        )
    fill, dtype = array.fill_value, np.dtype(array.dtype)
    if attributes.keys() & {*_MISSING, "scale_factor", "add_offset", "_Unsigned"}:
        found = packing(attributes, dtype, fill)
    else:
        found = {}
    if array.metadata.zarr_format == 2 and (found or _AXES in attributes):
        # In this format the Zarr fill value stands for `_FillValue` where xarray wrote it.
        found = {**_filled(fill, dtype), **found}
    return found


def check_unpacked(location: Location, array: zarr.Array[Any]) -> None:
    """Refuse an array whose attributes say that its numbers mean others.

    Raises
    ------
    InputError
        Names the attributes, and the way that decodes them.
    """
    found = packed_by(location, array)
    if not found:
        return
    metadata = array.metadata
    axes: Any = metadata.attributes.get(_AXES) or getattr(metadata, "dimension_names", None)
    listed = ", ".join(f"{name}={value!r}" for name, value in found.items())
    named = bool(axes) and all(axes)
    raise InputError(
        f"{location.name} is packed: by its attributes ({listed}) its numbers mean others than "
        f"those that are stored. {_remedy(location, array, found, named)}"
    )


def _filled(fill: Any, dtype: np.dtype) -> dict[str, Any]:
    value = _number(fill)
    return {"fill_value": value} if value and _occurs(value, dtype, None) else {}


def _remedy(
    location: Location, array: zarr.Array[Any], found: Mapping[str, Any], named: bool
) -> str:
    if array.ndim == 1:  # a part of a sparse matrix
        return (
            "In a sparse matrix nothing decodes them: read it, apply them to its data, delete the "
            "attributes, and write it again"
        )
    missing = "; entries that are missing become NaN (missing='nan')"
    missing = missing if {*_MISSING, "fill_value"} & found.keys() else ""
    convert = "dnmf.convert writes what that gives as a plain array, for the command line"
    group, _, name = location.name.rpartition("/")
    if named and location.url is not None and _is_group(group):
        return f"Give xarray.open_zarr({group!r})[{name!r}], which decodes them{missing}. {convert}"
    stored = f"dask.array.from_zarr({location.name!r})" if location.url else "dask.array.from_zarr"
    return (
        f"Decode them with Dask: x = {stored}, then {_decoded(found, np.dtype(array.dtype))}"
        f"{missing}. {convert}"
    )


def _is_group(name: str) -> bool:
    try:
        return bool(name) and isinstance(locate(name).open(), zarr.Group)
    except (DnmfError, FileNotFoundError):
        return False


def _decoded(found: Mapping[str, Any], dtype: np.dtype) -> str:
    """Return the expression that decodes an array x."""
    text = "x"
    if "_Unsigned" in found:
        other = {"i": "u", "u": "i"}[dtype.kind]
        text += f".astype('{other}{dtype.itemsize}')"
    if "scale_factor" in found:
        text += f" * {found['scale_factor']!r}"
    if "add_offset" in found:
        text += f" + {found['add_offset']!r}"
    values: list[Any] = []
    for name in ("fill_value", *_MISSING):
        value = found.get(name, [])
        values += value if isinstance(value, list) else [value]
    if not values:
        return text
    if dtype.kind in "iu" and all(isinstance(value, int | float) for value in values):
        values = [np.array(int(value)).astype(dtype).item() for value in values]
    unique = list(dict.fromkeys(values))
    same = " | ".join(f"(x == {value!r})" for value in unique)
    return f"dask.array.where({same}, numpy.nan, {text})"


def refuse_packed(X: Any, where: str) -> None:
    """Refuse an array that carries attributes by which its numbers mean others.

    Parameters
    ----------
    X : object
        An array of xarray, Zarr or h5py; others have no such attributes.
    where : str
        Names the array in the error.

    Raises
    ------
    InputError
        Names the attributes, and what decodes them.
    """
    if not (hasattr(X, "attrs") and hasattr(X, "dtype")):
        return
    fill = getattr(X, "fill_value", getattr(X, "fillvalue", None))
    found = packing(dict(X.attrs), np.dtype(X.dtype), fill)
    if found:
        listed = ", ".join(f"{name}={value!r}" for name, value in found.items())
        raise InputError(
            f"{where} is packed: by its attributes ({listed}) its numbers mean others than those "
            "that it holds. xarray decodes them: xarray.open_zarr and xarray.open_dataset do, "
            "unless told otherwise, and xarray.decode_cf(x.to_dataset(name='x'))['x'] does for an "
            "array x; where x is decoded already, give x.drop_attrs()"
        )
