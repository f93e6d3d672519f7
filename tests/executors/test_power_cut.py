"""A power cut at any moment: what a record names was flushed before the record could exist."""

from __future__ import annotations

import json
import os
import sys

import pytest
from executor_tools import OPTIONS, STEPS, assert_undisturbed

import dnmf
from dnmf.executors.serial import Serial
from dnmf.fitting.transitions import names

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.fixture
def calls(monkeypatch):
    """What this process asks of the file system, in order: (what, path, path or None)."""
    seen = []

    def spy(name, describe):
        original = getattr(os, name)

        def called(*arguments, **options):
            described = describe(*arguments)
            result = original(*arguments, **options)
            seen.append((name, *described))
            return result

        monkeypatch.setattr(os, name, called)

    spy("fsync", lambda handle: (os.readlink(f"/proc/self/fd/{handle}"), None))
    spy("link", lambda source, target: (str(source), str(target)))
    spy("replace", lambda source, target: (str(source), str(target)))
    spy("mkdir", lambda path, *_: (str(path), None))
    spy("unlink", lambda path: (str(path), None))
    return seen


def flushed(calls, path, after, before):
    """Whether a file or folder was flushed between two calls."""
    return ("fsync", path, None) in calls[after:before]


def test_what_a_record_names_is_flushed_before_it(undisturbed, tmp_path, calls):
    out = tmp_path / "out"
    records, contents = str(out / ".dnmf" / "records"), {}

    original = os.link

    def keep(source, target):  # records are dropped later on
        if os.path.dirname(str(target)) == records:
            with open(source, encoding="utf-8") as file:
                contents[str(target)] = json.load(file)["content"]
        return original(source, target)

    os.link = keep
    try:
        result = dnmf.fit(undisturbed.V, out=out, executor=Serial(), **OPTIONS)
    finally:
        os.link = original
    assert_undisturbed(result, undisturbed)
    commits = [
        (position, source, target)
        for position, (what, source, target) in enumerate(calls)
        if what == "link" and os.path.dirname(target) == records
    ]
    assert len(commits) == STEPS
    checked = 0
    for position, source, target in commits:
        assert flushed(calls, source, 0, position)  # the record itself, before it has its name
        for name in names(contents[target]):
            path = str(out / ".dnmf" / "objects" / f"{name}.npy")
            (written,) = [
                (when, temporary)
                for when, (what, temporary, to) in enumerate(calls[:position])
                if what == "replace" and to == path
            ]
            assert flushed(calls, written[1], 0, written[0]), f"{name}: contents"
            assert flushed(calls, os.path.dirname(path), written[0], position), f"{name}: name"
            checked += 1
    assert checked > 24 * STEPS


def test_folders_are_flushed_into_their_parents(undisturbed, tmp_path, calls):
    out = tmp_path / "deep" / "er" / "out"
    dnmf.fit(undisturbed.V, out=out, executor=Serial(), **OPTIONS)
    made = [(when, call[1]) for when, call in enumerate(calls) if call[0] == "mkdir"]
    inside = [(when, path) for when, path in made if "/.dnmf" in path or path == str(out)]
    assert len(inside) > 10
    for when, path in inside:
        assert flushed(calls, os.path.dirname(path), when, when + 5), path


def test_nothing_is_dropped_before_the_record_that_replaces_it_is_durable(
    undisturbed, tmp_path, calls
):
    out = tmp_path / "out"
    dnmf.fit(undisturbed.V, out=out, executor=Serial(), **OPTIONS)
    records = str(out / ".dnmf" / "records")
    dropped = [
        when
        for when, call in enumerate(calls)
        if call[0] == "unlink" and call[1].endswith(".npy") and ".tmp-" not in call[1]
    ]
    assert len(dropped) > 24
    for when in dropped:
        commit = max(
            position
            for position, call in enumerate(calls[:when])
            if call[0] == "link" and os.path.dirname(call[2]) == records
        )
        assert flushed(calls, records, commit, when)
