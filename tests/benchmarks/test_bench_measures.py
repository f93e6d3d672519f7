"""The instruments: clocks, floors, efforts, references."""

from __future__ import annotations

import math
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import dnmf
from dnmf.steps.serial import Serial


@pytest.fixture(scope="module")
def V() -> Any:
    from benchmarks.planted import PlantedPoisson

    return PlantedPoisson(600, 30, 3).matrix()[0]


def test_clock_times_every_step(V: Any) -> None:
    from benchmarks.clocks import Clock

    clock = Clock(lambda kind: time.sleep(0.05))
    began = time.perf_counter()
    dnmf.fit(V, 3, seed=0, executor=Serial(), max_passes=3, sample=0.0, on_event=clock)
    whole = time.perf_counter() - began
    kinds = [step.kind for step in clock.steps]
    assert kinds == ["scan", "pass", "pass", "pass"]
    assert sum(step.seconds for step in clock.steps) <= whole - 0.05 * len(kinds)
    assert [step.row["pass"] for step in clock.of("pass")] == [1, 2, 3]
    assert clock.steps[-1].elapsed <= whole


def test_stopwatch_measures_and_restores() -> None:
    from benchmarks.clocks import stopwatch

    owner = types.SimpleNamespace(nap=lambda seconds: time.sleep(seconds))
    before = owner.nap
    with stopwatch((owner, "nap")) as seconds:
        owner.nap(0.02)
        owner.nap(0.02)
    assert seconds["nap"] >= 0.04
    assert owner.nap is before
    with pytest.raises(AttributeError, match="gone"), stopwatch((owner, "gone")):
        pass


def test_median_ratio_pairs_neighbours() -> None:
    from benchmarks.clocks import median_ratio

    assert median_ratio([1.0, 20.0, 3.0], [1.0, 10.0, 2.0]) == 1.5


def test_floor_of_products_grows_with_the_work() -> None:
    from benchmarks.floors import products_alone

    V = np.ones((4_000, 400), np.float32)
    starts = [*range(0, 4_000, 500), 4_000]
    few, many = (min(products_alone(V, starts, k, 1) for _ in range(3)) for k in (2, 200))
    assert 0 < few < many


def test_work_of_a_pass_is_that_of_the_fit(V: Any, tmp_path: Path) -> None:
    """The floor's W-step ends where a pass ends: the same work was measured."""
    from benchmarks.floors import PassInput, cpu_of_pass
    from benchmarks.pass_disk import measure_pass, pass_input
    from benchmarks.stores import write_dense

    path = write_dense(tmp_path / "V.zarr", V, (100, 30))
    what = pass_input(path, 3, None, tmp_path)
    assert isinstance(what, PassInput)
    np.testing.assert_allclose(np.linalg.norm(what.H, axis=1), 1, rtol=1e-5)
    cpu = cpu_of_pass(what)
    assert cpu.read > 0
    assert cpu.compute > 0
    seconds, share = measure_pass(what, None, tmp_path)
    assert seconds > 0
    assert share == 1
    assert len(dnmf.open(tmp_path / "fit.zarr").history) == 1, "one pass, after the scan"


def test_least_effort_is_found() -> None:
    from benchmarks.systems import Attempt, System, Task, known_effort, least_effort

    V = np.eye(3, dtype=np.float32)
    tried: list[int] = []

    def run(task: Any, effort: int | None) -> Attempt:
        tried.append(effort or 0)
        return Attempt(float(effort or 0), V * (1 - 1 / (effort or 1)), V)

    system, task = System("made up", run, 100), Task(V, 3, 0, Path())
    target = 1.5 / 21**2 * 1.0001  # reached by an effort of 21 and more
    found = least_effort(system, task, target, math.inf)
    assert found.effort is not None
    assert 21 <= found.effort <= 23
    assert found.seconds == found.effort
    assert max(tried) < 35
    given_up = least_effort(System("weak", run, 10), task, target, math.inf)
    assert (given_up.seconds, given_up.effort) == (math.inf, None)
    slow = least_effort(system, task, target, 10.0)
    assert 10 < slow.seconds < 21, "a bound"
    assert slow.effort is None
    tried.clear()
    assert known_effort(system, task, target, [1.0] * 20 + [target]).effort == 21
    assert tried == [21]
    assert known_effort(system, task, target, [1.0] * 18 + [target]).effort == 21, "other bits"
    assert known_effort(system, task, target, [1.0] * 20).effort is None


def test_objective_is_that_of_the_definition(V: Any) -> None:
    from benchmarks.systems import objective

    rng = np.random.default_rng(0)
    W, H = rng.random((600, 3), np.float32), rng.random((3, 30), np.float32)
    expected = 0.5 * np.sum((V.astype(float) - W.astype(float) @ H) ** 2)
    assert objective(V, W, H) == pytest.approx(expected, rel=1e-5)
    assert objective(sp.csr_array(V), W, H) == pytest.approx(expected, rel=1e-5)


def test_reads_until_a_target() -> None:
    from benchmarks.courses import Course, first_below

    course = Course([2.0, 3.0, 4.0], [0.7, 0.6, 0.5])
    assert first_below(course, 0.6) == 3
    assert first_below(course, 0.4) == math.inf
    assert course.stopped == 4


def test_reads_count_bytes(V: Any, tmp_path: Path) -> None:
    from benchmarks.courses import fit_course
    from benchmarks.stores import write_dense

    path = write_dense(tmp_path / "V.zarr", V, (100, 30))
    streamed = fit_course(path, 3, 0, {"sample": 0.0, "max_passes": 4}, "relative_error")
    assert streamed.reads == [2, 3, 4, 5]
    assert streamed.values == sorted(streamed.values, reverse=True)
    whole = fit_course(path, 3, 0, {"max_passes": 4}, "relative_error")
    assert set(whole.reads) == {1}


def test_a_reference_is_of_these_very_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import references

    monkeypatch.setattr(references, "REFERENCES", tmp_path / "references.json")
    references.REFERENCES.write_text("{}")
    rng = np.random.default_rng(0)
    X = rng.random((50, 8), np.float32)
    entry = references.converged_runs(X, 2, 3, lambda text: None)
    references.store("X", entry)
    assert [run["by"] for run in entry["runs"]] == ["dnmf", "dnmf, sample=0", "scikit-learn cd"]
    assert entry["relative_error"] == min(run["relative_error"] for run in entry["runs"])
    assert references.load_reference("X", X[::-1]) == entry, "sorting rows changes nothing"
    assert references.load_reference("X", 2 * X) is None
    assert references.load_reference("Y", X) is None


def test_skipped_peers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import machine
    from benchmarks.systems import SYSTEMS

    monkeypatch.setattr(machine, "installed", lambda package: None)
    assert "pip install '.[bench]'" in SYSTEMS["gensim"].absent
    assert not SYSTEMS["cd"].absent


@pytest.mark.cluster
@pytest.mark.timeout(120)
def test_what_is_spilled_is_counted() -> None:
    """The goal is none: a counter that never counts would say so too."""
    from benchmarks.clusters import spilled_bytes
    from dnmf.executors.local import start_local

    def spill(dask_worker: Any) -> int:
        return int(dask_worker.data.evict())

    with start_local(1, 1, 2 << 30) as client:
        assert spilled_bytes(client) == 0
        held = client.scatter(np.random.default_rng(0).random(1 << 17))
        client.run(spill)
        assert spilled_bytes(client) >= held.result().nbytes
