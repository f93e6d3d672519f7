"""Tests of what every run store must do: inherit a class and say how to make the store.

Example::

    class TestMyStore(StoreContract):
        kind = "mine"

        def make(self, folder):
            return MyStore(folder / "run")

        def damage_object(self, store, ref):
            flip_a_bit(store.file_of(ref.name))

        def damage_record(self, store, index):
            flip_a_bit(store.file_of_record(index))
"""

from __future__ import annotations

import itertools
import pickle
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from dnmf.errors import RunError, RunLockedError
from dnmf.runs.base import ObjectRef, RunStore
from dnmf.runs.memory import MemoryStore
from dnmf.steps.work import Step
from dnmf.testing import faults, store_uses
from dnmf.testing.faults import Fault

__all__ = ["StoreContract"]

LARGEST = 10**9
"""Steps, models and segments have no larger number."""

RACERS, ROUNDS = 8, 5


class StoreContract:
    """Tests of a run store; a subclass gives ``kind`` and ``make``, and other hooks if they apply.

    Attributes
    ----------
    kind : str
        Name in the registry.
    shared : bool
        Whether other processes can open a run: its store is picklable, and of a class that they
        can import.
    checks : bool
        Whether damage is found; then ``damage_object`` and ``damage_record`` are needed.
    kill_points : tuple of (str, dict, bool)
        Points of `dnmf.faultpoints` at which a process is killed, besides between putting objects
        and committing them: name, details, and whether the record is committed by then.
    """

    kind: ClassVar[str]
    shared: ClassVar[bool] = True
    checks: ClassVar[bool] = True
    kill_points: ClassVar[tuple[tuple[str, dict[str, Any], bool], ...]] = ()

    def make(self, folder: Path) -> RunStore:
        """Make the store of a new run without a plan; it may use the (empty) folder."""
        raise NotImplementedError

    def damage_object(self, store: RunStore, ref: ObjectRef) -> None:
        """Change a bit of a stored array."""
        raise NotImplementedError

    def damage_record(self, store: RunStore, index: int) -> None:
        """Change a bit of a stored record."""
        raise NotImplementedError

    def reopen(self, store: RunStore) -> RunStore:
        """Open the run as another process does; the store itself where none can."""
        found: RunStore = pickle.loads(pickle.dumps(store)) if self.shared else store
        return found

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "kill" in metafunc.fixturenames:
            points = [("between", {}, False), *self.kill_points]
            metafunc.parametrize("kill", points, ids=[point[0] for point in points])

    @pytest.fixture
    def store(self, tmp_path: Path) -> RunStore:
        made = self.make(tmp_path)
        made.create({"a": 1})
        return made

    # objects

    @pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i8", "u4", "?", ">f4", "<i2"])
    def test_what_is_put_is_got_bit_for_bit(self, store: RunStore, dtype: str) -> None:
        rng = np.random.default_rng(0)
        for shape in ((), (0,), (5,), (2, 3), (3, 0, 2), (2, 4, 3)):
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            bits = rng.integers(0, 2 if dtype == "?" else 256, size, dtype=np.uint8)
            array = np.frombuffer(bits.tobytes(), dtype).reshape(shape)
            for given in (array, np.asfortranarray(array), array[..., ::-1] if shape else array):
                ref = ObjectRef.from_json(store.put("1/W-0-1", given).to_json())
                found = self.reopen(store).get(ref)
                assert (found.dtype, found.shape) == (given.dtype, given.shape)
                assert found.tobytes() == given.tobytes()
                assert found.flags.c_contiguous
                assert not found.flags.writeable

    def test_a_stored_object_does_not_follow_its_source(self, store: RunStore) -> None:
        array = np.arange(4.0)
        ref = store.put("1/W-0-0", array)
        array[:] = -1
        assert store.get(ref).tolist() == [0, 1, 2, 3]

    def test_put_never_overwrites(self, store: RunStore) -> None:
        """Eight at once under one name are eight objects."""
        with ThreadPoolExecutor(8) as pool:
            arrays = [np.full(3, number) for number in range(8)]
            refs = list(pool.map(lambda array: store.put("1/W-0-0", array), arrays))
        assert len({ref.name for ref in refs}) == 8
        for ref, array in zip(refs, arrays, strict=True):
            assert store.get(ref).tolist() == array.tolist()

    def test_a_reference_may_mean_a_part(self, store: RunStore) -> None:
        whole = np.arange(20.0).reshape(4, 5)
        name, check = store.put("1/W-all-0", whole).to_json()
        for part, meant in (((0, 1, 3), whole[1:3]), ((1, 2, 5), whole[:, 2:5])):
            ref = ObjectRef.from_json([name, check, *part])
            assert np.array_equal(store.get(ref), meant)
            assert ObjectRef.from_json(ref.to_json()) == ref

    def test_names_with_the_largest_numbers(self, store: RunStore) -> None:
        """They are told apart, and each part of a name fits into what file systems take."""
        pairs = [*itertools.product((1, 11, LARGEST), repeat=2), ("all", LARGEST)]
        names = [
            Step(index, "pass", ()).name(kind, *where)
            for index in (1, LARGEST)
            for kind in ("W", "H", "checksums")
            for where in pairs
        ]
        refs = [store.put(name, np.array([number])) for number, name in enumerate(names)]
        assert len({ref.name for ref in refs}) == len(names)
        assert [store.get(ref).tolist() for ref in refs] == [[n] for n in range(len(names))]
        parts = [part for ref in refs for part in ref.name.split("/")]
        assert max(len(part.encode()) for part in parts) <= 250  # and an ending

    def test_a_damaged_object_is_refused(self, store: RunStore) -> None:
        self._needs_checks()
        whole = store.put("1/W-0-2", np.arange(100.0))
        other = store.put("1/W-0-3", np.arange(100.0))
        self.damage_object(store, whole)
        for ref in (whole, ObjectRef(whole.name, whole.checksum, (0, 98, 99))):
            with pytest.raises(RunError, match="1/W-0-2"):
                self.reopen(store).get(ref)
        assert store.get(other).tolist() == list(range(100))

    def test_an_object_is_not_taken_for_another(self, store: RunStore) -> None:
        """Bytes of another shape or dtype have another checksum."""
        self._needs_checks()
        arrays = [np.zeros((2, 3), "f4"), np.zeros((3, 2), "f4"), np.zeros((2, 3), "i4")]
        refs = [store.put("1/W", array) for array in arrays]
        assert len({ref.checksum for ref in refs}) == 3
        with pytest.raises(RunError, match="1/W"):
            store.get(ObjectRef(refs[1].name, refs[0].checksum))

    # the plan and records

    def test_the_plan_is_written_once(self, store: RunStore) -> None:
        assert store.plan() == {"a": 1}
        with pytest.raises(RunLockedError, match="plan"):
            self.reopen(store).create({"a": 2})
        store.plan()["a"] = 9
        assert self.reopen(store).plan() == {"a": 1}

    def test_a_run_without_a_plan_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(RunError):
            self.make(tmp_path).plan()

    def test_floats_and_numpy_numbers_survive_a_record(self, store: RunStore) -> None:
        values = [0.1, 1e-310, 2.0**-1074, -0.0, 1 / 3, float("inf"), 12345678901234567890]
        store.commit(0, {"values": values, "n": np.int64(3), "x": np.float32(0.1), "t": (1, 2)})
        found = self.reopen(store).record(0)
        assert list(map(repr, found["values"])) == list(map(repr, values))
        assert found["n"] == 3
        assert found["x"] == float(np.float32(0.1))
        assert found["t"] == [1, 2]
        assert store.latest() == (0, found)

    def test_a_record_must_be_json(self, store: RunStore) -> None:
        with pytest.raises(TypeError, match="a record cannot hold"):
            store.commit(0, {"what": object()})
        assert store.latest() is None

    def test_records_are_created_only_if_absent(self, store: RunStore) -> None:
        assert store.latest() is None
        store.commit(0, {"by": "first"})
        with pytest.raises(RunLockedError, match="went on with this run"):
            self.reopen(store).commit(0, {"by": "second"})
        assert store.record(0) == {"by": "first"}
        with pytest.raises(RunError, match="1"):
            store.record(1)

    def test_a_number_that_was_dropped_is_not_committed_again(self, store: RunStore) -> None:
        """A process that slept while another one went on may try."""
        late = self.reopen(store)
        for index in range(6):
            store.commit(index, {"by": "the other"})
            store.drop([], index - 1)
        with pytest.raises(RunLockedError, match="went on with this run"):
            late.commit(1, {"by": "the late one"})
        assert store.latest() == (5, {"by": "the other"})
        with pytest.raises(RunError, match="1"):
            store.record(1)

    def test_the_latest_record_has_the_largest_number(self, store: RunStore) -> None:
        for index in (8, 9, 10, 11, 100, LARGEST):
            store.commit(index, {"i": index})
            assert self.reopen(store).latest() == (index, {"i": index})

    def test_steps_get_the_state_without_the_history(self, store: RunStore) -> None:
        state = {"scan": {"sums": [1.5, (2, 3)]}, "models": None}
        store.commit(0, {"state": state, "history": [{"a": 1}]})
        expected = {"scan": {"sums": [1.5, [2, 3]]}, "models": None}
        assert store.state(0) == store.record(0)["state"] == expected
        store.state(0)["scan"]["sums"].append(4)
        assert self.reopen(store).state(0) == expected
        with pytest.raises(RunError, match="1"):
            store.state(1)

    def test_a_history_that_grows(self, store: RunStore) -> None:
        """Each record has all of it so far, shared with nothing that was given or read."""
        history: list[dict[str, Any]] = []
        executed: list[list[Any]] = []
        for i in range(5):
            history = [*history, {"pass": i, "x": np.float64(i), "nested": (i,)}]
            executed = [*executed, [i, "pass"]]
            store.commit(i, {"history": history, "executed": executed, "i": i})
            store.record(i)["history"][0]["pass"] = -1
            found = store.record(i)
            assert found["history"] == [{"pass": j, "x": j, "nested": [j]} for j in range(i + 1)]
            assert found["executed"] == [[j, "pass"] for j in range(i + 1)]
        assert store.record(2)["history"] == found["history"][:3]

    def test_changing_a_read_record_changes_nothing(self, store: RunStore) -> None:
        store.commit(0, {"list": [1]})
        store.record(0)["list"].append(2)
        found = store.latest()
        assert found is not None
        found[1]["list"].append(3)
        assert store.record(0) == {"list": [1]}

    def test_a_damaged_record_is_passed_over_and_gives_way(self, store: RunStore) -> None:
        self._needs_checks()
        store.commit(0, {"i": 0})
        store.commit(1, {"i": 1, "text": "x" * 100})
        self.damage_record(store, 1)
        opened = self.reopen(store)
        assert opened.latest() == (0, {"i": 0})
        (said,) = opened.damaged
        assert "record 1" in said
        with pytest.raises(RunError, match="1"):
            opened.record(1)
        opened.commit(1, {"i": "again"})
        assert opened.latest() == (1, {"i": "again"})
        assert list(opened.damaged) == []

    # deletion

    @pytest.mark.parametrize("wait", [True, False])
    def test_drop_leaves_what_is_needed_and_the_newest_two_records(
        self, store: RunStore, wait: bool
    ) -> None:
        refs = [store.put(f"{i}/W-0-0", np.full(3, i)) for i in range(4)]
        for index in range(5):
            store.commit(index, {"i": index})
        needed = [refs[1].name, refs[3].name]
        store.drop(needed, 100, wait=wait)
        store.wait_for_deletion()
        opened = self.reopen(store)
        for i in (1, 3):
            assert opened.get(refs[i]).tolist() == [i] * 3
        for gone in (refs[0], refs[2]):
            with pytest.raises(RunError, match=r"/W-0-0.*missing"):
                opened.get(gone)
        assert opened.latest() == (4, {"i": 4})
        assert opened.record(3) == {"i": 3}
        for index in range(3):
            with pytest.raises(RunError, match=str(index)):
                opened.record(index)
        store.drop(needed, 4)  # once more: nothing to do
        assert store.record(3) == {"i": 3}

    def test_drop_leaves_records_from_the_limit_on(self, store: RunStore) -> None:
        for index in range(5):
            store.commit(index, {"i": index})
        store.drop([], 2)
        assert [store.record(index)["i"] for index in (2, 3, 4)] == [2, 3, 4]
        with pytest.raises(RunError):
            store.record(1)

    def test_drop_counts_valid_records_only(self, store: RunStore) -> None:
        self._needs_checks()
        for index in range(5):
            store.commit(index, {"i": index})
        self.damage_record(store, 4)
        store.drop([], 5)
        assert store.latest() == (3, {"i": 3})
        assert store.record(2) == {"i": 2}
        with pytest.raises(RunError):
            store.record(1)

    # other processes

    def test_of_racing_processes_exactly_one_commits_each_step(self, store: RunStore) -> None:
        self._needs_sharing()
        with ExitStack() as running:
            racers = [
                running.enter_context(
                    store_uses.process_on(store, store_uses.RACE, str(number), str(ROUNDS))
                )
                for number in range(RACERS)
            ]
            for index in range(ROUNDS):
                assert [store_uses.said_by(racer) for racer in racers] == ["ready"] * RACERS
                for racer in racers:  # all at once
                    assert racer.stdin is not None
                    racer.stdin.write("\n")
                    racer.stdin.flush()
                said = [store_uses.said_by(racer) for racer in racers]
                assert sorted(said) == ["lost"] * (RACERS - 1) + ["won"]
                assert store.record(index) == {"by": said.index("won")}

    def test_another_process_goes_on_after_one_that_was_killed(
        self, store: RunStore, tmp_path: Path, kill: tuple[str, dict[str, Any], bool]
    ) -> None:
        """The run is at the record before or at the new one, and litter goes with the next step."""
        self._needs_sharing()
        store.commit(0, {"W": [store.put("0/W-0-0", np.zeros(3)).to_json()]})
        point, match, committed = kill
        planned = [] if point == "between" else [Fault(point, "kill", match)]
        with faults.active(tmp_path / "faults", planned) if planned else nullcontext():
            with store_uses.process_on(store, store_uses.STEP, point) as process:
                put = process.communicate()[0].split()
            assert process.returncode == -signal.SIGKILL
        index, record = store_uses.latest_of(store)
        assert index == (1 if committed else 0)
        assert list(store.damaged) == []
        wanted = [[10] * 3, [11] * 3, [12] * 3] if committed else [[0] * 3]
        assert store_uses.values_of(store, record) == wanted
        with store_uses.process_on(store, store_uses.STEP, "") as process:
            process.communicate()
        assert process.returncode == 0
        index, record = store_uses.latest_of(store)
        assert index == (2 if committed else 1)
        assert store_uses.values_of(store, record) == [[10 * index + s] * 3 for s in range(3)]
        if put and not committed:
            with pytest.raises(RunError, match="missing"):
                store.get(ObjectRef.from_json(put))

    # fits

    def test_a_fit_in_it_has_the_bits_of_one_in_memory(self, tmp_path: Path) -> None:
        V = store_uses.small_matrix()
        mine, reference = (
            store_uses.fit_in(self.make(tmp_path), V),
            store_uses.fit_in(MemoryStore(), V),
        )
        assert mine.passes == 4
        store_uses.assert_equal_fits(mine, reference)

    def test_a_fit_that_was_cut_off_goes_on_to_the_same_bits(self, tmp_path: Path) -> None:
        V, store = store_uses.small_matrix(), self.make(tmp_path)
        with pytest.raises(store_uses.CutOffError):
            store_uses.fit_in(store, V, store_uses.cut_off_in_pass_2)
        store.wait_for_deletion()
        found = store_uses.fit_in(self.reopen(store), V)
        assert found.passes == 4
        store_uses.assert_equal_fits(found, store_uses.fit_in(MemoryStore(), V))

    # helpers

    def _needs_checks(self) -> None:
        if not self.checks:
            pytest.skip("this store does not check what it reads")

    def _needs_sharing(self) -> None:
        if not self.shared:
            pytest.skip("no other process can open this store")
