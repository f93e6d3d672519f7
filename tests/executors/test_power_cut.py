"""A power cut at any moment: what a record names was flushed before the record could exist."""

from __future__ import annotations

import json
import os
import sys

import pytest
from executor_tools import OPTIONS, STEPS, assert_undisturbed

import dnmf
from dnmf.fitting.record import Record
from dnmf.steps.serial import Serial

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


@pytest.fixture
def contents(monkeypatch, calls):
    """Every record by its path, in order: they are dropped later on."""
    seen, original = {}, os.link

    def keep(source, target):
        if os.path.basename(os.path.dirname(str(target))) == "records":
            with open(source, encoding="utf-8") as file:
                seen[str(target)] = json.load(file)["content"]
        return original(source, target)

    monkeypatch.setattr(os, "link", keep)
    return seen


def test_what_a_record_names_is_flushed_before_it(undisturbed, tmp_path, calls, contents):
    out = tmp_path / "out"
    records = str(out / ".dnmf" / "records")
    result = dnmf.fit(undisturbed.V, out=out, executor=Serial(), **OPTIONS)
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
        for name in Record.from_json(contents[target]).objects():
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
    calls = [call for call in calls if call[0] != "unlink"]  # drops run beside, in a thread
    made = [(when, call[1]) for when, call in enumerate(calls) if call[0] == "mkdir"]
    inside = [(when, path) for when, path in made if "/.dnmf" in path or path == str(out)]
    wanted = {"out", ".dnmf", "objects", "records"}
    wanted |= {str(step) for step in range(STEPS - 1)}  # but for the one that publishes
    assert wanted <= {os.path.basename(path) for _, path in inside}
    links = [when for when, call in enumerate(calls) if call[0] == "link"]
    for when, path in inside:
        of_step = os.path.basename(os.path.dirname(path)) == "objects"
        before = min(at for at in links if at > when) if of_step else when + 5  # the record
        assert flushed(calls, os.path.dirname(path), when, before), path


def test_nothing_is_dropped_that_the_newest_durable_records_need(
    undisturbed, tmp_path, calls, contents
):
    """Also while the next step runs, and its record is being written: drops run beside it."""
    out = tmp_path / "out"
    dnmf.fit(undisturbed.V, out=out, executor=Serial(), **OPTIONS)
    records, objects = (str(out / ".dnmf" / folder) for folder in ("records", "objects"))
    links = [
        (position, call[2])
        for position, call in enumerate(calls)
        if call[0] == "link" and os.path.dirname(call[2]) == records
    ]
    dropped = [
        (when, os.path.relpath(call[1], objects).removesuffix(".npy"))
        for when, call in enumerate(calls)
        if call[0] == "unlink" and call[1].endswith(".npy") and ".tmp-" not in call[1]
    ]
    checked = 0
    for when, name in dropped:
        durable = [record for at, record in links if flushed(calls, records, at, when)]
        assert len(durable) >= 2
        newest, before = (Record.from_json(contents[record]) for record in durable[:-3:-1])
        # damage to one record costs one step; once all is done nothing is needed but the result
        assert newest.done or name not in newest.objects() | before.objects()
        checked += not newest.done
    assert checked > 24


def test_what_is_published_is_flushed_before_it_is_said_to_be(undisturbed, tmp_path, calls):
    """Every file of W and H, and its name, before the last record; the history's, after it."""
    out = tmp_path / "out"
    assert_undisturbed(dnmf.fit(undisturbed.V, out=out, executor=Serial(), **OPTIONS), undisturbed)
    records = str(out / ".dnmf" / "records")
    last = max(
        when
        for when, (what, _, target) in enumerate(calls)
        if what == "link" and os.path.dirname(target) == records
    )
    published = [path for path in out.glob("*/**/*") if path.is_file()]
    published = [path for path in published if ".dnmf" not in path.parts]
    assert {"W", "H", "objective"} <= {path.relative_to(out).parts[0] for path in published}
    for path in published:
        flushes = [n for n, call in enumerate(calls) if call[:2] == ("fsync", str(path))]
        assert flushes, f"{path} was never flushed"
        end = last if path.relative_to(out).parts[0] in ("W", "H") else len(calls)
        assert flushes[-1] < end, path
        for folder in path.relative_to(out).parents[:-1]:
            assert flushed(calls, str(out / folder), flushes[-1], end), f"{path}: names in {folder}"
