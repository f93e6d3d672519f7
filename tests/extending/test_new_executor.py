"""What CONTRIBUTING.md prints for those who add something: run from there, under the contracts."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import dnmf
from dnmf.executors import EXECUTORS
from dnmf.steps.serial import Serial

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()


def printed_module(path: str) -> ModuleType:
    """Import the block of code whose first line is ``# path``, as if that file were there."""
    (code,) = re.findall(rf"^```python\n(# {re.escape(path)}\n.*?)^```", PAGE, re.M | re.S)
    made = ModuleType(path.removesuffix(".py").replace("/", "."))
    sys.modules[made.__name__] = made
    exec(compile(code, f"CONTRIBUTING.md: {path}", "exec"), made.__dict__)
    return made


def registered(registry: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Add the line that the page prints for a registry, and return the class that it names."""
    ((kind, target),) = re.findall(rf'`"(\w+)": "(dnmf\.{folder}\.\w+:\w+)"`', PAGE)
    assert kind not in registry
    monkeypatch.setitem(registry, kind, target)
    module, _, name = registry[kind].partition(":")
    return getattr(import_module(module), name)


printed_module("dnmf/executors/pool.py")
TestPool = printed_module("tests/executors/test_pool.py").TestPool


@pytest.mark.parametrize("sparse", [False, True])
def test_a_fit_on_the_printed_executor_has_the_bits_of_the_reference(
    sparse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = registered(EXECUTORS, "executors", monkeypatch)(4)
    V = sp.random_array((300, 40), density=0.3, rng=0, format="csr", dtype=np.float32)
    options: dict[str, Any] = {"k": 3, "seed": 1, "segments": 10, "block_size": 20 * 64 * 4}
    options |= {"max_passes": 4, "tol": 0}
    given = V if sparse else V.toarray()
    mine, reference = (dnmf.fit(given, executor=one, **options) for one in (executor, Serial()))
    assert reference.details["layout"]["segments"] == 10
    np.testing.assert_array_equal(mine.W, reference.W)
    np.testing.assert_array_equal(mine.H, reference.H)
