"""Rows of W of some rows of V solved exactly: what every beta-divergence shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dnmf.linalg.jit import offsets, unlocked
from dnmf.linalg.masked import entry_weights
from dnmf.linalg.newton import newton_rows
from dnmf.losses.base import Loss
from dnmf.losses.nonzeros import tiles
from dnmf.losses.values import Factor

__all__ = ["Exactly"]

NO_PLACES = np.zeros(0, np.int32), np.zeros(0, np.int64)
"""Of the entries of a dense block: they are all columns."""


@dataclass(frozen=True)
class Exactly:
    """The Newton steps of a loss at one H.

    Attributes
    ----------
    loss : Loss
        Whose penalties and limits hold.
    factor : Factor
    beta : float
    masked : bool
        What a sparse V does not store is unobserved.
    """

    loss: Loss
    factor: Factor
    beta: float
    masked: bool

    def solve(
        self, V: Any, W: np.ndarray, which: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Solve rows of W (m, k) of V (m, d) in place, by default all.

        Returns
        -------
        of_rows : (m,) float64 array
            Divergences. Rows that are not in ``which`` have 0.
        is_open : (m,) bool array
            Rows that are not solved.
        """
        m = W.shape[0]
        of_rows, is_open = np.zeros(m), np.zeros(m, bool)
        if which is None and (self.beta == 1.0 or self.masked):  # what is not stored is no entry
            for a, tile in tiles(V, self.loss.limits.nonzero_tile):
                span = slice(a, a + tile.shape[0])
                self._some(tile, W[span], np.arange(tile.shape[0]), of_rows[span], is_open[span])
            return of_rows, is_open
        rows = np.arange(m) if which is None else which
        if rows.size:
            self._some(V, W, rows, of_rows, is_open)
        return of_rows, is_open

    def _some(
        self, V: Any, W: np.ndarray, rows: np.ndarray, of_rows: np.ndarray, is_open: np.ndarray
    ) -> None:
        H, Ht, penalties = self.factor.H, self.factor.Ht, self.loss.penalties
        stored, none = self.beta == 1.0 or self.masked, np.zeros(0, V.dtype)
        dense = isinstance(V, np.ndarray)
        if dense:
            csr = unlocked(np.ascontiguousarray(V)).ravel(), *NO_PLACES, none
        else:
            weights = entry_weights(V) if self.masked else none
            places = unlocked(V.indices), offsets(V.indptr)
            csr = unlocked(V.data), *places, unlocked(weights)
        if not stored or Ht is None:
            Ht = np.zeros((0, H.shape[0]), H.dtype)
        G = self.factor.G if self.beta == 2.0 and not self.masked else np.zeros((0, 0))
        sums = np.zeros(0)
        if stored and not self.masked and self.factor.sums is not None:
            sums = self.factor.sums
        of_H = unlocked(np.ascontiguousarray(H)), unlocked(Ht), G, sums, not (dense or stored)
        how = self.beta, penalties.l1_W, penalties.l2_W, self.loss.limits.exact_steps
        newton_rows(*csr, *of_H, rows, W, *how, of_rows, is_open)
