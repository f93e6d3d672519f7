"""Rows and columns of a block that are left out: fitted without them, measured on them.

Left-out rows do not enter the statistics; their W is solved on the columns that are seen.
Left-out columns do not enter W, but the statistics, so that the H-step fits their H.
Where both are left out, the loss is summed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from dnmf.losses.base import HeldOut, LeftOut, Loss
from dnmf.losses.values import Factor

__all__ = ["HeldOutColumns"]


@dataclass(frozen=True)
class HeldOutColumns(HeldOut):
    """The columns that one model leaves out, beside its rows.

    Attributes
    ----------
    loss : Loss
    fold : LeftOut
    columns : (c,) int array
        Numbers of the columns.
    factor : Factor
        H with nothing but these columns.
    score : Factor
        These columns as they are predicted.
    """

    loss: Loss
    fold: LeftOut
    columns: np.ndarray
    factor: Factor
    score: Factor

    @classmethod
    def make(cls, loss: Loss, H: np.ndarray, fold: LeftOut, sparse: bool) -> Self:
        """Return the model from all of H (k, d)."""
        columns, predicted = np.flatnonzero(fold.columns), loss.predicted(H)
        factor = loss.prepare(_only(H, columns), sparse)
        score = factor if predicted is H else loss.prepare(_only(predicted, columns), sparse)
        return cls(loss, fold, columns, factor, score)


def _only(H: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return H with zeros in all other columns."""
    only = np.zeros_like(H)
    only[:, columns] = H[:, columns]
    return only
