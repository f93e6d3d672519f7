"""Where a run may be, and what of it is gone on with or replaced, as people write paths."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import zarr

import dnmf
from dnmf.errors import DnmfError, OptionError, OutputExistsError, RunError, RunLockedError
from dnmf.results.opening import open_result
from dnmf.runs.folder import FolderStore
from dnmf.steps.events import Committed
from dnmf.steps.serial import Serial

OPTIONS = {"seed": 1, "max_passes": 3, "tol": 0, "sample": 0, "executor": Serial()}


def interrupt(event):
    if isinstance(event, Committed) and event.kind == "pass":
        raise KeyboardInterrupt


@pytest.mark.parametrize("out", ["a::b", "zip::x", "in/a::b/run"])
@pytest.mark.parametrize("resume", [False, True])
def test_a_path_that_zarr_cannot_read_is_refused_before_anything_runs(tmp_path, out, resume):
    with pytest.raises(RunError, match="takes a path with :: for a chain of URLs"):
        dnmf.fit(tmp_path / "not-there.npy", 3, out=tmp_path / out, resume=resume)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("out", [b"/tmp/x", 3, zarr.storage.MemoryStore(), "a\0b", ["run"]])
def test_what_is_no_path_is_refused_with_the_remedy(tmp_path, V, out):
    said = re.escape(f"({type(out).__name__}); give its path: a str or a pathlib.Path")
    for resume in (False, True):
        with pytest.raises(OptionError, match=said):
            dnmf.fit(V, 3, out=out, resume=resume, **OPTIONS)
    for call in (dnmf.open, dnmf.resume, open_result, FolderStore):
        with pytest.raises(OptionError, match=said):
            call(out)


@pytest.mark.parametrize("written", ["~/run", "file://{}/run", "run/../run/"])
def test_resume_finds_the_run_however_its_path_is_written(tmp_path, V, monkeypatch, written):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    out = written.format(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        dnmf.fit(V, 2, out=out, on_event=interrupt, **OPTIONS)
    result = dnmf.fit(V, 2, out=out, resume=True, **OPTIONS)
    kinds = [kind for _, kind, *_ in result.inspect()["executed"]]
    assert kinds == ["scan", "pass", "pass", "pass", "publish"]
    assert os.listdir(tmp_path) == ["run"]


def begun(kind, out):
    """What is there before a run has begun."""
    if kind == "empty":
        out.mkdir()
    elif kind == "stub":
        FolderStore.create_new(out, None).put("start/0", np.zeros(3))
    elif kind == "half a stub":
        (out / ".dnmf").mkdir(parents=True)


@pytest.mark.parametrize("kind", ["nothing", "empty", "stub", "half a stub"])
def test_resume_begins_what_was_cut_off_before_it_began(tmp_path, V, kind):
    """A loop that tries again recovers, wherever the try before was killed."""
    begun(kind, tmp_path / "run")
    result = dnmf.fit(V, 2, out=tmp_path / "run", resume=True, **OPTIONS)
    assert result.done
    assert os.listdir(tmp_path) == ["run"]
    begun(kind, tmp_path / "study")
    study = dnmf.fit_many(V, [2], 1, out=tmp_path / "study", holdout=None, resume=True)
    assert study.done


def test_resume_replaces_nothing_else(tmp_path, V):
    store = FolderStore.create_new(tmp_path / "run", None)
    with store.locked(), pytest.raises(RunLockedError, match="is being worked on by process"):
        dnmf.fit(V, 2, out=store.path, resume=True, **OPTIONS)
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"notes\.txt"):
        dnmf.fit(V, 2, out=store.path, resume=True, **OPTIONS)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(DnmfError, match=r"notes\.txt"):
        dnmf.fit(V, 2, out=tmp_path / "other", resume=True, **OPTIONS)
    assert (tmp_path / "other" / "notes.txt").read_text() == "mine"


def test_a_result_whose_replacement_was_killed_stays_until_the_next_try_has_begun(tmp_path, V):
    dnmf.fit(V, 2, out=tmp_path / "run", **OPTIONS)
    FolderStore.create_new(tmp_path / "run", None, overwrite=True)  # and killed
    with pytest.raises(DnmfError):
        dnmf.fit(-np.ones((9, 9)), 3, out=tmp_path / "run", resume=True, **OPTIONS)
    assert dnmf.open(tmp_path / "run").k == 2
    FolderStore.create_new(tmp_path / "run", None, overwrite=True)
    assert dnmf.fit(V, 3, out=tmp_path / "run", resume=True, **OPTIONS).k == 3
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("inside", [".", "W"])
def test_the_working_directory_is_not_deleted(tmp_path, V, monkeypatch, inside):
    run = tmp_path / "run"
    run.mkdir()
    monkeypatch.chdir(run)
    dnmf.fit(V, 2, out=".", overwrite=True, **OPTIONS)
    monkeypatch.chdir(run / inside)
    out = os.path.relpath(run)
    with pytest.raises(OutputExistsError, match="replacing would delete its working directory"):
        dnmf.fit(V, 3, out=out, overwrite=True, **OPTIONS)
    assert Path.cwd() == run / inside
    assert dnmf.open(out).k == 2


def test_a_study_on_an_object_store_is_a_study(tmp_path, V):
    import fsspec

    study = dnmf.fit_many(V, [2, 3], 1, out=tmp_path / "study", holdout=None, executor=Serial())
    storage = fsspec.filesystem("memory")
    storage.put(str(tmp_path / "study"), "/a-study", recursive=True)
    opened = dnmf.open("memory://a-study")
    assert opened.ks == [2, 3]
    assert repr(opened) == repr(study).replace(study.path, opened.path)
    assert np.array_equal(opened.result(3).W[:], study.result(3).W[:])
    assert repr(open_result("memory://a-study")).startswith("<dnmf.Result memory://a-study")
    with pytest.raises(RunError, match="memory://a-study has no model 99"):
        open_result("memory://a-study", 99)


def test_a_study_is_not_taken_for_a_fit(tmp_path, V):
    study = dnmf.fit_many(V, [2, 3], 1, out=tmp_path / "study", holdout=None, executor=Serial())
    for given in (study, study.path):
        with pytest.raises(OptionError, match=r"study of k = 2, 3.*give one, such as study.result"):
            dnmf.transform(V, given, executor=Serial())
    assert dnmf.transform(V, study.result(3), executor=Serial()).shape == (100, 3)
