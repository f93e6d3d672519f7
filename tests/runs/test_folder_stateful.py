"""FolderStore against a dictionary, with damage, reopening and crashes in between."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from dnmf.errors import RunError, RunLockedError
from dnmf.runs.folder import FolderStore


class RunFolder(RuleBasedStateMachine):
    refs = Bundle("refs")

    def __init__(self):
        super().__init__()
        self.root = tempfile.mkdtemp()
        self.store = FolderStore.create_new(os.path.join(self.root, "run"), {"p": 1})
        self.objects: dict[str, bytes | None] = {}  # None: damaged
        self.records: dict[int, dict | None] = {}

    def teardown(self):
        shutil.rmtree(self.root)

    @rule(
        target=refs,
        name=st.sampled_from(["W/1/0-0", "W/1/0-1", "W/2/0-0", "H/1", "scan"]),
        values=st.lists(st.floats(width=32), max_size=6),
    )
    def put(self, name, values):
        array = np.array(values, "f4")
        ref = self.store.put(name, array)
        assert ref.name.startswith(name)
        assert ref.name not in self.objects
        self.objects[ref.name] = array.tobytes()
        return ref

    @rule(ref=refs)
    def get(self, ref):
        wanted = self.objects.get(ref.name)
        if wanted is None:
            with pytest.raises(RunError, match=ref.name):
                self.store.get(ref)
        else:
            assert self.store.get(ref).tobytes() == wanted

    @rule(ref=refs, cut=st.integers(1, 20))
    def damage_object(self, ref, cut):
        path = os.path.join(self.store.path, ".dnmf", "objects", f"{ref.name}.npy")
        if self.objects.get(ref.name):  # arrays without entries have no byte to lose
            os.truncate(path, os.path.getsize(path) - cut)
            self.objects[ref.name] = None

    @rule(value=st.floats(allow_nan=False), skip=st.integers(0, 1))
    def commit_next(self, value, skip):
        index = max((i for i, r in self.records.items() if r is not None), default=-1) + 1 + skip
        record = {"value": value, "history": [{"pass": index}]}
        if self.records.get(index) is None:
            self.store.commit(index, record)
            self.records[index] = record

    @rule(data=st.data())
    def commit_again(self, data):
        valid = [index for index, record in self.records.items() if record is not None]
        if valid:
            with pytest.raises(RunLockedError):
                self.store.commit(data.draw(st.sampled_from(valid)), {"value": "another"})

    @rule(cut=st.integers(1, 60))
    def damage_newest_record(self, cut):
        valid = [index for index, record in self.records.items() if record is not None]
        if valid:
            path = os.path.join(self.store.path, ".dnmf", "records", f"{max(valid)}.json")
            os.truncate(path, max(0, os.path.getsize(path) - cut))
            self.records[max(valid)] = None

    @rule(data=st.data(), before=st.integers(0, 8))
    def drop(self, data, before):
        keep = data.draw(st.sets(st.sampled_from(sorted(self.objects)))) if self.objects else set()
        self.store.drop(keep, before)
        self.objects = {name: self.objects[name] for name in keep}
        valid = sorted(i for i, record in self.records.items() if record is not None)
        if len(valid) >= 2:
            low = valid[-2]
            self.records = {i: r for i, r in self.records.items() if i >= min(low, before)}

    @rule()
    def reopen(self):
        self.store = pickle.loads(pickle.dumps(self.store))

    @invariant()
    def the_latest_is_the_highest_valid_record(self):
        valid = {index: record for index, record in self.records.items() if record is not None}
        found = self.store.latest()
        if not valid:
            assert found is None
        else:
            assert found == (max(valid), valid[max(valid)])
        passed = [i for i in self.records if self.records[i] is None and i > max(valid, default=-1)]
        assert len(self.store.damaged) == len(passed)

    @invariant()
    def nothing_temporary_is_left(self):
        names = [name for _, _, files in os.walk(self.store.path) for name in files]
        assert not [name for name in names if name.startswith(".tmp-")]


RunFolder.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestRunFolder = RunFolder.TestCase
