"""Components of two models, matched: permutation and scale removed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnmf.errors import InputError
from dnmf.interop import column_labels
from dnmf.labels import Labels, order_of
from dnmf.linalg.own_state import own_state
from dnmf.sources.missing import read_given

__all__ = ["Comparison", "compare", "cosines", "match"]

PARTNER = 0.8
"""Cosine similarity from which two components count as the same."""


def cosines(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Compute cosine similarities of rows, (a, b); 0 where a row is zero."""
    return np.clip(_unit(A) @ _unit(B).T, 0.0, 1.0)


def _unit(X: np.ndarray) -> np.ndarray:
    X = np.asarray(X, np.float64, order="C")  # the order decides the last bits of sums
    peak = X.max(axis=1, initial=0.0, keepdims=True)
    X = X / np.where(peak > 0, peak, 1.0)
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    return np.asarray(X / np.where(norms > 0, norms, 1.0))


def match(A: np.ndarray, B: np.ndarray) -> list[tuple[int, int, float]]:
    """Find pairs (row of A, row of B, cosine): the one-to-one assignment of largest sum.

    Parameters
    ----------
    A, B : (a, d) and (b, d) arrays
    """
    from scipy.optimize import linear_sum_assignment

    similar = cosines(A, B)
    left, right = linear_sum_assignment(-similar)
    return [(int(i), int(j), float(similar[i, j])) for i, j in zip(left, right, strict=True)]


@dataclass(frozen=True)
class Comparison:
    """Two models, component by component.

    Attributes
    ----------
    pairs : list of (int, int, float)
        Component of ``a``, its partner in ``b``, and their cosine, most alike first.
    alone_a, alone_b : list of int
        Components whose best assignment is below `threshold`, or that were left over.
    threshold : float
    """

    pairs: list[tuple[int, int, float]]
    alone_a: list[int]
    alone_b: list[int]
    threshold: float

    @property
    def mean_cosine(self) -> float:
        """Mean cosine over the pairs; NaN without any."""
        return float(np.mean([cosine for _, _, cosine in self.pairs])) if self.pairs else np.nan

    def __str__(self) -> str:
        count = len(self.pairs)
        alike = f", {self.mean_cosine:.3f} alike on average" if self.pairs else ""
        text = f"{count} matched pair{'' if count == 1 else 's'}{alike}"
        for name, alone in (("first", self.alone_a), ("second", self.alone_b)):
            if alone:
                text += f"; without a partner in the {name}: {', '.join(map(str, alone))}"
        return text


@own_state()
def compare(a: Any, b: Any, *, threshold: float = PARTNER) -> Comparison:
    """Match the components of two results over the same columns.

    Parameters
    ----------
    a, b : Result, path of a result, or (k, d) array H
        They may have different numbers of components.
    threshold : float
        Least cosine of a pair.

    Returns
    -------
    Comparison
        The pairs, and the components of both that have no partner.

    Raises
    ------
    InputError
        The columns differ in number, or have names and these differ. (Their order may differ.)
    """
    (A, names_a), (B, names_b) = _components(a), _components(b)
    if A.shape[1] != B.shape[1]:
        raise InputError(
            f"the first has {A.shape[1]} columns, the second {B.shape[1]}; only models of the "
            f"same columns can be compared"
        )
    order = order_of(names_a, names_b, "the first", "the second")
    B = B if order is None else B[:, order]
    pairs = [pair for pair in match(A, B) if pair[2] >= threshold]
    pairs.sort(key=lambda pair: (-pair[2], pair[0]))
    alone_a = sorted(set(range(A.shape[0])) - {i for i, _, _ in pairs})
    alone_b = sorted(set(range(B.shape[0])) - {j for _, j, _ in pairs})
    return Comparison(pairs, alone_a, alone_b, threshold)


def _components(model: Any) -> tuple[np.ndarray, Labels | None]:
    if isinstance(model, (str, os.PathLike)):
        from dnmf.results.opening import open_result

        model = open_result(model)
    H = read_given(getattr(model, "H", model), "components")
    if H.ndim != 2 or H.dtype.kind not in "fiu":
        raise InputError(
            f"components have shape {H.shape} and dtype {H.dtype}; give (k, d) numbers"
        )
    return H, model.column_names if hasattr(model, "column_names") else column_labels(model)
