"""Factors as arrays of xarray, with the names of columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from dnmf.errors import MissingDependencyError
from dnmf.labels import Labels

__all__ = ["labelled_H"]


def labelled_H(H: np.ndarray, names: Labels | None) -> Any:
    """Return H (k, d) as an xarray.DataArray.

    Raises
    ------
    MissingDependencyError
        xarray is not installed; the message has the command that installs it.
    """
    try:
        import xarray
    except ImportError as error:
        raise MissingDependencyError(
            "components() needs xarray, which is not installed; install it with: "
            "python -m pip install 'dnmf[xarray]'"
        ) from error
    k, d = H.shape
    columns = np.arange(d) if names is None else np.array(names, dtype=object)
    coords = {"component": np.arange(k), "column": columns}
    return xarray.DataArray(H, coords, ("component", "column"), name="H")
