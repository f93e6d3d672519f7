"""The objective of a row of W, and the least that SciPy finds."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

__all__ = ["Row", "divergence"]


def divergence(v: np.ndarray, y: np.ndarray, beta: float) -> np.ndarray:
    """scikit-learn's definition, entry by entry"""
    if beta == 0:
        return v / y - np.log(v / y) - 1
    if beta == 1:
        return y - v + np.where(v > 0, v * np.log(np.where(v > 0, v, 1) / y), 0)
    return (v**beta + (beta - 1) * y**beta - beta * v * y ** (beta - 1)) / (beta * (beta - 1))


class Row:
    """The objective of a row in float64, and its gradient."""

    def __init__(self, v: np.ndarray, H: np.ndarray, m: np.ndarray, beta: float, l1: float,
                 l2: float) -> None:  # fmt: skip
        seen = m > 0
        self.v, self.H, self.m = v[seen].astype(float), H[:, seen].astype(float), m[seen]
        self.beta, self.l1, self.l2 = beta, l1, l2

    def __call__(self, w: np.ndarray) -> tuple[float, np.ndarray]:
        y = np.maximum(w @ self.H, 1e-30)
        slope = self.m * y ** (self.beta - 2) * (y - self.v)
        value = self.m @ divergence(self.v, y, self.beta) + self.l1 * w.sum() + self.l2 / 2 * w @ w
        return float(value), slope @ self.H.T + self.l1 + self.l2 * w

    def best(self, start: np.ndarray) -> float:
        """Return the least objective that SciPy finds from here."""
        size = max(abs(self(start)[0]), 1e-9)
        found = minimize(
            lambda w: tuple(x / size for x in self(w)), start, jac=True, method="SLSQP",
            bounds=[(0, None)] * start.size, options={"maxiter": 300, "ftol": 1e-14},
        )  # fmt: skip
        return self(np.maximum(found.x, 0))[0]
