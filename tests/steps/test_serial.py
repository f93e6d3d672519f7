"""The serial executor: the contract, and what it alone does."""

from __future__ import annotations

import pytest

from dnmf.errors import MemoryPlanError, ResumableError
from dnmf.steps import retries
from dnmf.steps.serial import Serial
from dnmf.testing.executor_contract import ExecutorContract
from dnmf.testing.works import Failure, TreeWork


class TestSerial(ExecutorContract):
    kind = "serial"

    @pytest.fixture
    def executor(self):
        return Serial()


def test_what_fails_for_good_ends_in_a_resumable_error(tmp_path, monkeypatch):
    monkeypatch.setattr(retries, "PAUSES", (0.0, 0.0, 0.0))
    work = TreeWork(str(tmp_path), 9, failures=(Failure("leaf-4", "transient", 1000),))
    with pytest.raises(ResumableError, match="planned: leaf-4 fails, and again each of 3 times"):
        Serial().run_step(work, lambda segment: None)
    assert work.calls()["leaf-4"] == 4


def test_a_memory_limit_is_one_that_the_plan_is_checked_against():
    import numpy as np

    import dnmf

    with pytest.raises(MemoryPlanError, match="100 MB"):
        dnmf.fit(np.ones((50, 20)), 2, executor=Serial(memory_limit=100_000_000))
