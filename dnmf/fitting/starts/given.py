"""Given starts of H and W, put where every worker finds them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from dnmf.errors import OptionError
from dnmf.fitting.checks import SAFE
from dnmf.planning.plan import Plan
from dnmf.runs.base import ObjectRef, Refs, RunStore
from dnmf.runs.objects import checksum
from dnmf.sources.base import Source

__all__ = ["Given", "other_starts", "put_start"]


@dataclass(frozen=True)
class Given:
    """Arrays that the caller gave for a fit to start from, as rows and columns of V.

    Attributes
    ----------
    H : (k, d) array or None
        Start of H.
    W : (n, k) array or None
        Start of W, beside H.
    fixed : (r, d) array or None
        The first rows of H, which stay as they are.
    """

    H: np.ndarray | None = None
    W: np.ndarray | None = None
    fixed: np.ndarray | None = None


class _Checksums:
    """A store that remembers only the checksums of what is put into it."""

    def put(self, name: str, array: np.ndarray) -> ObjectRef:
        return ObjectRef(name, checksum(array))


def other_starts(plan: Plan, given: Given, oriented: Source | None) -> list[str]:
    """Name the given arrays that are not those that a run in a folder was begun with.

    Parameters
    ----------
    plan : Plan
    given : Given
    oriented : Source or None
        V as the plan reads it; None where it leaves out no rows.
    """
    store: Any = _Checksums()
    bare = replace(plan, start_H=None, start_W=None, fixed_H=None)
    made = put_start(store, bare, given, oriented)
    pairs = {
        "init": (made.start_H, plan.start_H),
        "init_W": (made.start_W, plan.start_W),
        "fixed_H": (made.fixed_H, plan.fixed_H),
    }
    return [name for name, (one, other) in pairs.items() if _sums(one) != _sums(other)]


def _sums(refs: Refs | None) -> list[str]:
    return [ref.checksum for ref in refs or ()]


def put_start(store: RunStore, plan: Plan, given: Given, oriented: Source | None = None) -> Plan:
    """Store the given arrays; the plan that is returned refers to them.

    Parameters
    ----------
    store : RunStore
    plan : Plan
    given : Given
    oriented : Source, optional
        V as the plan reads it, if the plan leaves out rows of it: those of the start are, too.

    Raises
    ------
    OptionError
        A shape does not fit V.
    """
    H, W, fixed = given.H, given.W, given.fixed
    if fixed is not None:
        plan = _put_fixed(store, plan, fixed)
    if H is None:
        return plan
    n, d = plan.shape_of_V
    k = plan.config.models[0].k
    if H.shape != (k, d):
        raise OptionError(f"H is {_size(H)}, but V has {d} columns: H must be {k} x {d}")
    if W is not None and W.shape != (n, k):
        raise OptionError(f"W is {_size(W)}, but V has {n} rows: W must be {n} x {k}")
    if plan.axis == "columns":
        if W is None:
            raise OptionError(
                "V is read by columns, where the fit starts from W: give init_W besides init, or "
                "rewrite V in smaller chunks (dnmf convert IN OUT --chunks ROWS,COLUMNS)"
            )
        H, W = W.T, H.T
    if fixed is not None:
        H = np.concatenate([fixed, H[len(fixed) :]])
    wide = store.put("start/H", _computable(H, plan.dtype, "H"))
    tall = None
    if W is not None:
        if plan.empty_rows:
            assert oriented is not None
            W = W[oriented.numbers()]
        W = _computable(W, plan.dtype, "W")
        tall = tuple(
            store.put(f"start/W-{s}", np.ascontiguousarray(W[a:b]))
            for s, (a, b) in enumerate(pairwise(plan.row_starts))
        )
    return replace(plan, start_H=(wide,), start_W=tall)


def _put_fixed(store: RunStore, plan: Plan, fixed: np.ndarray) -> Plan:
    d = plan.shape_of_V[1]
    if fixed.shape[1] != d:
        raise OptionError(f"fixed_H is {_size(fixed)}, but V has {d} columns")
    if plan.axis == "columns":
        raise OptionError(
            "V is read by columns, where rows of H cannot be held (fixed_H): rewrite V in smaller "
            "chunks (dnmf convert IN OUT --chunks ROWS,COLUMNS)"
        )
    ref = store.put("start/fixed", _computable(fixed, plan.dtype, "fixed_H"))
    return replace(plan, fixed_H=(ref,))


def _computable(given: np.ndarray, dtype: str, name: str) -> np.ndarray:
    """Return the array in the dtype of the fit; refuse values that this dtype cannot hold.

    Rows of H are scaled to unit norm before anything is computed from them, fixed ones are not:
    products of these must stay in range too.

    Raises
    ------
    OptionError
        The largest entry of a row (of W: of all of it) is too large or too small.
    """
    limits = np.finfo(dtype)
    low, high = SAFE[dtype] if name == "fixed_H" else (float(limits.tiny), float(limits.max))
    peaks = np.atleast_1d(np.max(given, axis=None if name == "W" else 1, initial=0.0))
    wrong = peaks[(peaks > high) | ((peaks > 0) & (peaks < low))]
    if wrong.size:
        where = "all" if name == "W" else "a row"
        raise OptionError(
            f"{name} has {wrong[0]:g} as largest entry of {where}; in {dtype} "
            f"that must lie between {low:.2g} and {high:.2g}. Scale it by a constant, or compute "
            f"in float64 (dtype)"
        )
    return np.ascontiguousarray(given, dtype)


def _size(X: np.ndarray) -> str:
    return " x ".join(map(str, X.shape))
