"""Opening results: finished, in progress, damaged, or something else."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import zarr

from dnmf.config import FitConfig, ModelSpec
from dnmf.errors import RunError
from dnmf.fitting.model_state import ModelState, Pair, Stop
from dnmf.fitting.record import Record, Scan, State
from dnmf.planning.plan import Plan
from dnmf.results.opening import in_progress, open_result
from dnmf.results.result import Result
from dnmf.results.stored_rows import StoredRows
from dnmf.runs.folder import FolderStore
from dnmf.runs.lock import RunLock
from dnmf.runs.memory import MemoryStore
from dnmf.runs.published import create_arrays, finish, write_H, write_W

RNG = np.random.default_rng(0)
TALL, WIDE = RNG.random((9, 3), dtype="f4"), RNG.random((3, 8), dtype="f4")
STARTS, SLABS = [0, 4, 9], [0, 5, 8]
SHARE, PEAK, NORMS = [1.0, 5.0, 1.0], [7, 2, 3], [2.0, 0.0, 4.0]
ORDER = [1, 2, 0]  # by share, the tie by the column of the peak
CONFIG = FitConfig((ModelSpec(3, 0), ModelSpec(3, 1)), tol=1e-4)
PLAN = Plan(
    run_id="a",
    mode="fit",
    source=None,
    source_metadata={},
    description="V",
    axis="rows",
    shape=(9, 8),
    sparse=False,
    stored_dtype="float32",
    dtype="float32",
    block_starts=tuple(range(10)),
    segment_blocks=(0, 4, 9),
    segment_bytes=(128, 160),
    largest_block=(1, 32, 0),
    slab_starts=tuple(SLABS),
    config=CONFIG,
)


def put_pair(store):
    W = [store.put(f"W/1/0-{i}", TALL[a:b]) for i, (a, b) in enumerate(((0, 4), (4, 9)))]
    H = [store.put(f"H/1/0-{i}", WIDE[:, a:b]) for i, (a, b) in enumerate(((0, 5), (5, 8)))]
    WtW = store.put("WtW/1/0", np.eye(3))
    numbers = tuple(SHARE), tuple(PEAK), tuple(NORMS)
    return Pair(tuple(W), tuple(STARTS), tuple(H), 7.5, WtW, *numbers)


def scan(store):
    ref = store.put("scan", np.zeros(1))
    return Scan("d1g35t", 0.1, 10, 5, 0, 0, 1.0, 1.0, 1.0, (ref,), ref, ref)


def commit_pass(store):
    rows = [
        {"model": 0, "pass": 1, "objective": 7.5, "relative_error": 0.3, "accepted": True},
        {"model": 1, "pass": 1, "objective": 9.5, "relative_error": 0.4, "accepted": True},
        {"model": 0, "pass": 2, "objective": 8.5, "relative_error": 0.35, "accepted": False},
    ]
    mine = ModelState(put_pair(store), ())
    models = (mine, ModelState(None, (), stop=Stop("enough", "enough")))
    store.commit(0, Record(0).to_json())
    state, executed = State(scan=scan(store), models=models), [[0, "scan"], [1, "pass"]]
    store.commit(1, Record(1, "pass", state, rows, executed=executed).to_json())


@pytest.fixture
def store(tmp_path):
    return FolderStore.create_new(tmp_path / "run", PLAN.to_json())


@pytest.fixture
def published(store):
    commit_pass(store)
    create_arrays(store.path, 9, 8, 3, "f4", 4)
    for start in (0, 4, 8):
        write_W(store.path, start, TALL[start : start + 4])
    write_H(store.path, 0, WIDE)
    facts = {
        "objective": 7.5,
        "relative_error": 0.3,
        "stop_reason": "it converged",
        "config": CONFIG.to_json(),
        "fingerprint": "d1g35t",
        "versions": {"dnmf": "1"},
        "source": "V",
    }
    finish(store.path, facts, {"pass": [1, 2], "objective": [7.5, 8.5], "accepted": [True, False]})
    return store.path


def test_a_finished_result(published):
    result = open_result(published)
    assert result.done
    assert result.path == published
    assert isinstance(result.W, zarr.Array)
    assert isinstance(result.H, zarr.Array)
    np.testing.assert_array_equal(result.W[:], TALL)
    np.testing.assert_array_equal(result.components_, WIDE)
    assert isinstance(result.components_, np.ndarray)
    assert (result.k, result.n_components, result.shape, result.passes) == (3, 3, (9, 8), 2)
    assert result.history == [
        {"pass": 1, "objective": 7.5, "accepted": True},
        {"pass": 2, "objective": 8.5, "accepted": False},
    ]
    assert result.stop_reason == "it converged"
    assert (result.objective, result.relative_error) == (7.5, 0.3)
    assert result.fingerprint == "d1g35t"
    assert result.versions == {"dnmf": "1"}
    assert result.config["tol"] == 1e-4
    assert repr(result) == (
        f"<dnmf.Result {published}: 9 x 8, k=3, relative error 0.3 after 2 passes; it converged>"
    )
    with pytest.raises(ValueError, match="read-only"):
        result.W[:] = 0
    again = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(again.W[3:5], TALL[3:5])


def test_a_result_stands_on_its_own(published, tmp_path):
    """Copied without its hidden state, or opened by URL, it is the same result."""
    shutil.copytree(published, tmp_path / "copy", ignore=shutil.ignore_patterns(".dnmf"))
    for where in (tmp_path / "copy", f"file://{published}"):
        result = open_result(where)
        assert result.done
        np.testing.assert_array_equal(result.H[:], WIDE)


def test_a_result_on_an_object_store(published):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(published, "/bucket/out.zarr", recursive=True)
    result = open_result("memory://bucket/out.zarr")
    np.testing.assert_array_equal(result.W[:], TALL)
    assert result.passes == 2
    with pytest.raises(RunError, match="cannot open memory://bucket/absent"):
        open_result("memory://bucket/absent")
    memory.rm("/bucket", recursive=True)


def test_a_run_in_progress_gives_its_committed_pair(store):
    commit_pass(store)
    result = open_result(store.path)
    assert not result.done
    assert isinstance(result.W, StoredRows)
    np.testing.assert_array_equal(result.W[:], TALL[:, ORDER])
    np.testing.assert_array_equal(result.H, WIDE[ORDER])
    assert result.H is result.H
    assert (result.objective, result.relative_error) == (7.5, 0.3)
    assert [row["pass"] for row in result.history] == [1, 2]
    assert (result.passes, result.k, result.shape) == (2, 3, (9, 8))
    assert result.stop_reason is None
    assert result.fingerprint == "d1g35t"
    assert "in progress" in repr(result)
    assert "after 2 passes" in repr(result)
    second = open_result(store.path, model=1)
    assert second.stop_reason == "enough"
    assert second.passes == 1
    with pytest.raises(RunError, match="no model 2; it fits 2"):
        open_result(store.path, model=2)


def test_factors_swap_where_columns_were_the_blocks(tmp_path):
    store = FolderStore.create_new(tmp_path / "run", replace(PLAN, axis="columns").to_json())
    commit_pass(store)
    result = open_result(store.path)
    norms = np.array([2.0, 1.0, 4.0])  # a component without W keeps its scale
    np.testing.assert_array_equal(result.H, (TALL / norms).astype("f4").T[ORDER])
    np.testing.assert_array_equal(result.W[:], (WIDE.T * norms).astype("f4")[:, ORDER])
    assert result.shape == (8, 9)
    np.testing.assert_allclose(result.W[:] @ result.H, (TALL @ WIDE).T, rtol=1e-5)


def test_before_the_first_pass_there_is_no_factor_yet(store):
    for _ in range(2):
        result = open_result(store.path)
        assert not result.done
        assert (result.passes, result.objective, result.k) == (0, None, 3)
        for name in ("W", "H", "components_"):
            with pytest.raises(RunError, match="no pass is committed yet"):
                getattr(result, name)
        json.dumps(result.inspect(), allow_nan=False)
        repr(result)
        if store.latest() is None:
            store.commit(0, Record(0).to_json())


def test_a_run_that_went_on_says_so(store):
    commit_pass(store)
    result = open_result(store.path)
    store.drop([], 2)
    with pytest.raises(RunError, match="the run went on since"):
        result.W[0]


def test_arrays_without_root_metadata_are_still_in_progress(published):
    os.unlink(os.path.join(published, "zarr.json"))
    assert not open_result(published).done


def test_inspect_is_json_and_says_who_works_on_it(store, published):
    facts = json.loads(json.dumps(open_result(published).inspect(), allow_nan=False))
    assert facts["done"] is True
    assert facts["stop_reason"] == "it converged"
    assert facts["source"] == "V"
    os.unlink(os.path.join(published, "zarr.json"))
    os.truncate(os.path.join(store.path, ".dnmf", "records", "1.json"), 50)
    with RunLock(published):
        facts = json.loads(json.dumps(open_result(published).inspect(), allow_nan=False))
    assert f"process {os.getpid()}" in facts["worked_on_by"]
    assert facts["record"] == 0
    assert "record 1 is passed over" in facts["damaged"][0]
    assert "block_starts" not in facts["plan"]
    assert open_result(published).inspect()["worked_on_by"] is None


def test_results_in_memory():
    rows = [{"pass": 1, "objective": 2.0}]
    result = Result.in_memory(TALL, WIDE, history=rows, objective=2.0, stop_reason="so")
    assert result.W is TALL
    assert result.components_ is WIDE
    assert (result.done, result.path, result.k, result.shape) == (True, None, 3, (9, 8))
    assert repr(result) == "<dnmf.Result in memory: 9 x 8, k=3 after 1 pass; so>"
    assert result.inspect()["objective"] == 2.0


def test_a_run_in_memory_can_be_looked_at():
    store = MemoryStore()
    store.create(PLAN.to_json())
    commit_pass(store)
    np.testing.assert_array_equal(np.asarray(in_progress(store).W), TALL[:, ORDER])


def test_a_result_without_H_says_so(tmp_path):
    store = FolderStore.create_new(tmp_path / "W.zarr", PLAN.to_json())
    create_arrays(store.path, 9, None, 3, "f4", 9)
    write_W(store.path, 0, TALL)
    finish(store.path, {}, {})
    result = open_result(store.path)
    assert result.k == 3
    with pytest.raises(RunError, match="has no H: it was not stored"):
        _ = result.H
    json.dumps(result.inspect())


def test_models_of_one_run(store):
    for model, factor in enumerate((1.0, 2.0)):
        group = f"models/{model}"
        create_arrays(store.path, 9, 8, 3, "f4", 9, group=group)
        write_W(store.path, 0, (factor * TALL).astype("f4"), group=group)
        write_H(store.path, 0, WIDE, group=group)
        finish(store.path, {"objective": factor}, {}, group=group)
    assert not open_result(store.path, model=1).done  # the root is not there yet
    finish(store.path, {}, {})
    assert open_result(store.path).objective == 1.0
    np.testing.assert_array_equal(open_result(store.path, model=1).W[:], 2 * TALL)
    with pytest.raises(RunError, match="no model 2"):
        open_result(store.path, model=2)


def test_other_formats_and_damage_are_refused(published):
    target = os.path.join(published, "zarr.json")
    with open(target) as file:
        text = file.read()
    with open(target, "w") as file:
        file.write(text.replace('"format": 1', '"format": 7'))
    with pytest.raises(RunError, match="format 7"):
        open_result(published)
    with open(target, "w") as file:
        file.write(text)
    shutil.rmtree(os.path.join(published, "objective", "c"))
    os.unlink(os.path.join(published, "objective", "zarr.json"))
    with pytest.raises(RunError, match="objective is damaged: it is not the array"):
        open_result(published)


def test_what_is_no_run_is_named(tmp_path):
    zarr.create_array(tmp_path / "v.zarr", shape=(3, 3), dtype="f4")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for name, what in (
        ("absent", "does not exist"),
        ("file", "is a file"),
        ("empty", "is an empty folder"),
        ("v.zarr", "did not make"),
    ):
        with pytest.raises(RunError, match=what) as caught:
            open_result(tmp_path / name)
        assert "--out" in str(caught.value)
