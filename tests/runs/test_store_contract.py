"""What every RunStore promises, on both of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dnmf.errors import RunError, RunLockedError
from dnmf.runs import memory
from dnmf.runs.base import ObjectRef
from dnmf.runs.folder import FolderStore
from dnmf.runs.memory import MemoryStore
from dnmf.runs.records import rounded_trip

ARRAYS = hnp.arrays(
    st.sampled_from(["f2", "f4", "f8", "i1", "i8", "u4", "?", ">f4", "<i2"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
)


@pytest.fixture(params=["memory", "folder"])
def store(request, tmp_path):
    if request.param == "folder":
        return FolderStore.create_new(tmp_path / "run", {"a": 1})
    made = MemoryStore()
    made.create({"a": 1})
    return made


@given(array=ARRAYS, fortran=st.booleans())
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_what_is_put_is_got_bit_for_bit(store, array, fortran):
    given_array = np.asfortranarray(array) if fortran and array.ndim else array
    ref = ObjectRef.from_json(store.put("W/0/0-1", given_array).to_json())
    got = store.get(ref)
    assert got.dtype == array.dtype
    assert got.shape == array.shape
    assert got.tobytes() == array.tobytes()
    assert got.flags.c_contiguous
    assert not got.flags.writeable


def test_a_stored_object_does_not_follow_its_source(store):
    array = np.arange(4.0)
    ref = store.put("W/0/0-0", array)
    array[:] = -1
    assert store.get(ref).tolist() == [0, 1, 2, 3]


def test_two_puts_under_one_name_are_two_objects(store):
    first = store.put("W/0/0-0", np.zeros(2))
    second = store.put("W/0/0-0", np.ones(2))
    assert first.name != second.name
    assert store.get(first).tolist() == [0, 0]
    assert store.get(second).tolist() == [1, 1]


def test_plan_is_written_once(store):
    assert store.plan() == {"a": 1}
    with pytest.raises(RunLockedError, match="plan"):
        store.create({"a": 2})
    assert store.plan() == {"a": 1}


def test_floats_and_numpy_numbers_survive_a_record(store):
    values = [0.1, 1e-310, 2.0**-1074, -0.0, 1 / 3, float("inf"), 12345678901234567890]
    store.commit(0, {"values": values, "n": np.int64(3), "x": np.float32(0.1), "t": (1, 2)})
    found = store.record(0)
    assert list(map(repr, found["values"])) == list(map(repr, values))
    assert found["n"] == 3
    assert found["x"] == float(np.float32(0.1))
    assert found["t"] == [1, 2]
    assert store.latest() == (0, found)


def test_a_record_must_be_json(store):
    with pytest.raises(TypeError, match="a record cannot hold"):
        store.commit(0, {"what": object()})
    assert store.latest() is None


def test_records_are_created_only_if_absent(store):
    assert store.latest() is None
    store.commit(0, {"by": "first"})
    with pytest.raises(RunLockedError, match="went on with this run"):
        store.commit(0, {"by": "second"})
    assert store.record(0) == {"by": "first"}
    with pytest.raises(RunError, match="1"):
        store.record(1)


def test_steps_get_the_state_without_the_history(store):
    content = {"state": {"scan": {"sums": [1.5, (2, 3)]}, "models": None}, "history": [{"a": 1}]}
    store.commit(0, content)
    expected = {"scan": {"sums": [1.5, [2, 3]]}, "models": None}
    assert store.state(0) == store.record(0)["state"] == expected
    store.state(0)["scan"]["sums"].append(4)
    assert store.state(0)["scan"]["sums"] == [1.5, [2, 3]]
    with pytest.raises(RunError, match="1"):
        store.state(1)


def test_a_history_that_grows(store):
    """Each record has all of it so far, shared with nothing that was given or read."""
    history, executed = [], []
    for i in range(5):
        history = [*history, {"pass": i, "x": np.float64(i), "nested": (i,)}]
        executed = [*executed, [i, "pass"]]
        store.commit(i, {"history": history, "executed": executed, "i": i})
        store.record(i)["history"][0]["pass"] = -1
        found = store.record(i)
        assert found["history"] == [{"pass": j, "x": j, "nested": [j]} for j in range(i + 1)]
        assert found["executed"] == [[j, "pass"] for j in range(i + 1)]
    assert store.record(2)["history"] == found["history"][:3]


def test_in_memory_a_history_is_copied_once(monkeypatch):
    """All of it in every pass would cost the square of their number: 77% of 500 passes did."""
    store, copied = MemoryStore(), []

    def counted(content):
        copied.append(content)
        return rounded_trip(content)

    monkeypatch.setattr(memory, "rounded_trip", counted)
    history = []
    for i in range(50):
        history = [*history, {"pass": i}]
        store.commit(i, {"history": history, "state": {}})
    assert sum(content.get("") == {"pass": 0} for content in copied) == 1
    assert len(copied) == 2 * 50


def test_changing_a_read_record_changes_nothing(store):
    store.commit(0, {"list": [1]})
    store.record(0)["list"].append(2)
    store.latest()[1]["list"].append(3)
    store.plan()["a"] = 9
    assert store.record(0) == {"list": [1]}
    assert store.plan() == {"a": 1}


def test_drop_keeps_what_it_is_told_and_the_newest_two_records(store):
    refs = [store.put(f"W/{i}/0-0", np.full(3, i)) for i in range(4)]
    for index in range(5):
        store.commit(index, {"i": index})
    store.drop([refs[1].name, refs[3].name], 100)
    assert store.get(refs[1]).tolist() == [1, 1, 1]
    assert store.get(refs[3]).tolist() == [3, 3, 3]
    for gone in (refs[0], refs[2]):
        with pytest.raises(RunError, match=r"W/.*missing"):
            store.get(gone)
    assert store.latest() == (4, {"i": 4})
    assert store.record(3) == {"i": 3}
    for index in range(3):
        with pytest.raises(RunError, match=str(index)):
            store.record(index)
    store.drop([refs[1].name, refs[3].name], 4)  # again: nothing to do
    assert store.record(3) == {"i": 3}


def test_drop_leaves_records_from_the_limit_on(store):
    for index in range(5):
        store.commit(index, {"i": index})
    store.drop([], 2)
    assert [store.record(index)["i"] for index in (2, 3, 4)] == [2, 3, 4]
    with pytest.raises(RunError):
        store.record(1)
