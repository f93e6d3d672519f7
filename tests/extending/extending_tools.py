"""What CONTRIBUTING.md prints for those who add something, as code that tests run."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def printed(path: str) -> str:
    """Give the block of code whose first line is ``# path``."""
    (code,) = re.findall(rf"^```python\n(# {re.escape(path)}\n.*?)^```", PAGE, re.M | re.S)
    return str(code)


def printed_module(path: str) -> Any:
    """Import the block of code whose first line is ``# path``, as if that file were there."""
    made = ModuleType(path.removesuffix(".py").replace("/", "."))
    sys.modules[made.__name__] = made  # of printed code alone: nothing else has these names
    exec(compile(printed(path), f"CONTRIBUTING.md: {path}", "exec"), vars(made))
    return made


def register(registry: dict[Any, str], kind: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Add the one entry that the page prints for a kind to its registry; gives what it names."""
    line = rf'(?:"{kind}"|\("{kind}"[^)]*\)): "dnmf\.[\w.]+:\w+"'
    (code,) = re.findall(line, PAGE)
    ((key, target),) = ast.literal_eval(f"{{{code}}}").items()
    assert key not in registry
    monkeypatch.setitem(registry, key, target)
    return str(target)
