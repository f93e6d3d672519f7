"""Objects of other libraries as sources: Dask arrays, xarray, AnnData, pandas."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy

from dnmf.labels import Labels
from dnmf.sources import open_source
from dnmf.sources.base import Source

__all__ = ["as_source", "column_labels", "label_finder"]


def as_source(V: Any, client: Any = None, room: int = 0) -> Source:
    """Return V as a source, whatever it is.

    Parameters
    ----------
    V : object
        What `dnmf.sources.open_source` takes; a dask.array with NumPy or scipy sparse chunks; an
        xarray.DataArray; an AnnData object (its X), or one of its matrices; a pandas.DataFrame
        of numbers. None of these libraries is imported where it is not in use already.
    client : distributed.Client, optional
        Computes what must be known of a Dask array.
    room : int
        Bytes of a Dask array's chunks that stay in memory where they are computed for their sizes.

    Raises
    ------
    InputError
        It is not a two-dimensional real matrix that can be read; says what would be one.
    """
    if isinstance(V, (str, np.ndarray)) or scipy.sparse.issparse(V):  # also AnnData's views of them
        return open_source(V)
    if _is(V, "dask.array", "Array"):
        from dnmf.interop.dask_array import DaskArraySource

        return DaskArraySource(V, client, room)
    known = {"xarray": "from_xarray", "anndata": "from_anndata", "pandas": "from_pandas"}
    known |= {"h5py": "from_h5py", "dask": "from_dask"}
    module = type(V).__module__.partition(".")[0]
    if module in known:
        from dnmf.interop import objects

        source = as_source(getattr(objects, known[module])(V), client, room)
        found = objects.labels_of(V, module)
        return source if found is None else source.labelled(found)
    return open_source(V)


def column_labels(V: Any) -> Labels | None:
    """Return the names of the columns of a labelled matrix or a source, or None."""
    found = V.labels if isinstance(V, Source) else label_finder(V)
    return None if found is None else found(1)


def label_finder(V: Any) -> Callable[[int], Labels | None] | None:
    """Return what finds the names of rows (0) and columns (1) of a labelled matrix, or None."""
    module = type(V).__module__.partition(".")[0]
    if module not in ("anndata", "pandas", "xarray") or getattr(V, "ndim", 2) != 2:
        return None
    from dnmf.interop import objects

    return objects.labels_of(V, module)


def _is(V: Any, module: str, name: str) -> bool:
    """Return whether V is of a class, which is not imported for it."""
    found = sys.modules.get(module)
    return found is not None and isinstance(V, getattr(found, name))
