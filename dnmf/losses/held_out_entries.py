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
            hidden = self.fold.columns[tile.indices]
            visible, dark = _entries(tile, ~hidden), _entries(tile, hidden)
            for which, counts in ((~out[a:b], True), (out[a:b], False)):
                places = np.flatnonzero(which)
                if not places.size:
                    continue
                sums = block.row_sums[:, a:b][:, places]
                light = Block(_rows(visible, places), block.start + a, sums)
                part = np.ascontiguousarray(W[a:b][places])
                into = stats if counts else (_nothing(part), None)
                self.loss.update_block(light, part, factor, into, tau=tau, residual=False)
                W[a + places] = part
                if counts:
                    self._fold_in(dark, places, light, part, stats[1])
                    data = light.V.data
                    total.rows += places.size
                    total.total += float(np.sum(data, dtype=np.float64))
                    total.sumsq += float(np.sum(np.square(data, dtype=np.float64)))
                else:
                    total.add(self._measured(dark, places, light, part))
        return total

    def _fold_in(
        self,
        dark: scipy.sparse.csr_array,
        places: np.ndarray,
        light: Block,
        W: np.ndarray,
        accumulator: Any,
    ) -> None:
        """Add what columns that are left out need of rows that are seen."""
        cut = Block(_rows(dark, places), light.start, light.row_sums)
        self.loss.add_statistics(cut, W, self.factor, (_nothing(W), accumulator))

    def _measured(
        self, dark: scipy.sparse.csr_array, places: np.ndarray, light: Block, W: np.ndarray
    ) -> HeldOutStats:
        """The loss where rows and columns are left out."""
        some = W.any(axis=1)  # a row without a visible entry says nothing
        places, W = places[some], W[some]
        if not places.size:
            return HeldOutStats()
        cut = Block(_rows(dark, places), light.start, light.row_sums)
        beside = _nothing(W)
        self.loss.add_statistics(cut, W, self.score, (beside, None))
        scale = float(np.sum(cut.V.data, dtype=np.float64))
        return HeldOutStats(max(beside.divergence, 0.0), scale, places.size * self.places.size)


def _nothing(W: np.ndarray) -> SmallStats:
    k = W.shape[1]
    return SmallStats(np.zeros((k, k)), np.zeros(k))


def _entries(tile: scipy.sparse.csr_array, keep: np.ndarray) -> scipy.sparse.csr_array:
    """The rows of ``tile`` with some of the entries."""
    counts = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep)])
    parts = tile.data[keep], tile.indices[keep], counts[tile.indptr].astype(tile.indptr.dtype)
    return scipy.sparse.csr_array(parts, shape=tile.shape, copy=False)


def _rows(tile: scipy.sparse.csr_array, places: np.ndarray) -> scipy.sparse.csr_array:
    return tile if places.size == tile.shape[0] else scipy.sparse.csr_array(tile[places])
