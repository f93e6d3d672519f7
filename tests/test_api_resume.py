"""Runs that end early: what is there, who may go on, and that nothing is done twice."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import zarr

import dnmf
from dnmf.errors import (
    CorruptDataError,
    DnmfError,
    InputError,
    OptionError,
    OutputExistsError,
    VersionMismatchError,
)
from dnmf.fitting.kinds import passes as pass_work
from dnmf.steps.events import Committed, Notice, Progress
from dnmf.testing.layouts import write_dense
from dnmf.testing.problems import planted_poisson

OPTIONS = {"seed": 3, "tol": 0, "max_passes": 5, "sample": 0, "block_size": 2000, "segments": 2}
MANY = {**OPTIONS, "segments": 24, "fan_in": 2, "slab_size": 400}  # five levels, two slabs


@pytest.fixture
def V():
    return planted_poisson(n=96, d=20, k=4, dtype="float64").dense


@pytest.fixture
def stored(tmp_path, V):
    """A path of V, in 24 chunks."""
    write_dense(tmp_path / "V.zarr", V, (4, 20))
    return tmp_path / "V.zarr"


class Interrupts:
    """A listener as when somebody presses Ctrl-C while a pass runs, or right after it."""

    def __init__(self, number, after=True, done=2):
        self.number, self.after, self.done = number, after, done

    def __call__(self, event):
        if self.after and isinstance(event, Committed) and event.kind == "pass":
            self.number -= 1
            if self.number == 0:
                raise KeyboardInterrupt
        during = not self.after and isinstance(event, Progress)
        if during and (event.number, event.done) == (self.number, self.done):
            raise KeyboardInterrupt


def interrupted(stored, run, number=3, options=OPTIONS, **how):
    with pytest.raises(KeyboardInterrupt):
        dnmf.fit(stored, 4, out=run, on_event=Interrupts(number, **how), **options)


def same_bits(one, other):
    figures = ("objective", "relative_error", "kkt_W", "kkt_H", "accepted", "extrapolation")
    assert np.asarray(one.W[:]).tobytes() == np.asarray(other.W[:]).tobytes()
    assert np.asarray(one.H[:]).tobytes() == np.asarray(other.H[:]).tobytes()
    for a, b in zip(one.history, other.history, strict=True):
        assert [a[name] for name in figures] == [b[name] for name in figures]


def executed(result):
    """How often each step was executed: [index, kind, host, pid, attempt] of each."""
    return Counter((index, kind) for index, kind, *_ in result.inspect()["executed"])


@pytest.mark.parametrize("how", [{"after": True}, {"after": False}, {"after": False, "done": 17}])
def test_an_interrupted_fit_goes_on_to_the_same_bits(tmp_path, stored, how):
    undisturbed = dnmf.fit(stored, 4, **MANY)
    layout = undisturbed.details["layout"]
    assert (layout["segments"], layout["slabs"]) == (24, 2)
    interrupted(stored, tmp_path / "run", options=MANY, **how)
    half = dnmf.open(tmp_path / "run")
    assert (half.done, half.passes) == (False, 3 if how["after"] else 2)
    resumed = dnmf.resume(tmp_path / "run")
    same_bits(resumed, undisturbed)
    assert resumed.done
    assert resumed.stop_reason == undisturbed.stop_reason
    counts = executed(resumed)
    assert set(counts.values()) == {1}
    wanted = {"scan": 1, "pass": 5, "rounds": 2, "publish": 1}
    assert Counter(kind for _, kind in counts) == wanted


def test_only_what_was_not_committed_is_read_again(tmp_path, stored):
    interrupted(stored, tmp_path / "run", 3, after=False)
    seen = []
    dnmf.resume(tmp_path / "run", on_event=seen.append)
    passes = Counter(event.number for event in seen if isinstance(event, Progress))
    assert {number for number in passes if number} == {3, 4, 5}
    assert "scan" not in {event.kind for event in seen if isinstance(event, Progress)}


def test_interrupted_again_and_again(tmp_path, stored):
    undisturbed = dnmf.fit(stored, 4, **OPTIONS)
    interrupted(stored, tmp_path / "run", 1)
    for number in (3, 4):
        with pytest.raises(KeyboardInterrupt):
            dnmf.resume(tmp_path / "run", on_event=Interrupts(number, after=False))
    same_bits(dnmf.resume(tmp_path / "run"), undisturbed)
    assert set(executed(dnmf.open(tmp_path / "run")).values()) == {1}


def test_interrupted_before_the_first_commit(tmp_path, stored):
    def during_the_scan(event):
        if isinstance(event, Progress) and event.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dnmf.fit(stored, 4, out=tmp_path / "run", on_event=during_the_scan, **OPTIONS)
    assert dnmf.open(tmp_path / "run").passes == 0
    same_bits(dnmf.resume(tmp_path / "run"), dnmf.fit(stored, 4, **OPTIONS))


@pytest.mark.parametrize("how", ["resume", "fit"])
def test_resuming_a_finished_fit_does_nothing(tmp_path, stored, how):
    run = tmp_path / "run"
    before = dnmf.fit(stored, 4, out=run, **OPTIONS)
    files = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    seen = []
    if how == "resume":
        again = dnmf.resume(run, on_event=seen.append)
    else:
        again = dnmf.fit(stored, 4, out=run, resume=True, on_event=seen.append, **OPTIONS)
    same_bits(again, before)
    assert seen == []
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == files


def test_a_finished_fit_is_returned_even_where_v_is_gone(tmp_path, V):
    before = dnmf.fit(V, 4, out=tmp_path / "run", **OPTIONS)  # an array of this process
    same_bits(dnmf.resume(tmp_path / "run"), before)


def test_fit_with_resume_begins_or_goes_on(tmp_path, stored):
    run = tmp_path / "run"
    undisturbed = dnmf.fit(stored, 4, out=tmp_path / "other", resume=True, **OPTIONS)
    interrupted(stored, run)
    same_bits(dnmf.fit(stored, 4, out=run, resume=True, **OPTIONS), undisturbed)


def test_a_seed_that_was_drawn_is_kept(tmp_path, stored):
    options = {name: value for name, value in OPTIONS.items() if name != "seed"}
    with pytest.raises(KeyboardInterrupt):
        dnmf.fit(stored, 4, out=tmp_path / "run", on_event=Interrupts(2), **options)
    resumed = dnmf.fit(stored, 4, out=tmp_path / "run", resume=True, **options)
    seed = resumed.config["models"][0]["seed"]
    same_bits(resumed, dnmf.fit(stored, 4, **{**options, "seed": seed}))


def test_an_array_in_memory_is_passed_again(tmp_path, V):
    interrupted(V, tmp_path / "run")
    with pytest.raises(DnmfError, match=r"only in memory.*resume=True"):
        dnmf.resume(tmp_path / "run")
    resumed = dnmf.fit(V, 4, out=tmp_path / "run", resume=True, **OPTIONS)
    same_bits(resumed, dnmf.fit(V, 4, **OPTIONS))


def test_an_array_of_a_store_in_memory_is_passed_again(tmp_path, V):
    array = write_dense(zarr.storage.MemoryStore(), V, (4, 20))
    interrupted(array, tmp_path / "run")
    resumed = dnmf.fit(array, 4, out=tmp_path / "run", resume=True, **OPTIONS)
    same_bits(resumed, dnmf.fit(array, 4, **OPTIONS))


@pytest.mark.parametrize(
    "changes",
    [
        *({"k": 5}, {"seed": 4}, {"tol": 1e-3}, {"max_passes": 9}, {"block_size": 4000}),
        *({"dtype": "float32"}, {"segments": 3}, {"fan_in": 3}, {"init": np.ones((4, 20))}),
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_changed_options_are_refused(tmp_path, stored, changes):
    interrupted(stored, tmp_path / "run")
    options = {"k": 4, **OPTIONS, **changes}
    name = next(iter(changes))
    words = {"k": "models", "seed": "models"}.get(name, name)
    with pytest.raises(OptionError, match=rf"begun with other options \({words} was .*overwrite"):
        dnmf.fit(stored, out=tmp_path / "run", resume=True, **options)


@pytest.mark.parametrize("name", ["init", "init_W"])
def test_another_start_of_the_same_shape_is_refused(tmp_path, stored, name):
    rng = np.random.default_rng(0)
    start = {"init": rng.random((4, 20)), "init_W": rng.random((96, 4))}
    interrupted(stored, tmp_path / "run", options={**OPTIONS, **start})
    changed = {**start, name: start[name] + (start[name] == start[name].max())}
    with pytest.raises(OptionError, match=rf"begun with another array {name}; .*overwrite"):
        dnmf.fit(stored, out=tmp_path / "run", resume=True, **OPTIONS, **changed)
    resumed = dnmf.fit(stored, out=tmp_path / "run", resume=True, **OPTIONS, **start)
    same_bits(resumed, dnmf.fit(stored, **OPTIONS, **start))


def test_options_that_change_no_pass_may_change(tmp_path, stored):
    interrupted(stored, tmp_path / "run")
    options = {**OPTIONS, "strict_bits": True, "max_time": 1000}
    resumed = dnmf.fit(stored, 4, out=tmp_path / "run", resume=True, **options)
    same_bits(resumed, dnmf.fit(stored, 4, **OPTIONS))


def test_other_data_are_refused(tmp_path, stored, V):
    interrupted(stored, tmp_path / "run")
    write_dense(tmp_path / "other.zarr", V, (4, 20))
    for other in (tmp_path / "other.zarr", V, np.ones((96, 20))):
        with pytest.raises(InputError, match=r"is not the matrix that .*run was begun with"):
            dnmf.fit(other, 4, out=tmp_path / "run", resume=True, **OPTIONS)


def test_another_array_in_memory_is_refused(tmp_path, V):
    interrupted(V, tmp_path / "run")
    with pytest.raises(InputError, match="is not the matrix"):
        dnmf.fit(V[:80], 4, out=tmp_path / "run", resume=True, **OPTIONS)
    with pytest.raises(CorruptDataError, match="changed since the scan"):
        dnmf.fit(V + 1, 4, out=tmp_path / "run", resume=True, **OPTIONS)


def test_changed_data_are_refused(tmp_path, stored, V):
    interrupted(stored, tmp_path / "run")
    zarr.open_array(stored, mode="r+")[17, 3] += 1
    with pytest.raises(CorruptDataError, match=r"rows 16 to 19 .*changed since the scan"):
        dnmf.resume(tmp_path / "run")
    zarr.open_array(stored, mode="r+")[:] = V  # restored: it goes on
    same_bits(dnmf.resume(tmp_path / "run"), dnmf.fit(stored, 4, **OPTIONS))


def test_another_shape_is_refused_before_anything_runs(tmp_path, stored, V):
    interrupted(stored, tmp_path / "run")
    write_dense(stored, V[:80], (4, 20), overwrite=True)
    with pytest.raises(InputError, match="changed since the run began"):
        dnmf.resume(tmp_path / "run")


@pytest.mark.parametrize("how", ["dtype", "chunks"])
def test_data_of_another_dtype_or_layout_are_refused(tmp_path, stored, V, how):
    """The same numbers, of which other passes would make other bits."""
    interrupted(stored, tmp_path / "run")
    changed = V.astype("float32") if how == "dtype" else V
    write_dense(stored, changed, (4, 20) if how == "dtype" else (6, 20), overwrite=True)
    for resume in (
        lambda: dnmf.resume(tmp_path / "run"),
        lambda: dnmf.fit(stored, 4, out=tmp_path / "run", resume=True, **OPTIONS),
    ):
        with pytest.raises(InputError, match=r"changed since the run began|is not the matrix"):
            resume()
    write_dense(stored, V, (4, 20), overwrite=True)
    same_bits(dnmf.resume(tmp_path / "run"), dnmf.fit(stored, 4, **OPTIONS))


def test_an_existing_run_is_not_overwritten_by_accident(tmp_path, stored):
    interrupted(stored, tmp_path / "run")
    with pytest.raises(OutputExistsError, match=r"dnmf resume .*run.*--overwrite"):
        dnmf.fit(stored, 4, out=tmp_path / "run", **OPTIONS)
    fit = dnmf.fit(stored, 2, out=tmp_path / "run", overwrite=True, **OPTIONS)
    assert fit.W.shape == (96, 2)


def test_max_time_ends_with_a_prefix_of_the_undisturbed_fit(tmp_path, stored):
    undisturbed = dnmf.fit(stored, 4, **OPTIONS)
    short = dnmf.fit(stored, 4, out=tmp_path / "run", max_time=1e-6, **OPTIONS)
    assert short.passes == 1
    assert short.done
    assert short.stop_reason == "stopped after max_time = 1e-06 s and 1 passes"
    assert short.history[0]["objective"] == undisturbed.history[0]["objective"]
    full = dnmf.fit(stored, 4, max_time=1000, **OPTIONS)
    same_bits(full, undisturbed)


def test_a_run_can_be_looked_at_while_it_runs(tmp_path, stored, V):
    run, seen = tmp_path / "run", []

    def look(event):
        if isinstance(event, Committed) and event.kind == "pass":
            now = dnmf.open(run)
            W, H = np.asarray(now.W), np.asarray(now.H)
            objective = 0.5 * np.sum((V - W @ H) ** 2)
            seen.append((now.done, now.passes, now.objective, objective))

    result = dnmf.fit(stored, 4, out=run, on_event=look, **OPTIONS)
    assert [passes for _, passes, _, _ in seen] == [1, 2, 3, 4, 5]
    assert not any(done for done, *_ in seen)
    for _, _, told, true in seen:
        assert told == pytest.approx(true, rel=1e-9)
    assert seen[-1][2] == result.objective
    same_bits(dnmf.open(run), result)


def test_the_result_opens_with_xarray(tmp_path, stored):
    xarray = pytest.importorskip("xarray")
    fit = dnmf.fit(stored, 4, out=tmp_path / "run", **OPTIONS)
    found = xarray.open_zarr(tmp_path / "run", consolidated=False)
    assert found["W"].dims == ("row", "component")
    assert found["H"].dims == ("component", "column")
    np.testing.assert_array_equal(found["W"].values, fit.W[:])
    np.testing.assert_array_equal(found["H"].values, fit.H[:])


def test_nothing_of_the_run_is_left_but_the_result(tmp_path, stored):
    dnmf.fit(stored, 4, out=tmp_path / "run", **OPTIONS)
    left = [path for path in (tmp_path / "run").rglob("*") if path.suffix == ".npy"]
    assert left == []


def test_processes_that_round_differently_are_told_or_refused(tmp_path, stored, monkeypatch):
    """The bits are promised for one fingerprint of processor and libraries."""
    other = {"digest": "of another processor"}
    options, told = {**OPTIONS, "sample": 0}, []
    assert not dnmf.fit(stored, 4, **options).details["mixed_numeric"]
    monkeypatch.setattr(pass_work, "numeric_fingerprint", lambda: other)
    fit = dnmf.fit(stored, 4, on_event=told.append, **options)
    assert fit.details["mixed_numeric"]
    notices = [event.text for event in told if isinstance(event, Notice)]
    assert sum("round differently" in text for text in notices) == 1
    with pytest.raises(VersionMismatchError, match=r"of another processor.*or drop strict_bits"):
        dnmf.fit(stored, 4, out=tmp_path / "out", strict_bits=True, **options)


def test_a_resumed_run_is_as_strict_as_it_is_asked_to_be(tmp_path, stored, monkeypatch):
    run = tmp_path / "run"
    interrupted(stored, run, number=2)
    monkeypatch.setattr(pass_work, "numeric_fingerprint", lambda: {"digest": "of another"})
    for _ in range(2):  # nor is it, once refused, finished by asking again
        with pytest.raises(VersionMismatchError, match=r"of another.*or drop strict_bits"):
            dnmf.fit(stored, 4, out=run, resume=True, strict_bits=True, **OPTIONS)
    fit = dnmf.fit(stored, 4, out=run, resume=True, **OPTIONS)
    assert fit.details["mixed_numeric"]


def test_what_is_to_be_resumed_is_not_overwritten_too(stored, tmp_path):
    run = tmp_path / "run"
    interrupted(stored, run)
    before = sorted(path.name for path in run.iterdir())
    with pytest.raises(OptionError, match="overwrite would delete the run that resume goes on"):
        dnmf.fit(stored, 4, out=run, overwrite=True, resume=True, **OPTIONS)
    with pytest.raises(OptionError, match="overwrite would delete the run that resume goes on"):
        dnmf.fit_many(stored, [2, 3], out=run, overwrite=True, resume=True)
    assert sorted(path.name for path in run.iterdir()) == before
