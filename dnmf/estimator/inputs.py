"""What X may be: in memory, or read block by block from where it is."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy.sparse import issparse

from dnmf.errors import OptionError
from dnmf.interop import objects
from dnmf.sources.base import Source
from dnmf.sources.formats import PADDED, as_csr

__all__ = [
    "STORED",
    "content",
    "is_stored",
    "module",
    "place",
    "refuse_same_place",
    "weight_matrix",
]

STORED = ("zarr", "dask")
"""Packages whose arrays are read where they are, block by block."""


def module(X: Any) -> str:
    """Find the package that the class of X comes from; of a result's array the one behind it."""
    packages = [str(kind.__module__).partition(".")[0] for kind in type(X).__mro__]
    return next((name for name in packages if name != "dnmf"), "dnmf")


def content(X: Any) -> Any:
    """Take the matrix out of a labelled one, so that a lazy matrix is not loaded for its labels.

    Raises
    ------
    InputError
        There is no one matrix in it, or one in HDF5, which cannot be read in parallel.
    """
    inside = {"xarray": objects.from_xarray, "anndata": objects.from_anndata}
    while not (isinstance(X, np.ndarray) or issparse(X)):  # what is, may be a view by AnnData
        if module(X) == "h5py" and not hasattr(X, "shape"):
            objects.from_h5py(X)
        if module(X) not in inside:
            break
        X = inside[module(X)](X)
    if issparse(X) and X.ndim == 2 and X.format in PADDED:  # sklearn's conversion keeps padding
        return as_csr(X, f"the {type(X).__name__}")
    return X


def weight_matrix(weights: Any) -> Any:
    """Take the matrix out of labelled weights, or make one of a list."""
    weights = content(weights)
    return np.asarray(weights) if isinstance(weights, (list, tuple)) else weights


def is_stored(X: Any) -> bool:
    """Return whether X is read block by block from storage, instead of lying in memory."""
    return isinstance(X, (str, os.PathLike, Source)) or module(X) in STORED


def refuse_same_place(out: Any, fitted: Any) -> None:
    """Refuse to write W of new rows where the fit's own result is.

    Raises
    ------
    OptionError
        It is the same folder.
    """
    if out is not None and fitted is not None and os.path.realpath(out) == os.path.realpath(fitted):
        raise OptionError(f"{out} is where the fit's own result is; give transform another out")


@contextmanager
def place(out: Any, needed: bool, keep: bool) -> Iterator[Any]:
    """Give the path of a result: ``out``, or a temporary folder where one is ``needed``.

    With ``keep`` that folder stays until the process ends. None is memory, which a cluster refuses.
    """
    if out is not None or not needed:
        yield out
        return
    folder = tempfile.mkdtemp(prefix="dnmf-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        yield os.path.join(folder, "result.zarr")
    except BaseException:
        keep = False
        raise
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
