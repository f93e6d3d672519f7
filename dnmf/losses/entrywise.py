"""Common parts of losses whose objective is a sum over entries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnmf.linalg.products import gram, row_residual
from dnmf.losses.base import Loss
from dnmf.losses.values import Block, Factor, Matrix, SmallStats

__all__ = ["Entrywise", "add_block"]


@dataclass(frozen=True)
class Entrywise(Loss):
    """A loss that needs sums of rows of H and of columns of W, beside what its own steps do."""

    def residual_of(self, V: Matrix, row: int, w: np.ndarray, H: np.ndarray) -> np.ndarray:
        return row_residual(V, row, w, H)

    def prepare(self, H: np.ndarray, sparse: bool) -> Factor:
        sums = H.sum(axis=1, dtype=np.float64)
        return Factor(H, None, gram(H.T), sums, self.penalties.of_H(H))


def add_block(
    loss: Loss,
    block: Block,
    W: np.ndarray,
    factor: Factor,
    part: SmallStats,
    of_rows: np.ndarray,
    small: SmallStats,
) -> None:
    """Add a block to the small statistics of its segment, once W is solved.

    Parameters
    ----------
    part : SmallStats
        Statistics of the block: divergence, kkt and sweeps. The rest follows from W.
    of_rows : (m,) float64 array
        What ranks the rows as candidates, e.g. their divergence.
    small : SmallStats
        Statistics of the segment.
    """
    part.WtW = gram(W)
    sums = W.sum(axis=0, dtype=np.float64)
    part.sums, part.total, part.sumsq = sums, float(sums.sum()), float(np.trace(part.WtW))
    part.candidates = loss.worst(block, W, factor, of_rows, small)
    part.residual = small.residual = None
    small.add(part)
