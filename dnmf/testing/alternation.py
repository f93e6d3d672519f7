"""A loss driven over one matrix as passes do: W block by block at a fixed H, then H by slabs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dnmf.linalg.measure import measure
from dnmf.losses.base import Loss
from dnmf.losses.values import Block, Factor, HStep, Matrix, SmallStats

__all__ = ["Alternation", "Turn"]


@dataclass
class Turn:
    """The results of one W-step and one H-step."""

    W: np.ndarray
    factor: Factor
    stats: SmallStats
    wide: np.ndarray
    objective: float
    steps: list[HStep]

    @property
    def H(self) -> np.ndarray:
        """The new H (k, d)."""
        return np.concatenate([step.H for step in self.steps], axis=1)

    @property
    def extrapolated(self) -> np.ndarray | None:
        """The extrapolated H (k, d), if the loss has one."""
        parts = [step.extrapolated for step in self.steps if step.extrapolated is not None]
        return np.concatenate(parts, axis=1) if len(parts) == len(self.steps) else None

    @property
    def gain(self) -> float:
        return sum(step.gain for step in self.steps)

    @property
    def kkt_H(self) -> float:
        return sum(step.kkt for step in self.steps)


class Alternation:
    """Drives a loss over one matrix as passes do.

    Parameters
    ----------
    loss : Loss
    V : (n, d) array or CSR array
    cuts : sequence of int
        First row of every block, then n.
    slabs : sequence of int
        First column of every slab, then d.
    """

    def __init__(
        self, loss: Loss, V: Matrix, cuts: Sequence[int] = (), slabs: Sequence[int] = ()
    ) -> None:
        self.loss, self.V = loss, V
        self.cuts = list(cuts) or [0, V.shape[0]]
        self.slab_starts = list(slabs) or [0, V.shape[1]]
        self.column_sums = np.zeros((2, V.shape[1]))
        found = measure(V, self.column_sums[0], self.column_sums[1])
        self.row_sums = np.stack([found.row_sums, found.row_sumsq])
        self.sumsq = float(found.row_sumsq.sum())

    def turn(
        self,
        W: np.ndarray,
        H: np.ndarray,
        *,
        tau: float = 1e-2,
        residual: bool = False,
        segments: int = 1,
    ) -> Turn:
        """Solve W from the start given (which stays), then H; blocks spread over segments."""
        loss, V, W = self.loss, self.V, W.copy()
        sparse, dtype = not isinstance(V, np.ndarray), H.dtype
        factor = loss.prepare(H, sparse)
        k, d = H.shape
        parts = [loss.empty(k, d, dtype, sparse) for _ in range(segments)]
        blocks = list(pairwise(self.cuts))
        for number, (a, b) in enumerate(blocks):
            stats = parts[number * segments // len(blocks)]
            block = Block(V[a:b], a, self.row_sums[:, a:b])
            loss.update_block(block, W[a:b], factor, stats, tau=tau, residual=residual)
        small = parts[0][0]
        for other, _ in parts[1:]:
            small.add(other)
        slabs = [loss.slabs(accumulator, self.slab_starts) for _, accumulator in parts]
        wide = [sum(of_segments[1:], of_segments[0]) for of_segments in zip(*slabs, strict=True)]
        steps = [
            loss.update_H(
                slab, small, np.ascontiguousarray(factor.H[:, a:b]), self.column_sums[:, a:b]
            )
            for slab, (a, b) in zip(wide, pairwise(self.slab_starts), strict=True)
        ]
        objective = loss.objective(small, self.sumsq, factor)
        return Turn(W, factor, small, np.concatenate(wide, axis=1), objective, steps)
