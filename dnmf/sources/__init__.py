"""The sources of V: one class per kind of storage, all of them `Source`.

`open_source` finds the kind of whatever a person gives; `from_spec` makes a source again in
another process. A new kind is one module, one line in `SOURCES` and one contract test.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy

from dnmf.errors import InputError
from dnmf.names import load, local_name
from dnmf.sources.base import Matrix, Source

__all__ = ["SOURCES", "Matrix", "Source", "from_spec", "open_source"]

SOURCES: dict[str, str] = {
    "array": "dnmf.sources.array:ArraySource",
    "dask": "dnmf.interop.dask_array:DaskArraySource",
    "npy": "dnmf.sources.npy:NpySource",
    "npy_csr": "dnmf.sources.npy_csr:NpyCsr",
    "sparse": "dnmf.sources.array:SparseSource",
    "stacked": "dnmf.sources.stacked:StackedCSR",
    "zarr": "dnmf.sources.zarr_dense:ZarrDense",
    "zarr_columns": "dnmf.sources.zarr_dense:ZarrColumns",
    "zarr_csc": "dnmf.sources.zarr_csc:ZarrCSC",
    "zarr_csr": "dnmf.sources.zarr_csr:ZarrCSR",
}
"""Every kind of source and its class, imported when it is used."""

MADE = {
    "in_cluster": "dnmf.sources.in_cluster:InClusterSource",
    "weighted": "dnmf.sources.weighted:WeightedSource",
}
"""Other kinds in the plan of a run: known by its shape alone, or made of two sources."""


def from_spec(spec: Mapping[str, Any]) -> Source:
    """Make a source again from what its ``spec()`` returned.

    Raises
    ------
    InputError
        The kind is unknown, or the data are no longer there.
    """
    kind = spec.get("kind")
    name = SOURCES.get(str(kind)) or MADE.get(str(kind))
    if name is None:
        raise InputError(f"source of kind {kind!r}; known kinds are {', '.join(sorted(SOURCES))}")
    source: Source = load(name).from_spec(spec)
    return source


def open_source(V: Any) -> Source:
    """Return the source of a matrix, whatever holds it.

    Parameters
    ----------
    V : str, path, array or Source
        A path or fsspec URL of a Zarr array, of a sparse matrix in Zarr (a group as AnnData
        writes it), of an AnnData store (its X), or of an array within a store
        (``store.zarr/path/to/array``), or of any of these in an HDF5 file (``cells.h5ad``,
        ``scan.nc/flux``); a path of a ``.npy`` file; a Zarr array or group; a NumPy
        array or memory map; a scipy sparse matrix or array (other formats than CSR are
        converted to CSR once); a `Source`, which is returned.

    Raises
    ------
    InputError
        There is no such thing, or it is not a real, non-empty, two-dimensional matrix.
    MissingDependencyError
        A URL needs a package that is not installed.
    """
    if isinstance(V, (str, os.PathLike)):
        return _open_path(os.fspath(V))
    if isinstance(V, np.ndarray):
        return _open_array(V)
    if scipy.sparse.issparse(V):
        from dnmf.sources.array import SparseSource

        return SparseSource(V)
    if any(kind.__module__.partition(".")[0] == "zarr" for kind in type(V).__mro__):
        import zarr

        from dnmf.sources.opening import open_node

        if isinstance(V, (zarr.Array, zarr.Group)):
            return open_node(V)
    if isinstance(V, Source):
        return V
    kind = f"{type(V).__module__}.{type(V).__qualname__}".removeprefix("builtins.")
    raise InputError(
        f"V is of type {kind}; give a path or URL, a Zarr array or group, a NumPy array or a scipy "
        "sparse matrix (numpy.asarray converts lists, .to_numpy() data frames)"
    )


def _open_path(path: str | bytes) -> Source:
    text = os.fsdecode(path)
    if not text:
        raise InputError("the path of V is empty")
    name = local_name(text)
    if name.lower().endswith(".npy") and os.path.isfile(name):
        from dnmf.sources.npy import NpySource

        return NpySource.open(name)
    from dnmf.sources.opening import open_path

    return open_path(text)


def _open_array(V: np.ndarray) -> Source:
    from dnmf.sources.array import ArraySource

    if isinstance(V, np.memmap):
        from dnmf.sources.npy import NpySource

        mapped = NpySource.of_memmap(V)
        if mapped is not None:
            return mapped
    return ArraySource(V)
