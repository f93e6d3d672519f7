"""The H-step of a slab, taken apart into columns that several threads may work on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, Protocol, TypeVar

import numpy as np

from dnmf.config import MIB
from dnmf.losses.base import Loss
from dnmf.losses.values import HStep, SmallStats

__all__ = ["Each", "parts_of", "update_H"]

Item = TypeVar("Item")
Value = TypeVar("Value")

PART = MIB
"""Bytes of H, float64, in one part: enough that a thread is worth its call, and within a cache."""


class Each(Protocol):
    """``map``, or one whose calls run side by side; results come in order."""

    def __call__(
        self, call: Callable[[Item], Value], items: Sequence[Item], /
    ) -> Iterable[Value]: ...


def parts_of(k: int, width: int) -> list[int]:
    """Where parts of the columns of a slab begin, and its end: a function of its size alone."""
    step = max(1, PART // (8 * k))
    return [*range(0, width, step), width]


def update_H(
    loss: Loss,
    wide: np.ndarray,
    stats: SmallStats,
    H: np.ndarray,
    columns: np.ndarray,
    each: Each,
) -> HStep:
    """`Loss.update_H` part by part: columns are independent, and sums are added in order.

    Parameters
    ----------
    loss, wide, stats, H, columns
        As there.
    each : callable
        Where the parts run; no bit depends on it.
    """
    spans = list(pairwise(parts_of(*H.shape)))
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
    )


def _beside(arrays: Iterable[Any]) -> np.ndarray:
    return np.concatenate(list(arrays), axis=1)
