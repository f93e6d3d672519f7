"""What every run store promises, of each kind; and what only one of them does."""

from __future__ import annotations

import os
import sys
from typing import ClassVar

import numpy as np
import pytest

from dnmf.runs import memory
from dnmf.runs.folder import FolderStore
from dnmf.runs.memory import MemoryStore
from dnmf.runs.records import rounded_trip
from dnmf.testing.store_contract import StoreContract


def flip(path):
    """Change a bit in the middle of a file."""
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 4]))


class TestFolderStore(StoreContract):
    kind = "folder"
    kill_points = (
        ("object-writing", {"segment": 0}, False),
        ("object-staged", {"segment": 1}, False),
        ("object-written", {"segment": 2}, False),
        ("record-writing", {}, False),
        ("record-staged", {}, False),
        ("record-linked", {}, True),
        ("record-committed", {}, True),
    )

    def make(self, folder):
        return FolderStore.create_new(folder / "run")

    def damage_object(self, store, ref):
        flip(os.path.join(store.path, ".dnmf", "objects", f"{ref.name}.npy"))

    def damage_record(self, store, index):
        flip(os.path.join(store.path, ".dnmf", "records", f"{index}.json"))

    @pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
    def test_names_are_durable_before_the_record_that_has_them(self, store, monkeypatch):
        """A power cut leaves no record whose objects are gone; `test_power_cut` has whole fits."""
        calls = []
        fsync, link = os.fsync, os.link

        def flushed(handle):
            fsync(handle)
            calls.append(os.readlink(f"/proc/self/fd/{handle}"))

        def linked(source, target):
            link(source, target)
            calls.append(str(target))

        monkeypatch.setattr(os, "fsync", flushed)
        monkeypatch.setattr(os, "link", linked)
        refs = [store.put(name, np.zeros(2)) for name in ("1/W-0-0", "1/W-0-1", "deep/er/x")]
        objects = os.path.join(store.path, ".dnmf", "objects")
        assert len(calls) == len(refs)  # contents alone: their names once, for all of a step
        assert not {objects, os.path.join(objects, "1")} & set(calls)
        store.commit(0, {}, [ref.name for ref in refs])
        records = os.path.join(store.path, ".dnmf", "records")
        at = calls.index(os.path.join(records, "0.json"))
        folders = {objects, *(os.path.join(objects, name) for name in ("1", "deep", "deep/er"))}
        assert folders <= set(calls[len(refs) : at])
        assert records in calls[at:]


class TestMemoryStore(StoreContract):
    kind = "memory"
    shared: ClassVar[bool] = False
    checks: ClassVar[bool] = False

    def make(self, folder):
        return MemoryStore()


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
