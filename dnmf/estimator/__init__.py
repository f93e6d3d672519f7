"""scikit-learn's interface to dnmf. No mathematics here."""

from __future__ import annotations

from dnmf.estimator.nmf import NMF

__all__ = ["NMF"]
