"""Single entries of a block that are left out: fitted to the others, measured on them.

By the losses that know unobserved entries, which take every observed entry one by one: dear next
to leaving out whole rows and columns, but the question is alike for data of any loss and shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import scipy

from dnmf.linalg.matrix import csr_structure
from dnmf.losses.base import HeldOut, LeftOut, Loss
from dnmf.losses.values import Block, Factor, HeldOutStats, SmallStats

__all__ = ["Speckled"]


@dataclass(frozen=True)
class Speckled(HeldOut):
    """A model that leaves out single entries.

    Attributes
    ----------
    loss : Loss
        One that knows unobserved entries.
    fold : LeftOut
    Ht : (d, k) array
        H' as it predicts.
    """

    loss: Loss
    fold: LeftOut
    Ht: np.ndarray

    @classmethod
    def make(cls, loss: Loss, H: np.ndarray, fold: LeftOut) -> Self:
        """Return the model from H (k, d)."""
        return cls(loss, fold, np.ascontiguousarray(loss.predicted(H).T))

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
        assert block.numbers is not None
        total, V = HeldOutStats(), block.V
        m, d = V.shape
        height = max(1, self.loss.limits.speckled_tile // d)
        for a in range(0, m, height):
            b = min(a + height, m)
            tile = V[a:b] if isinstance(V, np.ndarray) else V[a:b].toarray()
            left = self.fold.entries(block.numbers[a:b])
            part = np.ascontiguousarray(W[a:b])
            data = _observed(tile, ~left)
            seen = Block(data, block.start + a, block.row_sums[:, a:b])
            self.loss.update_block(seen, part, factor, stats, tau=tau, residual=False)
            W[a:b] = part
            i, columns = np.nonzero(left)
            fitted = np.einsum("ij,ij->i", part[i], self.Ht[columns], dtype=np.float64)
            error, scale = self.loss.measure(tile[i, columns], fitted)
            values = data.data.astype(np.float64)
            sums = float(values.sum()), float(values @ values)
            total.add(HeldOutStats(error, scale, i.size, *sums, b - a))
        return total


def _observed(tile: np.ndarray, seen: np.ndarray) -> scipy.sparse.csr_array:
    """Return some entries of a dense tile as CSR, zeros among them too."""
    return scipy.sparse.csr_array((tile[seen], *csr_structure(seen)), shape=tile.shape, copy=False)
