"""A loss entry by entry of a block of which rows and columns are left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy

from dnmf.losses.held_out import HeldOutColumns
from dnmf.losses.nonzeros import tiles
from dnmf.losses.values import Block, Factor, HeldOutStats, SmallStats

__all__ = ["HeldOutEntries"]


class HeldOutEntries(HeldOutColumns):
    """A model whose loss needs only nonzeros of V, and W as it is where a part is measured."""

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
        total, out = HeldOutStats(), self.fold.rows(block.numbers)
        for a, tile in tiles(block.V, self.loss.limits.nonzero_tile):
            b = a + tile.shape[0]
            left_out = self.fold.columns[tile.indices]
            seen, hidden = _entries(tile, ~left_out), _entries(tile, left_out)
            for which, counts in ((~out[a:b], True), (out[a:b], False)):
                chosen = np.flatnonzero(which)
                if not chosen.size:
                    continue
                sums = block.row_sums[:, a:b][:, chosen]
                seen_block = Block(_rows(seen, chosen), block.start + a, sums)
                part = np.ascontiguousarray(W[a:b][chosen])
                into = stats if counts else (_nothing(part), None)
                self.loss.update_block(seen_block, part, factor, into, tau=tau, residual=False)
                W[a + chosen] = part
                if counts:
                    self._fold_in(hidden, chosen, seen_block, part, stats[1])
                    data = seen_block.V.data
                    total.n_rows += chosen.size
                    total.total += float(np.sum(data, dtype=np.float64))
                    total.sumsq += float(np.sum(np.square(data, dtype=np.float64)))
                else:
                    total.add(self._measured(hidden, chosen, seen_block, part))
        return total

    def _fold_in(
        self,
        hidden: scipy.sparse.csr_array,
        chosen: np.ndarray,
        seen_block: Block,
        W: np.ndarray,
        accumulator: Any,
    ) -> None:
        """Add what columns that are left out need of rows that are seen."""
        hidden_block = Block(_rows(hidden, chosen), seen_block.start, seen_block.row_sums)
        self.loss.add_statistics(hidden_block, W, self.factor, (_nothing(W), accumulator))

    def _measured(
        self, hidden: scipy.sparse.csr_array, chosen: np.ndarray, seen_block: Block, W: np.ndarray
    ) -> HeldOutStats:
        """Return the loss of the entries whose row and column are left out."""
        some = W.any(axis=1)  # a row without an entry that is seen says nothing
        chosen, W = chosen[some], W[some]
        if not chosen.size:
            return HeldOutStats()
        hidden_block = Block(_rows(hidden, chosen), seen_block.start, seen_block.row_sums)
        beside = _nothing(W)
        self.loss.add_statistics(hidden_block, W, self.score, (beside, None))
        scale = float(np.sum(hidden_block.V.data, dtype=np.float64))
        return HeldOutStats(max(beside.divergence, 0.0), scale, chosen.size * self.columns.size)


def _nothing(W: np.ndarray) -> SmallStats:
    k = W.shape[1]
    return SmallStats(np.zeros((k, k)), np.zeros(k))


def _entries(tile: scipy.sparse.csr_array, chosen: np.ndarray) -> scipy.sparse.csr_array:
    """Return the rows of ``tile`` with some of the entries."""
    counts = np.concatenate([np.zeros(1, np.int64), np.cumsum(chosen)])
    parts = tile.data[chosen], tile.indices[chosen], counts[tile.indptr].astype(tile.indptr.dtype)
    return scipy.sparse.csr_array(parts, shape=tile.shape, copy=False)


def _rows(tile: scipy.sparse.csr_array, chosen: np.ndarray) -> scipy.sparse.csr_array:
    return tile if chosen.size == tile.shape[0] else scipy.sparse.csr_array(tile[chosen])
