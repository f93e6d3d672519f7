"""The matrix inside labelled containers of other libraries, without importing those."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from numbers import Real
from typing import Any, NoReturn

import numpy as np

from dnmf.config import MIB
from dnmf.errors import InputError
from dnmf.labels import Labels, texts
from dnmf.sources.base import Source
from dnmf.sources.checks import native_dtype
from dnmf.sources.opening import open_path
from dnmf.sources.packing import refuse_packed

__all__ = [
    "as_dask",
    "from_anndata",
    "from_dask",
    "from_h5py",
    "from_pandas",
    "from_xarray",
    "labels_of",
]

MOST_NAMES = 10

CHUNK = 64 * MIB
"""Bytes that are read together of an array that is not in memory."""


def labels_of(V: Any, module: str) -> Callable[[int], Labels | None] | None:
    """Return what finds the names of rows (0) and columns (1) of a labelled matrix, or None."""
    if module == "pandas":
        return partial(_named, (V.index, V.columns))
    if module == "anndata" and hasattr(V, "var_names"):
        return partial(_named, (V.obs_names, V.var_names))
    if module == "xarray" and hasattr(V, "coords"):
        named = [V.coords.get(dim) for dim in V.dims]
        return partial(_named, named)
    return None


def _named(indexes: Sequence[Any], axis: int) -> Labels | None:
    index = indexes[axis]
    if index is None:
        return None
    values = index.to_numpy() if hasattr(index, "to_numpy") else index
    return texts(values)


def as_dask(stored: Any) -> Any:
    """Return a stored array as a lazy Dask array, chunk by chunk."""
    import dask.array

    return dask.array.from_array(stored, chunks=stored.chunks)


def from_xarray(V: Any) -> Any:
    """Return the array of a DataArray or Variable; what is lazy stays so, as a Dask array."""
    if not hasattr(type(V), "data"):  # asking V itself would load it
        names = ", ".join(map(str, list(getattr(V, "data_vars", []))[:MOST_NAMES]))
        inside = f" (it has {names})" if names else ""
        raise InputError(
            f"V is an xarray {type(V).__name__}; give one of its variables, as in V['name']{inside}"
        )
    refuse_packed(V, f"the xarray {type(V).__name__}")
    variable = getattr(V, "variable", V)
    lazy = V.chunks is None and not getattr(variable, "_in_memory", True)
    if lazy and V.ndim == 2:
        native_dtype(V.dtype, f"the xarray {type(V).__name__}")
        return _chunked(V)
    return V.data


def _chunked(V: Any) -> Any:
    """Return an array that is not loaded yet as a Dask array of whole rows of stored chunks."""
    rows, columns = V.dims
    stored = int(V.encoding.get("preferred_chunks", {}).get(rows, 1))
    together = max(1, CHUNK // max(1, stored * V.shape[1] * V.dtype.itemsize))
    try:
        return V.chunk({rows: stored * together, columns: -1}).data
    except ImportError:  # without Dask there is only loading
        return V.data


def from_anndata(V: Any) -> Any:
    """Return X of an AnnData object, or the Zarr group of a matrix that it left on storage."""
    if hasattr(V, "group"):
        return V.group
    if not hasattr(V, "X"):
        raise InputError(f"V is an anndata {type(V).__name__}; give a matrix, such as adata.X")
    if V.X is None:
        layers = ", ".join(map(str, list(V.layers)[:MOST_NAMES]))
        inside = f"one of its layers ({layers})" if layers else "a matrix"
        raise InputError(f"V is an AnnData object without X; give {inside}: V.layers['name']")
    return V.X


def _are_numbers(column: Any) -> bool:
    """Return whether all objects of a column are numbers, or missing."""
    return all(isinstance(value, (Real, Decimal)) for value in column.dropna())


def from_h5py(V: Any) -> Source:
    """Return the source of a dataset, or of a group as AnnData writes them, in an HDF5 file.

    Raises
    ------
    InputError
        The file was closed, is open for writing, or is in memory only.
    """
    kind = type(V).__name__
    if not V:
        raise InputError(
            f"V is an h5py {kind} whose file was closed; open it again, or give its path"
        )
    file = getattr(V, "file", None)
    if file is None or file.driver in ("core", "fileobj") or not os.path.isfile(file.filename):
        raise InputError(
            f"V is an h5py {kind} of a file that has no path that others could open; load it, if "
            "it fits into memory: dataset[:]"
        )
    if file.mode != "r":
        raise InputError(
            f"V lies in an HDF5 file that is open for writing ({file.filename}), so that parts of "
            "it may not be in the file yet; open it for reading: h5py.File(path), "
            "anndata.read_h5ad(path, backed='r')"
        )
    return open_path(f"file://{os.path.abspath(file.filename)}{V.name}".rstrip("/"))


def from_dask(V: Any) -> NoReturn:
    """Refuse Dask collections that are not arrays."""
    raise InputError(
        f"V is a dask {type(V).__name__}; give a dask.array (.to_dask_array(lengths=True) of a "
        "data frame, dask.array.from_delayed of delayed pieces)"
    )


def from_pandas(V: Any) -> Any:
    """Return the numbers of a data frame: CSR where all columns are sparse, else NumPy.

    Missing values become NaN, which a fit refuses by row and column.
    """
    if getattr(V, "ndim", 0) != 2:
        raise InputError(f"V is a pandas {type(V).__name__}; give a DataFrame, rows by columns")
    kinds = [getattr(dtype, "subtype", dtype) for dtype in V.dtypes]
    wrong = [
        f"{name!r} ({dtype})"
        for name, dtype, kind in zip(V.columns, V.dtypes, kinds, strict=True)
        if getattr(kind, "kind", "O") not in "buif"
    ]
    objects = [
        V.iloc[:, place]
        for place, dtype in enumerate(V.dtypes)
        if getattr(dtype, "kind", "") == "O"
    ]
    numbers = [column.name for column in objects if _are_numbers(column)]
    if wrong and len(numbers) == len(wrong):
        some = ", ".join(map(repr, numbers[:MOST_NAMES])) + (", ..." if wrong[MOST_NAMES:] else "")
        raise InputError(
            f"V has columns of numbers that are Python objects (dtype object): {some}; convert "
            f"them: V.astype(float)"
        )
    if wrong:
        more = f" and {len(wrong) - MOST_NAMES} more" if len(wrong) > MOST_NAMES else ""
        raise InputError(
            f"V has columns that are not real numbers: {', '.join(wrong[:MOST_NAMES])}{more}; drop "
            "or convert them (V.select_dtypes('number'))"
        )
    if len(kinds) and all(getattr(dtype, "fill_value", None) == 0 for dtype in V.dtypes):
        return V.sparse.to_coo().tocsr()
    nullable = any(hasattr(dtype, "numpy_dtype") for dtype in V.dtypes)
    if nullable and V.isna().to_numpy().any():
        return V.to_numpy(dtype=np.float64, na_value=np.nan)
    dtypes = [getattr(kind, "numpy_dtype", kind) for kind in kinds]
    return V.to_numpy(dtype=np.result_type(*dtypes)) if dtypes else V.to_numpy(dtype=np.float64)
