"""Least squares by the multiplicative rules of Lee and Seung (2001), and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dnmf.linalg.products import add_WtV, gram, product_VHt
from dnmf.losses.least_squares import LeastSquares
from dnmf.losses.values import Block, Factor, HStep, SmallStats

__all__ = ["LeeSeung"]


@dataclass(frozen=True)
class LeeSeung(LeastSquares):
    """W <- W (V H') / (W H H'), H <- H (W' V) / (W' W H); penalties join the denominators."""

    def leaves_zero(self, k: int, d: int) -> bool:
        return False

    def update_block(
        self,
        block: Block,
        W: np.ndarray,
        factor: Factor,
        stats: tuple[SmallStats, Any],
        *,
        tau: float,
        residual: bool,
    ) -> None:
        """Solve W; rows of zeros start at equal entries that have the size of the row."""
        small, WtV = stats
        VHt = product_VHt(block.V, factor.H, factor.Ht)
        fresh = ~W.any(axis=1)
        if fresh.any():
            norms = float(np.sqrt(np.trace(factor.G))) or 1.0
            W[fresh] = (np.sqrt(block.row_sums[1][fresh]) / norms)[:, None]
            W[:, np.diag(factor.G) == 0] = 0
        penalties = self.penalties
        below = W @ factor.G.astype(W.dtype) + W.dtype.type(penalties.l1_W)
        below += W.dtype.type(penalties.l2_W) * W
        W *= np.divide(VHt, below, out=np.zeros_like(W), where=below > 0)
        add_WtV(block.V, W, WtV)
        A = gram(W)
        gradient = W @ factor.G.astype(W.dtype) - VHt
        cross = float(np.sum(W.astype(np.float64) * VHt))
        of_rows = block.row_sums[1] + np.sum(W * (gradient - VHt), axis=1, dtype=np.float64)
        sums = np.sum(W, axis=0, dtype=np.float64)
        part = SmallStats(A, sums, cross=cross, sumsq=float(np.trace(A)), sweeps=W.shape[0])
        part.total = float(sums.sum())
        gradient += W.dtype.type(penalties.l1_W) + W.dtype.type(penalties.l2_W) * W
        part.kkt = _kkt(W, gradient, np.diag(factor.G)[None, :] + penalties.l2_W)
        part.residual = self.measured(block, W, factor, small, residual)
        part.candidates = self.worst(block, W, factor, of_rows, small)
        small.add(part)

    def update_H(
        self, wide: np.ndarray, stats: SmallStats, H: np.ndarray, columns: np.ndarray
    ) -> HStep:
        penalties = self.penalties
        old = H.astype(np.float64)
        A = stats.WtW + penalties.l2_H * np.eye(old.shape[0])
        below = A @ old + penalties.l1_H
        new = old * np.divide(wide, below, out=np.zeros_like(old), where=below > 0)
        fixed = self.fixed
        new[:fixed] = old[:fixed]
        new = np.ascontiguousarray(new, H.dtype)
        kkt = _kkt(old[fixed:], (below - wide)[fixed:], np.diag(A)[fixed:, None])
        gain = 0.5 * float(np.sum((below - 2 * wide + A @ new + penalties.l1_H) * (old - new)))
        return HStep(new, kkt, gain, np.sum(wide * old, axis=1))


def _kkt(X: np.ndarray, gradient: np.ndarray, curvature: np.ndarray) -> float:
    """Sum of curvature times the squared projected step."""
    safe = np.where(curvature > 0, curvature, 1.0)
    step = X - np.maximum(0.0, X - gradient / safe)
    return float(np.sum(np.where(curvature > 0, curvature, 0.0) * step * step, dtype=np.float64))
