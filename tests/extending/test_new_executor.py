"""What CONTRIBUTING.md prints for those who add something: run from there, under the contracts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from extending_tools import printed_module, register

import dnmf
from dnmf.executors import EXECUTORS
from dnmf.names import load
from dnmf.steps.serial import Serial

Pool = printed_module("dnmf/executors/pool.py").Pool
TestPool = printed_module("tests/executors/test_pool.py").TestPool


@pytest.mark.parametrize("sparse", [False, True])
def test_a_fit_on_the_printed_executor_has_the_bits_of_the_reference(sparse: bool) -> None:
    executor = Pool(4)
    V = sp.random_array((300, 40), density=0.3, rng=0, format="csr", dtype=np.float32)
    options: dict[str, Any] = {"k": 3, "seed": 1, "segments": 10, "block_size": 20 * 64 * 4}
    options |= {"max_passes": 4, "tol": 0}
    given = V if sparse else V.toarray()
    mine, reference = (dnmf.fit(given, executor=one, **options) for one in (executor, Serial()))
    assert reference.details["layout"]["segments"] == 10
    np.testing.assert_array_equal(mine.W, reference.W)
    np.testing.assert_array_equal(mine.H, reference.H)


def test_its_line_in_the_registry_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(register(EXECUTORS, "pool", monkeypatch)) is Pool
