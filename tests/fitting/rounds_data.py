"""Data on which alternation is slow: spectra that overlap, on a background."""

from __future__ import annotations

import numpy as np


def spectra(dtype: str, n: int = 300, d: int = 100, k: int = 8) -> np.ndarray:
    """Mixtures of k wide peaks on a flat background, with noise of 1%."""
    rng = np.random.default_rng(3)
    centres = np.linspace(20, d - 20, k)
    H = np.exp(-0.5 * ((np.arange(d) - centres[:, None]) / 14) ** 2) + 0.3
    V = rng.gamma(1.0, size=(n, k)) @ H
    return (V * (1 + 0.01 * rng.normal(size=V.shape))).clip(0).astype(dtype)
