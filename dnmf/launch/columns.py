"""What belongs to columns of V by name: rows of H are brought into the order that V has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dnmf.errors import OptionError
from dnmf.interop import as_source, column_labels
from dnmf.labels import Labels, order_of
from dnmf.results.result import Result
from dnmf.sources.base import Source
from dnmf.sources.missing import read_given

__all__ = ["components_for", "in_order", "with_columns_in_order"]


def in_order(V: Source, H: np.ndarray, names: Labels | None, whose: str) -> np.ndarray:
    """Bring the columns of H, which are named, into the order of V's.

    Raises
    ------
    InputError
        V's columns have other names, or are in another order and names are not unique.
    """
    order = order_of(V.labels(1), names, "V", whose)
    return H if order is None else H[:, order]


def components_for(
    V: Any, fit: Any, client: Any, missing_chunks: str | None
) -> tuple[Any, np.ndarray]:
    """Take H of a result, or an array H, and order its columns as V's.

    Returns
    -------
    V : Source, or as it was given
    H : (k, d) array

    Raises
    ------
    CorruptDataError
        Chunks of a stored H are missing.
    OptionError
        ``fit`` has no H.
    InputError
        V has columns of other names.
    """
    H = read_given(fit.H if isinstance(fit, Result) else fit, "fit", missing_chunks)
    if H.ndim != 2:
        raise OptionError(
            f"fit is {H!r:.60}; it must be a result, its path, or an array H (k x d), such as "
            f"the components_ of a fitted dnmf.NMF"
        )
    names = fit.column_names if isinstance(fit, Result) else column_labels(fit)
    if names is None:
        return V, H
    V = as_source(V, client)
    return V, in_order(V, H, names, "the fit")


def with_columns_in_order(
    V: Any, options: Mapping[str, Any], client: Any
) -> tuple[Any, dict[str, Any]]:
    """Order the columns of given rows of H (``init``, ``fixed_H``) as V's, where both have names.

    Rows of H in a store, given as a `Source`, are read.
    """
    found = dict(options)
    for name in ("init", "fixed_H"):
        given = found.get(name)
        names = column_labels(given)
        if isinstance(given, Source):
            (given,) = given.read_blocks([0, given.shape[0]])
            found[name] = given if isinstance(given, np.ndarray) else given.toarray()
        if names is not None:
            V = as_source(V, client)
            rows = read_given(found[name], name, options.get("missing_chunks"))
            found[name] = in_order(V, rows, names, name)
    return V, found
