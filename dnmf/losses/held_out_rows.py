"""Least squares of a block of which rows and columns are left out: every row for itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from dnmf.linalg.hals import cold_start
from dnmf.linalg.products import add_WtV, product_VHt
from dnmf.losses.held_out import HeldOutColumns
from dnmf.losses.least_squares import LeastSquares, ridged, small_stats
from dnmf.losses.values import Block, Factor, HeldOutStats, Matrix, SmallStats

__all__ = ["HeldOutRows"]


class HeldOutRows(HeldOutColumns):
    """A model by least squares; of several ones V H' and W' V may be computed at once."""

    loss: LeastSquares

    def update(
        self,
        block: Block,
        W: np.ndarray,
        factor: Factor,
        stats: tuple[SmallStats, Any],
        *,
        tau: float,
        residual: bool,
    ) -> HeldOutStats:
        small, WtV = stats
        VHt = product_VHt(block.V, factor.H, factor.Ht)
        counted, found = self.update_rows(block, W, VHt, factor, small, tau=tau, residual=residual)
        add_WtV(block.V, counted, WtV)
        return found

    def update_rows(
        self,
        block: Block,
        W: np.ndarray,
        VHt: np.ndarray,
        factor: Factor,
        small: SmallStats,
        *,
        tau: float,
        residual: bool,
    ) -> tuple[np.ndarray, HeldOutStats]:
        assert block.numbers is not None
        loss, rows = self.loss, block.row_sums
        l1, G = loss.penalties.l1_W, ridged(factor.G, loss.penalties.l2_W)
        if not W.any():
            W[:] = cold_start(VHt - W.dtype.type(l1) if l1 else VHt, G)
        hidden = block.V[:, self.columns]
        hidden_sums, hidden_sumsq = _sums_of_rows(hidden)
        sumsq = np.maximum(rows[1] - hidden_sumsq, 0)
        out = self.fold.rows(block.numbers)
        seen, unseen = np.flatnonzero(~out), np.flatnonzero(out)
        solved = []
        for which in (seen, unseen):
            some = W[which]
            solved.append(loss.solved_rows(some, VHt[which], G, sumsq[which], tau))
            W[which] = some
        counted = W.copy()
        counted[unseen] = 0
        part = small_stats(counted, solved[0])
        both = hidden[unseen] if isinstance(hidden, np.ndarray) else hidden[unseen].toarray()
        del hidden
        error, scale = loss.measure(both, W[unseen] @ self.factor.H[:, self.columns])
        totals = rows[0] - hidden_sums
        here = HeldOutStats(error, scale, both.size, float(totals[seen].sum()))
        here.n_rows, here.sumsq = seen.size, float(sumsq[seen].sum())
        everything = loss.measured(block, counted, factor, small, residual)
        if everything is not None:  # what is not fitted counts as if by zero: it is taken off
            part.residual = max(everything - (float(rows[1].sum()) - here.sumsq), 0.0)
        of_rows = np.full(W.shape[0], -np.inf)
        of_rows[seen] = solved[0].residual_sumsq
        if seen.size:
            part.candidates = loss.worst(block, W, factor, of_rows, small)
        small.add(part)
        return counted, here


def _sums_of_rows(V: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Sum rows and their squares in float64, without a float64 copy of a dense block."""
    if isinstance(V, np.ndarray):
        squares = np.einsum("ij,ij->i", V, V, dtype=np.float64)
        return np.asarray(np.sum(V, axis=1, dtype=np.float64)), squares
    rows, values = np.repeat(np.arange(V.shape[0]), np.diff(V.indptr)), V.data.astype(np.float64)
    sums = np.bincount(rows, values, V.shape[0])
    return sums, np.bincount(rows, values * values, V.shape[0])
