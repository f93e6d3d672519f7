"""The result as a Zarr group: whole or no group at all, and what xarray and Zarr make of it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr

import dnmf
from dnmf.errors import RunError
from dnmf.interop import as_source
from dnmf.results.opening import open_result
from dnmf.runs.folder import FolderStore
from dnmf.runs.layout import examine, published_attributes
from dnmf.runs.published import create_arrays, finish, write_H, write_W
from dnmf.runs.sealed import seal
from dnmf.sources import from_spec
from dnmf.testing import faults
from dnmf.testing.faults import Fault

W = np.arange(22, dtype="f4").reshape(11, 2)
W[4:8] = 0  # a whole chunk of zeros
H = np.linspace(0, 1, 14, dtype="f4").reshape(2, 7)
HISTORY = {
    "pass": [1, 2, 3],
    "objective": [3.0, 2.0, np.nan],
    "accepted": np.array([True, False, True]),
    "bytes_read": np.array([2**40, 1, 2]),
}
FACTS = {"objective": 2.0, "stop_reason": "because", "kkt": float("nan"), "k": np.int64(2)}


@pytest.fixture
def path(tmp_path):
    return FolderStore.create_new(tmp_path / "out.zarr", {}).path


def write_factors(path, group=""):
    create_arrays(path, 11, 7, 2, "f4", 4, chunk_columns=3, group=group)
    for start in (8, 0, 4):
        write_W(path, start, W[start : start + 4], group=group)
    write_H(path, 3, H[:, 3:], group=group)
    write_H(path, 0, H[:, :3], group=group)


def test_xarray_opens_it_with_named_dimensions_and_no_warning(path):
    write_factors(path)
    finish(path, FACTS, HISTORY)
    with xarray.open_zarr(path) as found:  # warnings are errors here
        assert found.W.dims == ("row", "component")
        assert found.H.dims == ("component", "column")
        assert found.objective.dims == ("pass",)
        assert found.objective.sel({"pass": 2}) == 2.0
        assert dict(found.sizes) == {"row": 11, "component": 2, "column": 7, "pass": 3}
        assert found.accepted.dtype == bool
        np.testing.assert_array_equal(found.W, W)
        np.testing.assert_array_equal(found.H, H)
        np.testing.assert_array_equal(found.objective, HISTORY["objective"])
        np.testing.assert_array_equal(found.bytes_read, HISTORY["bytes_read"])
        assert found.attrs["dnmf"]["stop_reason"] == "because"
        assert found.W.encoding["chunks"] == (4, 2)
    with xarray.open_dataset(path, engine="zarr", consolidated=False) as found:
        assert found.H.encoding["chunks"] == (2, 3)


def test_zarr_opens_it_with_and_without_consolidated_metadata(path):
    write_factors(path)
    finish(path, FACTS, HISTORY)
    for consolidated in (True, False):
        group = zarr.open_group(path, mode="r", use_consolidated=consolidated)
        assert sorted(group.group_keys()) == ([] if consolidated else [".dnmf"])
        assert group.metadata.zarr_format == 3
        assert sorted(group.array_keys()) == sorted(["W", "H", *HISTORY])
        assert group["W"].metadata.dimension_names == ("row", "component")
        np.testing.assert_array_equal(group["W"][:], W)


def test_attributes_are_strict_json(path):
    write_factors(path)
    finish(path, FACTS, HISTORY)
    with open(os.path.join(path, "zarr.json")) as file:
        found = json.load(file, parse_constant=pytest.fail)["attributes"]["dnmf"]
    checks = ("arrays", "chunks", "checksum")
    own = {name: value for name, value in found.items() if name not in checks}
    assert own == {
        "format": 1,
        "objective": 2.0,
        "stop_reason": "because",
        "kkt": None,
        "k": 2,
        "history_columns": list(HISTORY),
    }
    assert published_attributes(path) == found


@pytest.mark.parametrize("group", ["", "models/3"])
@pytest.mark.parametrize(("name", "chunks"), [("W", ("0/0", "1/0")), ("H", ("0/0", "0/1"))])
def test_chunks_in_each_others_place_are_noticed(path, group, name, chunks):
    write_factors(path, group)
    finish(path, FACTS, HISTORY, group=group)
    if group:
        finish(path, FACTS, {})
    result = open_result(path, 3 if group else 0)
    for opened in (result, pickle.loads(pickle.dumps(result))):
        np.testing.assert_array_equal(opened.W[:], W)
        np.testing.assert_array_equal(opened.H[:], H)
    a, b = (os.path.join(path, group, name, "c", chunk) for chunk in chunks)
    os.rename(a, a + "-")
    os.rename(b, a)
    os.rename(a + "-", b)
    swapped = open_result(path, 3 if group else 0)
    with pytest.raises(RunError, match=rf"{name} is damaged: .*{name}/c/\d/\d is not the one that"):
        getattr(swapped, name)[:]
    other = "H" if name == "W" else "W"
    np.testing.assert_array_equal(getattr(swapped, other)[:], H if other == "H" else W)


def test_a_result_from_before_chunks_had_their_place_is_read(path):
    write_factors(path)
    finish(path, FACTS, HISTORY)
    file = Path(path, "zarr.json")
    metadata = json.loads(file.read_text())
    own = metadata["attributes"]["dnmf"]
    del own["chunks"]
    metadata["attributes"]["dnmf"] = seal(own)
    file.write_text(json.dumps(metadata))
    np.testing.assert_array_equal(open_result(path).W[:], W)


def test_until_finish_it_is_no_zarr_group(path):
    write_factors(path)
    with pytest.raises(FileNotFoundError):
        zarr.open_group(path, mode="r")
    assert examine(path).kind == "run"
    finish(path, {}, {})
    assert zarr.open_group(path, mode="r")["H"].shape == (2, 7)
    assert examine(path).kind == "result"


def test_everything_may_happen_twice(path):
    for _ in range(2):
        write_factors(path)
        create_arrays(path, 11, 7, 2, "f4", 4, chunk_columns=3)
        finish(path, FACTS, HISTORY)
    np.testing.assert_array_equal(zarr.open_group(path, mode="r")["W"][:], W)
    create_arrays(path, 11, 7, 2, "f8", 4)  # another type: a fresh array
    assert zarr.open_array(f"{path}/W").dtype == np.float64
    with pytest.raises(RunError, match="not complete"):
        finish(path, FACTS, HISTORY)


@pytest.mark.parametrize("name", ["W", "H", "objective"])
def test_metadata_that_a_power_failure_left_empty_are_written_again(path, name):
    (Path(path) / name).mkdir()
    (Path(path) / name / "zarr.json").touch()
    write_factors(path)
    finish(path, FACTS, HISTORY)
    found = open_result(path)
    np.testing.assert_array_equal(found.W[:], W)
    assert found.history[0]["objective"] == 3.0


def test_a_part_that_was_not_written_is_found(path):
    create_arrays(path, 11, 7, 2, "f4", 4)
    write_W(path, 0, W[:4])
    write_W(path, 8, W[8:])
    write_H(path, 0, H)
    with pytest.raises(RunError, match=r"W is not complete: 4 to 7 were not written"):
        finish(path, {}, {})
    write_W(path, 4, W[4:8])  # zeros are written too
    finish(path, {}, {})


@pytest.mark.parametrize(
    ("write", "start", "part", "why"),
    [
        (write_W, 2, W[2:6], "whole chunks of 4 up to 11, not 2:6"),
        (write_W, 0, W[:6], "whole chunks"),
        (write_W, 8, W[:4], "whole chunks"),
        (write_W, 0, W[:4].astype("f8"), "float64"),
        (write_W, 0, W[:4, :1], r"\(4, 1\)"),
        (write_H, 1, H[:, 1:], "whole chunks of 3"),
        (write_H, 0, H[:1], r"\(1, 7\)"),
    ],
)
def test_misplaced_parts_are_refused(path, write, start, part, why):
    create_arrays(path, 11, 7, 2, "f4", 4, chunk_columns=3)
    with pytest.raises(RunError, match=why):
        write(path, start, part)


@pytest.mark.parametrize(
    ("history", "why"),
    [
        ({"a": [1, 2], "b": [1]}, "differ in length: a 2, b 1"),
        ({"a": ["x"]}, "not one of numbers"),
        ({"a": [[1.0]]}, "not one of numbers"),
        ({"W": [1.0]}, "not one of numbers"),
    ],
)
def test_a_history_must_be_columns_of_numbers(path, history, why):
    write_factors(path)
    with pytest.raises(RunError, match=why):
        finish(path, {}, history)
    assert examine(path).kind == "run"


def test_results_without_H_or_without_passes(path):
    create_arrays(path, 11, None, 2, "f4", 100)
    write_W(path, 0, W)
    finish(path, {}, {"objective": np.zeros(0)})
    with xarray.open_zarr(path) as found:
        assert list(found.variables) == ["W", "objective"]
        assert found.sizes["pass"] == 0
        assert found.W.encoding["chunks"] == (11, 2)


def test_several_models_have_a_group_each(path):
    for model in range(2):
        write_factors(path, group=f"models/{model}")
        finish(path, {"model": model}, HISTORY, group=f"models/{model}")
        assert examine(path).kind == "run"
    finish(path, {"models": 2}, {})
    with xarray.open_zarr(path, group="models/1") as found:
        np.testing.assert_array_equal(found.W, W)
        assert found.attrs["dnmf"]["model"] == 1
    root = zarr.open_group(path, mode="r", use_consolidated=True)
    np.testing.assert_array_equal(root["models/0/H"][:], H)
    models = zarr.open_group(f"{path}/models", mode="r", use_consolidated=True)
    assert sorted(models.group_keys()) == ["0", "1"]
    with xarray.open_datatree(path, engine="zarr") as tree:
        assert tree["models/0/W"].shape == (11, 2)


def test_a_damaged_chunk_is_an_error_not_numbers(path):
    write_factors(path)
    finish(path, {}, {})
    chunk = os.path.join(path, "W", "c", "0", "0")
    with open(chunk, "r+b") as file:
        file.seek(-2, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-2, os.SEEK_END)
        file.write(bytes([byte ^ 1]))
    with pytest.raises((ValueError, RuntimeError)):
        zarr.open_group(path, mode="r")["W"][:]


def test_a_full_disk_is_named(path, tmp_path):
    create_arrays(path, 11, 7, 2, "f4", 4)
    with faults.active(tmp_path / "f", [Fault("array-writing", "enospc", {"kind": "W"})]):
        with pytest.raises(RunError, match="No space left"):
            write_W(path, 0, W)
        write_W(path, 0, W)


PUBLISH = """
import sys
import numpy as np
from dnmf.runs.published import create_arrays, finish, write_H, write_W
path = sys.argv[1]
create_arrays(path, 4, 3, 2, "f4", 2)
write_W(path, 0, np.ones((2, 2), "f4"))
write_W(path, 2, np.ones((2, 2), "f4"))
write_H(path, 0, np.ones((2, 3), "f4"))
finish(path, {}, {"objective": [1.0]})
"""


@pytest.mark.parametrize(
    ("point", "match", "kind"),
    [
        ("array-writing", {"kind": "W", "start": 2}, "run"),
        ("array-written", {"kind": "H"}, "run"),
        ("result-finishing", {}, "run"),
        ("result-published", {}, "result"),
    ],
)
def test_killed_while_publishing(path, tmp_path, point, match, kind):
    with faults.active(tmp_path / "f", [Fault(point, "kill", match)]):
        command = [sys.executable, "-c", PUBLISH, path]
        assert subprocess.run(command).returncode == -signal.SIGKILL
        assert examine(path).kind == kind
        assert subprocess.run(command).returncode == 0
    with xarray.open_zarr(path) as found:
        np.testing.assert_array_equal(found.W, np.ones((4, 2)))
        np.testing.assert_array_equal(found.H, np.ones((2, 3)))


def test_factors_of_a_result_are_sources_that_workers_can_open(tmp_path):
    fit = dnmf.fit(np.random.default_rng(0).random((40, 12)), 3, out=tmp_path / "fit.zarr")
    source = as_source(fit.W)
    assert source.persistent
    again = np.concatenate(list(from_spec(source.spec()).read_blocks([0, 40])))
    assert np.array_equal(again, fit.W[:])


@pytest.mark.parametrize("group", ["", "models/0"])
def test_chunks_that_are_lost_while_a_result_is_open_are_no_zeros(path, group):
    write_factors(path, group)
    for inside in [group, ""] if group else [""]:
        finish(path, FACTS, HISTORY, group=inside)
    held = open_result(path)
    assert np.array_equal(held.W[:], W)
    os.unlink(os.path.join(path, group, "W", "c", "2", "0"))
    assert np.array_equal(held.W[:8], W[:8])
    with pytest.raises(RunError, match=r"chunk .*W/c/2/0 is missing.*--overwrite"):
        held.W[8:]
    shutil.rmtree(path)
    for factor in (held.W, held.H):
        with pytest.raises(RunError, match="is missing"):
            factor[:]
        with pytest.raises(RunError, match="is missing"):
            np.asarray(factor)


def test_chunks_that_are_lost_on_an_object_store_are_no_zeros(path):
    import fsspec

    write_factors(path)
    finish(path, FACTS, HISTORY)
    storage = fsspec.filesystem("memory")
    storage.put(path, "/lost", recursive=True)
    held = open_result("memory://lost")
    assert np.array_equal(held.W[:], W)
    storage.rm("/lost", recursive=True)
    with pytest.raises(RunError, match=r"chunk W/c/0/0 is missing"):
        held.W[0]
