"""Objects of other libraries as sources: Dask arrays, xarray, AnnData, pandas."""

from __future__ import annotations

from typing import Any

from dnmf.sources import open_source
from dnmf.sources.base import Source

__all__ = ["as_source"]


def as_source(V: Any) -> Source:
    """V as a source, whatever it is.

    Other libraries are recognised by their modules' names, so that none is imported for it.

    Raises
    ------
    InputError
        It is not a two-dimensional real matrix that can be read.
    """
    if isinstance(V, Source):
        return V
    module = type(V).__module__.partition(".")[0]
    if module == "xarray":
        return as_source(V.data)
    if module == "anndata":
        return as_source(V.X)
    if module == "pandas":
        return open_source(V.to_numpy())
    if module == "dask":
        from dnmf.interop.dask_array import DaskArraySource

        return DaskArraySource(V)
    return open_source(V)
