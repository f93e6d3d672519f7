"""Cases that are left to ``-m slow``: more of what one or two of their kind show at any time."""

from __future__ import annotations

from typing import Any

import pytest

__all__ = ["slow"]


def slow(*cases: Any) -> list[Any]:
    """The cases of a parametrization, each marked as slow; a tuple is one set of arguments."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for case in cases
    ]
