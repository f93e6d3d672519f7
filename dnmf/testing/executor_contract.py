"""Tests of what every executor must do: inherit a class and say how to make the executor.

Example::

    class TestMyExecutor(ExecutorContract):
        kind = "mine"

        @pytest.fixture
        def executor(self):
            with my_machines() as machines:
                yield MyExecutor(machines)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import dnmf
from dnmf.fitting.models.h_step import parts_of
from dnmf.planning.limits import Limits
from dnmf.steps.by_value import by_value
from dnmf.steps.serial import Serial
from dnmf.steps.work import Executor, Needs
from dnmf.testing.problems import planted_poisson
from dnmf.testing.works import ERRORS, Failure, SumWork, TreeWork

__all__ = ["ExecutorContract"]

DECISIONS = ("pass", "accepted", "objective", "relative_error", "kkt_W", "kkt_H", "extrapolation")


def _pid() -> int:
    import os

    return os.getpid()


def _fails(text: str) -> None:
    raise ValueError(text)


class ExecutorContract:
    """Tests of an executor; a subclass gives ``kind`` and the fixture ``executor``.

    Attributes
    ----------
    kind : str
        Name in the registry.
    """

    kind: ClassVar[str]

    @pytest.fixture
    def executor(self) -> Any:
        """Make the executor to test."""
        raise NotImplementedError("override the fixture: it makes the executor")

    @pytest.mark.parametrize(
        ("segments", "fan_in", "parts"),
        [(1, 2, 1), (2, 2, 2), (3, 4, 1), (9, 3, 2), (25, 3, 3), (24, 64, 1)],
    )
    def test_leaves_run_once_and_the_tree_is_fixed(
        self, executor: Executor, tmp_path: Path, segments: int, fan_in: int, parts: int
    ) -> None:
        work = TreeWork(str(tmp_path), segments, parts, fan_in)
        told: list[int] = []
        outcome = executor.run_step(work, told.append)
        assert outcome.results == work.expected()  # finish had the whole tree and part 0's
        assert outcome.retries == 0
        assert sorted(told) == list(range(segments))
        calls = work.calls()
        assert [calls[f"leaf-{segment}"] for segment in range(segments)] == [1] * segments
        assert [calls[f"finish-{part}"] for part in range(parts)] == [1] * parts

    def test_sums_are_added_in_the_order_of_the_tree(self, executor: Executor) -> None:
        work = SumWork(25)
        assert executor.run_step(work, lambda segment: None).results == work.expected()

    def test_failures_that_pass_are_retried_and_counted(
        self, executor: Executor, tmp_path: Path
    ) -> None:
        failures = (Failure("leaf-3", "transient", 2), Failure("finish-1", "transient"))
        work = TreeWork(str(tmp_path), 9, 2, failures=failures)
        told: list[int] = []
        outcome = executor.run_step(work, told.append)
        assert outcome.results == work.expected()
        assert outcome.retries == 3
        assert sorted(told) == list(range(9))
        calls = work.calls()
        assert [calls[f"leaf-{segment}"] for segment in range(9)] == [1, 1, 1, 3, 1, 1, 1, 1, 1]
        assert [calls[f"finish-{part}"] for part in range(2)] == [1, 2]

    @pytest.mark.parametrize("error", [name for name in ERRORS if name != "transient"])
    @pytest.mark.parametrize("call", ["leaf-5", "combine-1", "finish-0"])
    def test_other_errors_are_raised_as_they_are(
        self, executor: Executor, tmp_path: Path, call: str, error: str
    ) -> None:
        work = TreeWork(str(tmp_path), 9, 2, failures=(Failure(call, error),))
        with pytest.raises(ERRORS[error], match=f"^planned: {call} fails$") as caught:
            executor.run_step(work, lambda segment: None)
        assert caught.type is ERRORS[error]
        assert max(work.calls()[f"leaf-{segment}"] for segment in range(9)) == 1
        (tmp_path / "again").mkdir()
        again = TreeWork(str(tmp_path / "again"), 9, 2)
        assert executor.run_step(again, lambda segment: None).results == again.expected()

    def test_it_says_what_there_is(self, executor: Executor) -> None:
        needs = Needs(lambda threads: threads << 20, tasks=3)
        for resources in (executor.resources(), executor.resources(needs)):
            assert resources.workers >= 1
            assert resources.threads >= 1
            assert resources.memory_limit is None or resources.memory_limit > 0
            assert resources.description
        assert executor.room(needs) >= 0

    def test_a_function_runs_in_every_other_process(self, executor: Executor) -> None:
        """Its results come back, and its exceptions, too."""
        pids = executor.everywhere(by_value(_pid), scheduler=True)
        pids.pop("scheduler", None)  # which may be in this process
        assert bool(pids) is not executor.in_process
        assert os.getpid() not in pids.values()
        raised = executor.everywhere(_fails, "planned")
        assert set(raised) == set(pids)
        assert {repr(error) for error in raised.values()} <= {"ValueError('planned')"}

    def test_a_fit_has_the_bits_of_the_reference(self, executor: Executor, tmp_path: Path) -> None:
        np.save(tmp_path / "V.npy", planted_poisson(500, 40, 4).V)
        options: dict[str, Any] = {"k": 4, "seed": 1, "tol": 0, "max_passes": 3, "fan_in": 3}
        options |= {"block_size": 20 * 64 * 4, "slab_size": 8 * 4 * 25, "sample_bytes": 1 << 14}
        options["n_init"] = 2
        mine, reference = (
            dnmf.fit(tmp_path / "V.npy", out=tmp_path / name, executor=runner, **options)
            for name, runner in (("mine", executor), ("reference", Serial()))
        )
        layout = reference.details["layout"]
        assert (layout["segments"], layout["slabs"]) == (25, 2)
        assert np.array_equal(mine.W[:], reference.W[:])
        assert np.array_equal(mine.H[:], reference.H[:])
        assert len(mine.history) == len(reference.history) > 0
        for ours, theirs in zip(mine.history, reference.history, strict=True):
            assert {key: ours[key] for key in DECISIONS} == {key: theirs[key] for key in DECISIONS}

    def test_an_h_step_in_parts_has_the_bits_of_the_reference(
        self, executor: Executor, tmp_path: Path
    ) -> None:
        """V is so wide that its slab is taken apart, and the parts run anywhere."""
        k, d = 4, 80_000
        assert len(parts_of(k, d, Limits().h_part_bytes)) == 4
        V = np.random.default_rng(0).gamma(0.3, size=(30, d)).astype(np.float32)
        np.save(tmp_path / "V.npy", V)
        options: dict[str, Any] = {"k": k, "seed": 1, "tol": 0, "max_passes": 2, "sample": 0}
        mine, reference = (
            dnmf.fit(tmp_path / "V.npy", out=tmp_path / name, executor=runner, **options)
            for name, runner in (("mine", executor), ("reference", Serial()))
        )
        assert reference.details["layout"]["slabs"] == 1
        assert np.array_equal(mine.W[:], reference.W[:])
        assert np.array_equal(mine.H[:], reference.H[:])
        for ours, theirs in zip(mine.history, reference.history, strict=True):
            assert {key: ours[key] for key in DECISIONS} == {key: theirs[key] for key in DECISIONS}
