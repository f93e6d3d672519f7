"""Least squares by the multiplicative rules of Lee and Seung (2001), and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np

from dnmf.linalg.products import add_WtV, gram, product_VHt, residual_sumsq
from dnmf.losses.base import Factor, HStep, Matrix, SmallStats, worst_row
from dnmf.losses.frobenius import Frobenius

__all__ = ["LeeSeung"]


class LeeSeung(Frobenius):
    """W <- W (V H') / (W H H'), H <- H (W' V) / (W' W H); penalties join the denominators."""

    extrapolates = False

    def update_block(
        self,
        V: Matrix,
        start: int,
        W: np.ndarray,
        factor: Factor,
        rows: np.ndarray,
        stats: tuple[SmallStats, Any],
        *,
        tau: float,
        residual: bool,
    ) -> None:
        """See `Loss.update_block`; rows of zeros start from V H' in proportion to row sums."""
        small, WtV = stats
        VHt = product_VHt(V, factor.H, factor.Ht)
        fresh = ~W.any(axis=1)
        if fresh.any():
            norms = float(np.sqrt(np.trace(factor.G))) or 1.0
            W[fresh] = (np.sqrt(rows[1][fresh]) / norms)[:, None]
            W[:, np.diag(factor.G) == 0] = 0
        penalties = self.penalties
        below = W @ factor.G.astype(W.dtype) + W.dtype.type(penalties.l1_W)
        below += W.dtype.type(penalties.l2_W) * W
        W *= np.divide(VHt, below, out=np.zeros_like(W), where=below > 0)
        add_WtV(V, W, WtV)
        A = gram(W)
        gradient = W @ factor.G.astype(W.dtype) - VHt
        cross = float(np.sum(W.astype(np.float64) * VHt))
        of_rows = rows[1] + np.sum(W * (gradient - VHt), axis=1, dtype=np.float64)
        sums = np.sum(W, axis=0, dtype=np.float64)
        part = SmallStats(A, sums, cross=cross, sumsq=float(np.trace(A)), sweeps=W.shape[0])
        part.total = float(sums.sum())
        gradient += W.dtype.type(penalties.l1_W) + W.dtype.type(penalties.l2_W) * W
        part.kkt = _kkt(W, gradient, np.diag(factor.G)[None, :] + penalties.l2_W)
        small.residual = small.residual or 0.0 if residual else None
        if residual:
            part.residual = residual_sumsq(V, W, factor.H, factor.Ht, factor.G)
        part.candidates = worst_row(self.residual_of, V, start, W, factor.H, of_rows, small)
        small.add(part)

    def update_H(
        self, wide: np.ndarray, stats: SmallStats, H: np.ndarray, columns: np.ndarray
    ) -> HStep:
        """See `Loss.update_H`."""
        penalties = self.penalties
        old = H.astype(np.float64)
        A = stats.WtW + penalties.l2_H * np.eye(old.shape[0])
        below = A @ old + penalties.l1_H
        new = old * np.divide(wide, below, out=np.zeros_like(old), where=below > 0)
        held = self.fixed
        new[:held] = old[:held]
        new = np.ascontiguousarray(new, H.dtype)
        kkt = _kkt(old[held:], (below - wide)[held:], np.diag(A)[held:, None])
        gain = 0.5 * float(np.sum((below - 2 * wide + A @ new + penalties.l1_H) * (old - new)))
        return HStep(new, kkt, gain, np.sum(wide * old, axis=1))


def _kkt(X: np.ndarray, gradient: np.ndarray, curvature: np.ndarray) -> float:
    """Sum of curvature times the squared projected step."""
    safe = np.where(curvature > 0, curvature, 1.0)
    step = X - np.maximum(0.0, X - gradient / safe)
    return float(np.sum(np.where(curvature > 0, curvature, 0.0) * step * step, dtype=np.float64))
