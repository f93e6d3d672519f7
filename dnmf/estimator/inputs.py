"""What X may be: in memory, or read block by block from where it is."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import validate_data

from dnmf.errors import OptionError
from dnmf.interop import as_source, column_labels, label_finder, objects
from dnmf.launch.columns import in_order
from dnmf.launch.data import matrix
from dnmf.sources.base import Source
from dnmf.sources.checks import masked_array
from dnmf.sources.formats import PADDED, as_csr
from dnmf.sources.missing import read_given
from dnmf.steps.work import Executor

__all__ = [
    "STORED",
    "checked_input",
    "components_in_order",
    "content",
    "is_stored",
    "module",
    "place",
    "refuse_same_place",
    "rows_in_order",
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
        There is no one matrix in it, or it cannot be read.
    """
    inside = {"xarray": objects.from_xarray, "anndata": objects.from_anndata}
    while not (isinstance(X, np.ndarray) or issparse(X)):  # what is, may be a view by AnnData
        if module(X) == "h5py" and not _only_loads(X):
            return objects.from_h5py(X)
        if module(X) == "dask" and not hasattr(type(X), "chunksize"):
            objects.from_dask(X)
        if module(X) not in inside:
            break
        X = inside[module(X)](X)
    if isinstance(X, np.ma.MaskedArray):  # of which scikit-learn takes what lies under the mask
        raise masked_array("X", "X")
    if issparse(X) and X.ndim == 2 and X.format in PADDED:  # sklearn's conversion keeps padding
        return as_csr(X, f"the {type(X).__name__}")
    return X


def _only_loads(X: Any) -> bool:
    """Return whether an object of h5py has numbers that no one else can read from its file."""
    return bool(X) and hasattr(X, "shape") and X.file.mode != "r"  # closed ones are false


def checked_input(
    model: Any, X: Any, given: Any, weights: Any, reset: bool, work: Executor
) -> tuple[Any, str]:
    """Return V as dnmf reads it and the dtype to compute in; sets or compares the features.

    Where entries have weights, the scan finds those that must be finite and are not.

    Parameters
    ----------
    model : NMF
    X : matrix
        The content of ``given``, which may have names of rows and columns.
    given, weights : matrix
    reset : bool
        Whether X is fitted.
    work : Executor
        What will read it.
    """
    find = label_finder(given)
    V = X
    if is_stored(X):  # what is computed for its sizes stays in memory for the fit
        V = matrix(X, None, model.missing, work.dask_client, work)
    named = find or (V.labels if isinstance(V, Source) else None)
    names = None if named is None else named(1)
    knows = model if reset else _without_foreign_names(model, X, names)
    allowed = "allow-nan" if model.missing == "nan" else True
    if is_stored(X):
        validate_data(knows, V, reset=reset, skip_check_array=True)
    else:  # numbers keep their type: blocks are converted as they are read
        finite = allowed if weights is None else False
        checks = {"accept_sparse": "csr", "ensure_all_finite": finite}
        V = validate_data(knows, X, reset=reset, dtype="numeric", **checks)
        if V.dtype.kind == "f" and V.dtype.itemsize > 8:
            V = V.astype(np.float64)
    dtype = "float32" if V.dtype == np.float32 else "float64"
    if find is not None:
        V = as_source(V).labelled(find)
    if reset:
        model.column_names_ = names
    return V, dtype if model.dtype is None else np.dtype(model.dtype).name


def _without_foreign_names(model: Any, X: Any, names: Any) -> Any:
    """Return the model as scikit-learn may see it, which knows the names of data frames alone.

    It would warn that names are gone, or new, where the other side's are not those of a frame.
    """
    of_frame = hasattr(X, "columns") and all(isinstance(name, str) for name in X.columns)
    both = names is not None and getattr(model, "column_names_", None) is not None
    if not both or of_frame == hasattr(model, "feature_names_in_"):
        return model
    other = copy(model)
    if of_frame:
        other.feature_names_in_ = np.asarray(X.columns, dtype=object)
    else:
        del other.feature_names_in_
    return other


def components_in_order(model: Any, V: Any) -> np.ndarray:
    """Return ``components_`` with columns in the order of V's, where both have names."""
    H: np.ndarray = model.components_
    names = getattr(model, "column_names_", None)
    return in_order(V, H, names, "the fit") if isinstance(V, Source) else H


def rows_in_order(V: Any, H: Any) -> Any:
    """Return a given H with columns in the order of V's, where both have names."""
    names = column_labels(H)
    if names is None or not isinstance(V, Source):
        return H
    return in_order(V, read_given(H, "H"), names, "H")


def weight_matrix(weights: Any) -> Any:
    """Return labelled weights as a source, which has their names, or make an array of a list."""
    if isinstance(weights, np.ma.MaskedArray):
        raise masked_array("weights", "weights")
    if label_finder(weights) is not None:
        return as_source(weights)
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
