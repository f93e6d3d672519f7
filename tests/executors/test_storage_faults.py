"""Storage that fails for a moment, for good, is full, read-only or damaged: named, resumable."""

from __future__ import annotations

import errno
import os
import shutil

import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from executor_tools import (
    OPTIONS,
    PASSES,
    SEGMENTS,
    assert_undisturbed,
    faulty,
    fit,
    once_per_pass,
    who_executed,
    written,
)

import dnmf
from dnmf.errors import CorruptDataError, ResumableError, RunError, StorageError
from dnmf.fitting.data.context import Context
from dnmf.fitting.data.reading import Loader, read_segment
from dnmf.runs import lock as lock_module
from dnmf.steps import retries
from dnmf.steps.events import Committed
from dnmf.steps.serial import Serial
from dnmf.testing import faults
from dnmf.testing.faults import Fault

pytestmark = pytest.mark.timeout(120)

FULL = {
    "W": ("object-staged", {"name": "2/W-0-5"}),
    "H": ("object-staged", {"name": "2/H-0-1"}),
    "WtW": ("object-staged", {"name": "3/WtW-0"}),
    "record": ("record-staged", {"index": 2}),
    "result": ("array-writing", {"kind": "W"}),
}


def serially(undisturbed, out, **options):
    return dnmf.fit(undisturbed.V, out=out, executor=Serial(), **{**OPTIONS, **options})


def test_reads_that_fail_for_a_moment_are_retried_and_counted(streaming, undisturbed, tmp_path):
    plan = [  # each first in the scan, then in the first pass
        Fault("block-read", "transient", {"segment": 5}, times=2, after=1),
        Fault("block-read", "transient", {"segment": 9}, times=1, after=1),
    ]
    with faulty(streaming, tmp_path / "faults", plan) as counts:
        result = fit(undisturbed.V, tmp_path / "out", streaming)
        assert [faults.struck(counts, number) for number in range(2)] == [2, 1]
        once_per_pass(counts)
    assert_undisturbed(result, undisturbed)
    assert [row["retries"] for row in result.history] == [3, 0, 0, 0]
    assert result.details["retries"] == 3


@pytest.mark.parametrize(
    "where",
    [
        "serial",
        *(pytest.param(name, marks=pytest.mark.cluster) for name in ("streaming", "in memory")),
    ],
)
def test_reads_of_the_scan_that_fail_for_a_moment_are_counted(
    request, undisturbed, tmp_path, where
):
    """The scan has no row in the history; where V stays in memory it is the only read."""
    plan = [Fault("block-read", "transient", {"segment": 5}, times=2)]
    if where == "serial":
        with faults.active(tmp_path / "f", plan) as counts:
            result = serially(undisturbed, tmp_path / "out")
    else:
        client = request.getfixturevalue("client" if where == "in memory" else "streaming")
        with faulty(client, tmp_path / "f", plan) as counts:
            result = fit(undisturbed.V, tmp_path / "out", client)
    assert faults.struck(counts) == 2
    once_per_pass(counts)
    assert_undisturbed(result, undisturbed)
    assert [row["retries"] for row in result.history] == [0, 0, 0, 0]
    assert result.details["retries"] == 2


@pytest.mark.chaos
def test_reads_that_fail_for_good_on_a_cluster(streaming, undisturbed, tmp_path):
    plan = [Fault("block-read", "transient", {"segment": 5}, times=10**6, after=2)]
    with (
        faulty(streaming, tmp_path / "faults", plan) as counts,
        pytest.raises(ResumableError, match=r"planned fault at block-read.*dnmf resume"),
    ):
        fit(undisturbed.V, tmp_path / "out", streaming)
    assert faults.struck(counts) <= 16  # bounded
    with faulty(streaming, tmp_path / "again"):
        result = dnmf.resume(tmp_path / "out", client=streaming)
    assert_undisturbed(result, undisturbed)


