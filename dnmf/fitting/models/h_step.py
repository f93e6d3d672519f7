"""The H-step of a slab, taken apart into columns that several threads may work on."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from dnmf.losses.base import Loss
from dnmf.losses.values import HStep, SmallStats
from dnmf.steps.work import Each

__all__ = ["parts_of", "update_H"]


def parts_of(k: int, width: int, part_bytes: int) -> list[int]:
    """Cut the columns of a slab into parts: where they begin, and the end of the slab."""
    step = max(1, part_bytes // (8 * k))
    return [*range(0, width, step), width]


def update_H(
    loss: Loss,
    wide: np.ndarray,
    stats: SmallStats,
    H: np.ndarray,
    columns: np.ndarray,
    each: Each,
    part_bytes: int,
) -> HStep:
    """Do `Loss.update_H` part by part: columns are independent, and sums are added in order.

    Parameters
    ----------
    loss, wide, stats, H, columns
        Arguments of `Loss.update_H`.
    each : callable
        Where the parts run; no bit depends on it.
    part_bytes : int
        Bytes of H, float64, in one part.
    """
    spans = list(pairwise(parts_of(H.shape[0], H.shape[1], part_bytes)))
    if len(spans) == 1:
        return loss.update_H(wide, stats, H, columns)

    def part(span: tuple[int, int]) -> HStep:
        these = slice(*span)
        return loss.update_H(wide[:, these], stats, H[:, these], columns[:, these])

    return _joined(list(each(part, spans)))


def _joined(parts: list[HStep]) -> HStep:
    extrapolated = [part.extrapolated for part in parts if part.extrapolated is not None]
    return HStep(
        _beside(part.H for part in parts),
        sum(part.kkt for part in parts),
        sum(part.gain for part in parts),
        np.sum([part.share for part in parts], axis=0),
        _beside(extrapolated) if len(extrapolated) == len(parts) else None,
        sum(part.extrapolated_gain for part in parts),
        sum(part.open_columns for part in parts),
    )


def _beside(arrays: Iterable[Any]) -> np.ndarray:
    return np.concatenate(list(arrays), axis=1)
