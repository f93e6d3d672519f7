"""dnmf: non-negative matrix factorization for matrices that do not fit in memory."""

from __future__ import annotations

from typing import Any

__version__ = "0.2.0"

_PUBLIC = {
    "NMF": "dnmf.estimator",
    "Result": "dnmf.results.result",
    "Study": "dnmf.study.study",
    "compare": "dnmf.study.matching",
    "convert": "dnmf.conversion.job",
    "fit": "dnmf.api",
    "fit_many": "dnmf.study.fit",
    "open": "dnmf.api",
    "plan": "dnmf.api",
    "plan_many": "dnmf.study.fit",
    "report": "dnmf.reporting.page",
    "resume": "dnmf.api",
    "transform": "dnmf.api",
    "DnmfError": "dnmf.errors",
}

__all__ = [*sorted(_PUBLIC), "__version__"]


def __getattr__(name: str) -> Any:
    """Import public names on first use: ``import dnmf`` itself loads nothing heavy."""
    if name in _PUBLIC:
        from importlib import import_module

        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'dnmf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
