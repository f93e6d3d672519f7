"""Paths that a Dask graph reads from, as far as its tasks show them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr

from dnmf.sources.store import location_of

__all__ = ["paths_read"]

_INSIDE = ("func", "args", "keywords", "kwargs", "value", "array", "_array")
"""Attributes of tasks, partial functions and lazy arrays (xarray's) behind which arrays are."""


def paths_read(graph: Mapping[Any, Any]) -> list[str]:
    """Return local paths in a graph: of Zarr arrays, and what else looks like an absolute path.

    Parameters
    ----------
    graph : mapping of keys to tasks

    Returns
    -------
    list of str
        Sorted, each once.
    """
    found: set[str] = set()
    seen: dict[int, Any] = {}  # kept alive: else another object may get the id of one that is gone
    waiting: list[Any] = [graph]
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, (bytes, int, float, np.ndarray, type)):
            continue
        seen[id(item)] = item
        if isinstance(item, (str, os.PathLike)):
            text = os.fspath(item)
            if isinstance(text, str) and os.path.isabs(text) and "\0" not in text:
                found.add(text)
        elif isinstance(item, zarr.Array):
            url = location_of(item).url
            if url is not None and os.path.isabs(url):
                found.add(url)
        elif isinstance(item, Mapping):
            waiting.extend(item.values())
        elif isinstance(item, (list, tuple, set, frozenset)):
            waiting.extend(item)
        else:
            # Only what is really there: some objects answer to any name, with ever new ones.
            own = getattr(item, "__dict__", {})
            waiting += [
                getattr(item, name) for name in _INSIDE if name in own or hasattr(type(item), name)
            ]
    return sorted(found)
