"""A given H of which few columns have something: rows are solved over those, and V's own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dnmf.fitting.models.factors import normalize
from dnmf.linalg.matrix import Matrix, arrays_of, matrix_of
from dnmf.losses.base import Loss
from dnmf.losses.values import Factor
from dnmf.planning.narrow import FEW, columns_of

__all__ = ["FewColumns"]


@dataclass(frozen=True)
class FewColumns:
    """H in the columns that have something.

    Attributes
    ----------
    loss : Loss
    d : int
        Columns of V.
    columns : (c,) int64 array
        Rising.
    factor : Factor
        Of these columns.
    scale : (k,) float64 array
        Norms by which rows of H were divided.
    """

    loss: Loss
    d: int
    columns: np.ndarray
    factor: Factor
    scale: np.ndarray

    @classmethod
    def make(cls, loss: Loss, H: np.ndarray) -> FewColumns | None:
        """Return H in its columns that have something, or None where they are not few."""
        columns = columns_of(H)
        if not 0 < FEW * columns.size <= H.shape[1]:
            return None
        some = H[:, columns]
        scale = normalize(some) if loss.gauge_free else np.ones(H.shape[0])
        return cls(loss, H.shape[1], columns, loss.prepare(some, True), scale)

    def of(self, V: Matrix) -> tuple[Any, np.ndarray, Factor] | None:
        """Return a block over these columns and its own; None where those are not few.

        Returns
        -------
        V : (m, c) CSR array or WeightedCSR
        columns : (c,) int64 array
            The columns that it has.
        factor : Factor
            Of them.
        """
        if isinstance(V, np.ndarray):
            return None
        columns, factor = np.union1d(self.columns, _used(V, self.d)), self.factor
        if FEW * columns.size > self.d:
            return None
        if columns.size > self.columns.size:  # V has entries where H is 0
            H = np.zeros((len(factor.H), columns.size), factor.H.dtype)
            H[:, np.searchsorted(columns, self.columns)] = factor.H
            wide = self.loss.prepare(H, True)
            # the other sums are to be those of every block, to the bit
            factor = replace(wide, G=factor.G, sums=factor.sums, penalty=factor.penalty)
        data, indices, *more = arrays_of(V)
        places = np.searchsorted(columns, indices).astype(indices.dtype)
        return matrix_of((data, places, *more), columns.size), columns, factor


def _used(V: Any, d: int) -> np.ndarray:
    """Return the columns of a sparse matrix that have entries, rising."""
    if FEW * V.indices.size <= d:
        return np.unique(V.indices)
    found = np.zeros(d, bool)
    found[V.indices] = True
    return np.flatnonzero(found)
