"""Kullback-Leibler by the multiplicative rules of Lee and Seung (2001), and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy

from dnmf.linalg.kl_mu import kl_mu
from dnmf.linalg.tiles import padded_zeros, vectors_of
from dnmf.losses.kullback_leibler import KullbackLeibler
from dnmf.losses.values import Block, Factor, SmallStats, Solution

__all__ = ["LeeSeungKL"]


class FusedSums(NamedTuple):
    """S of k components by columns, (d, kp), whose rows are `padded`."""

    S: np.ndarray
    k: int


@dataclass(frozen=True)
class LeeSeungKL(KullbackLeibler):
    """Kullback-Leibler by one multiplicative step of W per pass, and one of H."""

    leaves_out = None

    def empty(self, k: int, d: int, dtype: np.dtype, sparse: bool) -> tuple[SmallStats, Any]:
        return SmallStats(np.zeros((k, k)), np.zeros(k)), FusedSums(padded_zeros(d, k, dtype), k)

    def statistic_rows(self, k: int, d: int) -> int:
        return k

    def _working_bytes(self, k: int, d: int, tile: int, longest: int, item: int) -> int:
        """Count three numbers for each of a row's entries."""
        return longest * (2 * item + 8)

    def _rows(
        self,
        tile: scipy.sparse.csr_array,
        W: np.ndarray,
        factor: Factor,
        h_sums: np.ndarray,
        total: Any,
        of_rows: np.ndarray,
        steps: int,
        tau: float,
    ) -> tuple[int, float, float]:
        csr = tile.data, tile.indices, tile.indptr
        given = W, factor.Ht, h_sums, self.penalties.l2_W, factor.H.shape[0], steps > 0
        kkt, fitted = kl_mu(*csr, *given, total.S, of_rows, vectors_of(W.shape[1]))
        return tile.shape[0], kkt, fitted

    def slabs(self, accumulator: Any, slab_starts: Sequence[int]) -> list[np.ndarray]:
        return super().slabs(accumulator.S[:, : accumulator.k], slab_starts)

    def solve(self, block: Block, factor: Factor) -> Solution:
        """Solve W by Newton steps: the multiplicative rules would take thousands."""
        return KullbackLeibler(self.penalties, limits=self.limits).solve(block, factor)
