"""What the tests of the command line share."""

from __future__ import annotations

import sys

import numpy as np

__all__ = ["command", "planted"]


def planted(rows: int, columns: int, k: int = 4, seed: int = 0) -> np.ndarray:
    """A product of non-negative factors plus a little noise, float32."""
    generator = np.random.default_rng(seed)
    W, H = generator.random((rows, k)) ** 3, generator.random((k, columns)) ** 3
    return (W @ H + 0.01 * generator.random((rows, columns))).astype("float32")


def command(*arguments: object) -> list[str]:
    """The program as a list for ``subprocess``."""
    return [sys.executable, "-m", "dnmf", *(str(part) for part in arguments)]