def test_reads_that_fail_for_good(undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(retries, "PAUSES", (0.0, 0.0, 0.0))
    out = tmp_path / "my run"
    plan = [Fault("block-read", "transient", {"segment": 5}, times=10**6, after=2)]
    with (
        faults.active(tmp_path / "faults", plan) as counts,
        pytest.raises(ResumableError, match="planned fault at block-read") as caught,
    ):
        serially(undisturbed, out)
    assert str(caught.value).endswith(f"go on with: dnmf resume '{out}'")  # as it can be typed
    assert faults.struck(counts) == 4
    assert_undisturbed(dnmf.resume(out, executor=Serial()), undisturbed)


@pytest.mark.parametrize(("action", "why"), [("enospc", "No space"), ("erofs", "Read-only")])
@pytest.mark.parametrize("what", FULL)
def test_a_store_that_is_full_or_read_only(undisturbed, tmp_path, what, action, why):
    _refuse_then_resume(undisturbed, tmp_path, what, action, why, executor=Serial())


@pytest.mark.chaos
@pytest.mark.parametrize(("action", "why"), [("enospc", "No space"), ("erofs", "Read-only")])
@pytest.mark.parametrize("what", FULL)
def test_the_same_on_a_cluster(client, undisturbed, tmp_path, what, action, why):
    with faulty(client, tmp_path / "workers") as path:
        shutil.rmtree(path)
        _refuse_then_resume(undisturbed, tmp_path, what, action, why, client=client)


def _refuse_then_resume(undisturbed, folder, what, action, why, **runner):
    point, match = FULL[what]
    out = folder / "out"
    with faults.active(folder / "workers", [Fault(point, action, match, times=10**6)]) as counts:
        with pytest.raises(StorageError, match=why) as caught:
            dnmf.fit(undisturbed.V, out=out, **runner, **OPTIONS)
        assert faults.struck(counts) == 1  # not tried again: that would not help
    assert str(out) in str(caught.value)
    assert not dnmf.open(out).done
    shutil.rmtree(folder / "workers")
    os.makedirs(folder / "workers")
    result = dnmf.resume(out, **runner)
    assert_undisturbed(result, undisturbed)
    assert [step for step, _ in who_executed(result)] == [0, 1, 2, 3, 4, 5]


def _interrupted(undisturbed, out, index, folder):
    """A run that was interrupted just after the commit of record ``index``."""
    stop = Fault("record-committed", "interrupt", {"index": index})
    with faults.active(folder, [stop]), pytest.raises(KeyboardInterrupt):
        serially(undisturbed, out)


@pytest.mark.parametrize("action", ["truncate", "flip", "delete"])
def test_a_damaged_record_costs_one_step(undisturbed, tmp_path, action):
    out = tmp_path / "out"
    _interrupted(undisturbed, out, 3, tmp_path / "f")
    _damage(out / ".dnmf" / "records" / "3.json", action)
    assert len(dnmf.open(out).history) == 2
    result = dnmf.resume(out, executor=Serial())
    assert_undisturbed(result, undisturbed)


@pytest.mark.parametrize("action", ["truncate", "flip", "delete"])
@pytest.mark.parametrize("kind", ["W", "H", "next_H", "row_sums"])
def test_a_damaged_object_is_refused_by_name_where_it_is_needed(
    undisturbed, tmp_path, kind, action
):
    out = tmp_path / "out"
    _interrupted(undisturbed, out, 3, tmp_path / "f")
    found = list((out / ".dnmf" / "objects").glob(f"*/{kind}-*"))
    newest = max(int(path.parent.name) for path in found)  # step
    victim = min(path for path in found if path.parent.name == str(newest))
    _damage(victim, action)
    if kind == "H":  # the next pass begins with the next H, and replaces the pair
        assert_undisturbed(serially(undisturbed, out, resume=True), undisturbed)
        return
    with pytest.raises(RunError) as caught:
        serially(undisturbed, out, resume=True)
    assert str(victim) in str(caught.value)
    assert "overwrite" in str(caught.value)


def test_a_folder_in_place_of_a_file_is_damage_not_storage(undisturbed, tmp_path):
    """A batch script that begins again what can be resumed would do so for ever."""
    out = tmp_path / "out"
    _interrupted(undisturbed, out, 3, tmp_path / "f")
    victim = min((out / ".dnmf" / "objects" / "0").glob("row_sums-*"))
    victim.unlink()
    victim.mkdir()
    with pytest.raises(RunError, match="Is a directory") as caught:
        dnmf.resume(out, executor=Serial())
    assert not isinstance(caught.value, ResumableError)


def test_a_full_disk_where_a_run_is_locked_again(undisturbed, tmp_path, monkeypatch):
    out = tmp_path / "out"
    _interrupted(undisturbed, out, 3, tmp_path / "f")

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr(lock_module, "create_file", full)
        with pytest.raises(StorageError, match=r"cannot lock .*No space"):
            dnmf.resume(out, executor=Serial())
    assert_undisturbed(dnmf.resume(out, executor=Serial()), undisturbed)


def _damage(path, action):
    with faults.active(path.parent.parent / f"fault-{action}", [Fault("p", action)]):
        from dnmf.faultpoints import reach

        reach("p", path=str(path))


@pytest.mark.parametrize("action", ["truncate", "flip", "delete"])
def test_a_chunk_damaged_during_a_fit(undisturbed, tmp_path, action):
    """Named with store, chunk and rows; once it is restored the run goes on."""
    _damage_during_a_fit(undisturbed, tmp_path, action, executor=Serial())


@pytest.mark.parametrize("action", ["truncate", "flip", "delete"])
def test_a_chunk_damaged_during_a_fit_on_a_cluster(streaming, undisturbed, tmp_path, action):
    """The same from a worker, at once: no step is begun again for it."""
    with faulty(streaming, tmp_path / "workers") as counts:
        _damage_during_a_fit(undisturbed, tmp_path, action, client=streaming)
        assert [written(counts, step) for step in (1, 2, 4)] == [SEGMENTS] * 3
        assert SEGMENTS <= written(counts, 3) <= 2 * SEGMENTS - 1
        # what cannot be decoded does not get there: as often as if nothing had happened; what is
        # missing reads as zeros and does
        read = PASSES + 1 + (action == "delete")
        assert faults.count(counts, "block-read", segment=17) == read


def _damage_during_a_fit(undisturbed, tmp_path, action, **runner):
    V, out = tmp_path / "V.zarr", tmp_path / "out"
    shutil.copytree(undisturbed.V, V)
    chunk = V / "c" / "17" / "0"
    whole = chunk.read_bytes()

    def damage(event):
        if isinstance(event, Committed) and event.kind == "pass" and event.rows[0]["pass"] == 2:
            _damage(chunk, action)

    with pytest.raises(CorruptDataError) as caught:
        dnmf.fit(V, out=out, on_event=damage, **runner, **OPTIONS)
    message = str(caught.value)
    assert str(V) in message
    assert "170" in message
    assert "179" in message
    assert "c/17/0" in message
    assert len(dnmf.open(out).history) == 2
    chunk.write_bytes(whole)
    result = dnmf.resume(out, **runner)
    assert_undisturbed(result, undisturbed)


@pytest.mark.parametrize("name", ["data", "indices", "indptr"])
def test_a_chunk_of_csr_that_is_deleted_during_a_fit(tmp_path, name):
    """It reads as zeros; it is named, and once it is restored the run goes on."""
    X = sp.csr_array(np.random.default_rng(0).poisson(1.0, (240, 30)).astype("f4"))
    group = zarr.create_group(str(tmp_path / "V.zarr"))
    group.attrs.update({"encoding-type": "csr_matrix", "shape": [240, 30]})
    for part in ("data", "indices", "indptr"):
        group.create_array(part, data=getattr(X, part), chunks=(200,))
    chunk = tmp_path / "V.zarr" / name / "c" / "1"
    options = {**OPTIONS, "block_size": 10 * 256, "executor": Serial()}
    expected = dnmf.fit(tmp_path / "V.zarr", **options)

    def delete(event):
        if isinstance(event, Committed) and event.kind == "pass" and event.rows[0]["pass"] == 2:
            os.rename(chunk, tmp_path / "chunk")

    with pytest.raises(CorruptDataError, match=f"missing.*{name}/c/1|{name}/c/1.*missing"):
        dnmf.fit(tmp_path / "V.zarr", out=tmp_path / "out", on_event=delete, **options)
    os.rename(tmp_path / "chunk", chunk)
    result = dnmf.resume(tmp_path / "out", executor=Serial())
    np.testing.assert_array_equal(result.W[:], expected.W[:])


def test_a_kept_segment_of_which_a_chunk_is_missing(undisturbed, tmp_path):
    """Read by a loader, which is asked for it later."""
    V, out = tmp_path / "V.zarr", tmp_path / "out"
    shutil.copytree(undisturbed.V, V)
    dnmf.fit(V, out=out, executor=Serial(), **OPTIONS)
    (V / "c" / "17" / "0").unlink()
    context = Context.open(str(out))
    loaded = Loader(context)(17)
    with pytest.raises(CorruptDataError, match="missing now: c/17/0"):
        next(read_segment(context, 17, np.zeros(SEGMENTS, np.uint64), loaded))


def test_data_that_changed_since_the_scan_are_refused(undisturbed, tmp_path):
    V, out = tmp_path / "V.zarr", tmp_path / "out"
    shutil.copytree(undisturbed.V, V)
    stop = Fault("record-committed", "interrupt", {"index": 2})
    with faults.active(tmp_path / "f", [stop]), pytest.raises(KeyboardInterrupt):
        dnmf.fit(V, out=out, executor=Serial(), **OPTIONS)
    zarr.open_array(V, mode="r+")[93, 7] += 1
    with pytest.raises(CorruptDataError, match=r"rows 90 to 99 .* changed since the scan"):
        dnmf.resume(out, executor=Serial())
    assert SEGMENTS == 24
