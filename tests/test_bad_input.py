"""What bad input gets from ``dnmf.fit``: one clear message, and nothing left behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import zarr

import dnmf
from dnmf.config import MIB
from dnmf.errors import (
    CorruptDataError,
    InputError,
    MemoryPlanError,
    OutputExistsError,
    RunError,
)
from dnmf.steps.serial import Serial
from dnmf.testing.layouts import write_compressed, write_dense
from dnmf.testing.problems import planted_poisson

V = planted_poisson(n=40, d=12, k=3).dense


@pytest.fixture
def refused(tmp_path):
    """Fits a matrix that must be refused, and sees that nothing was left where W would be."""

    def run(matrix, error, match, k=3, out=None, **options):
        target = tmp_path / "out" / "run" if out is None else Path(out)
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(error, match=match) as caught:
            dnmf.fit(matrix, k, out=target, **options)
        assert sorted(tmp_path.rglob("*")) == before
        assert caught.value.exit_code == 2
        with pytest.raises(error, match=match):
            dnmf.fit(matrix, k, **options)  # the same without a run folder
        return str(caught.value)

    return run


def test_a_path_that_does_not_exist(refused, tmp_path):
    refused(tmp_path / "nowhere.zarr", InputError, r"nowhere\.zarr.*(not exist|nothing|no such)")


def test_a_file_that_is_not_zarr(refused, tmp_path):
    (tmp_path / "table.csv").write_text("1,2\n")
    refused(tmp_path / "table.csv", InputError, r"table\.csv")


def test_a_folder_that_is_not_zarr(refused, tmp_path):
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", InputError, r"folder.*(not|no) .*Zarr|not a Zarr")


def test_a_group_without_a_matrix_lists_its_arrays(refused, tmp_path):
    group = zarr.open_group(tmp_path / "store.zarr", mode="w")
    for name in ("counts", "normalised"):
        group.create_array(name, data=V)
    refused(tmp_path / "store.zarr", InputError, r"counts.*normalised")


@pytest.mark.parametrize("shape", [(40,), (4, 10, 3)])
def test_one_or_three_dimensions(refused, tmp_path, shape):
    zarr.create_array(tmp_path / "V.zarr", data=np.ones(shape))
    dimensions = rf"{len(shape)} dimensions?.*must have 2"
    refused(tmp_path / "V.zarr", InputError, dimensions)
    refused(np.ones(shape), InputError, dimensions)


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "object", "U3", "M8[s]"])
def test_dtypes_that_are_no_numbers(refused, dtype):
    refused(np.ones((4, 3)).astype(dtype), InputError, r"dtype .*real entries")


def test_a_complex_zarr_array(refused, tmp_path):
    zarr.create_array(tmp_path / "V.zarr", data=np.ones((4, 3), complex))
    refused(tmp_path / "V.zarr", InputError, r"complex128.*real entries")


@pytest.mark.parametrize("matrix", [[[1.0, 2.0]], None, 3.0, {"a": 1}])
def test_what_is_no_matrix_at_all(refused, matrix):
    refused(matrix, InputError, r"V is of type (list|NoneType|float|dict)")


@pytest.mark.parametrize(("shape", "what"), [((0, 5), "rows"), ((5, 0), "columns")])
def test_no_rows_or_no_columns(refused, shape, what):
    refused(np.ones(shape), InputError, f"it has no {what}")
    refused(sp.csr_array(shape), InputError, f"it has no {what}")


@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
def test_nothing_but_zeros(refused, make):
    refused(make(np.zeros((7, 5))), InputError, r"V \(7 x 5\) has nothing but zeros")


@pytest.mark.parametrize("make", [np.asarray, sp.csr_array, "zarr"])
@pytest.mark.parametrize(
    ("value", "what"), [(np.nan, "NaN"), (np.inf, "infinite"), (-3.5, r"-3\.5")]
)
def test_entries_that_are_no_part_of_v(refused, tmp_path, make, value, what):
    bad = V.copy()
    bad[[17, 29], [5, 2]] = value
    matrix = write_dense(tmp_path / "V.zarr", bad, (7, 5)) if make == "zarr" else make(bad)
    message = refused(matrix, InputError, rf"V\[17, 5\] is {what}", block_size=500)
    assert "2 entries are such" in message


def test_entries_beyond_float32(refused):
    wide = V.astype(float)
    wide[3, 4] = 1e300
    refused(wide, InputError, r"V\[3, 4\] is infinite \(computing in float32", dtype="float32")
    refused(wide, InputError, r"largest entry of V is 1e\+300")


def test_a_missing_chunk_is_named(refused, tmp_path):
    write_dense(tmp_path / "V.zarr", V + 1, (10, 12))
    (tmp_path / "V.zarr" / "c" / "2" / "0").unlink()
    message = refused(
        tmp_path / "V.zarr", CorruptDataError, r"1 of 4 chunks of .* are missing: .*2/0"
    )
    assert "--missing-chunks fill" in message
    fit = dnmf.fit(tmp_path / "V.zarr", 3, seed=0, missing_chunks="fill")
    assert not fit.W[20:30].any()


def test_a_truncated_chunk_is_named(refused, tmp_path):
    write_dense(tmp_path / "V.zarr", V + 1, (10, 12))
    chunk = tmp_path / "V.zarr" / "c" / "2" / "0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    refused(tmp_path / "V.zarr", CorruptDataError, r"2/0")


def _csr(tmp_path):
    shutil.rmtree(tmp_path / "V.zarr", ignore_errors=True)
    return write_compressed(tmp_path / "V.zarr", sp.csr_array(V), 50)


def test_indptr_that_decreases(refused, tmp_path):
    indptr = _csr(tmp_path)["indptr"]
    indptr[10] = int(indptr[9]) - 1
    refused(tmp_path / "V.zarr", CorruptDataError, r"indptr decreases from \d+ to \d+ at row 9")


@pytest.mark.parametrize("index", [12, -1, 10**6])
def test_column_indices_out_of_range(refused, tmp_path, index):
    group = _csr(tmp_path)
    row = int(np.flatnonzero(np.diff(group["indptr"][:]))[5])
    group["indices"][int(group["indptr"][row])] = index
    found = rf"column index {index} in row {row}, but there are 12 columns"
    refused(tmp_path / "V.zarr", CorruptDataError, found)


def test_an_output_that_exists(refused, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match="mine"):
            dnmf.fit(V, 3, out=tmp_path / "mine", overwrite=overwrite)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "all of it"


def test_an_output_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "run", Path("/proc/no/run")):
        with pytest.raises((RunError, OutputExistsError), match=str(path)):
            dnmf.fit(V, 3, out=path)


def test_an_output_on_an_object_store(tmp_path):
    with pytest.raises(RunError, match="memory://run"):
        dnmf.fit(V, 3, out="memory://run")


def test_an_output_around_the_data_is_not_overwritten(tmp_path):
    dnmf.fit(V, 3, seed=0, out=tmp_path / "run")
    with pytest.raises(OutputExistsError, match="contains the data to read"):
        dnmf.fit(tmp_path / "run" / "W", 2, out=tmp_path / "run", overwrite=True)
    assert dnmf.open(tmp_path / "run").W.shape == (40, 3)


def test_a_failed_overwrite_keeps_what_was_there(tmp_path):
    before = dnmf.fit(V, 3, seed=0, out=tmp_path / "run")
    with pytest.raises(InputError, match="NaN"):
        dnmf.fit(np.full((5, 4), np.nan), 2, out=tmp_path / "run", overwrite=True)
    again = dnmf.open(tmp_path / "run")
    assert again.objective == before.objective
    np.testing.assert_array_equal(again.W[:], before.W[:])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_memory_limit_that_cannot_work(refused):
    message = refused(V, MemoryPlanError, r"a worker would need", executor=Serial(100 * MIB))
    assert "limit of 105 MB" in message
    assert "Remedies: give each worker" in message


def test_chunks_that_cannot_be_decoded_within_the_bound(refused, tmp_path):
    write_dense(tmp_path / "V.zarr", np.ones((600, 600)), (600, 600))
    refused(
        tmp_path / "V.zarr",
        MemoryPlanError,
        r"3 MiB by rows and 3 MiB by columns, more than max_block \(1 MiB\).*dnmf convert",
        max_block="1MiB",
    )


def test_a_mask_is_not_lost_silently(refused):
    refused(np.ma.masked_less(V, 1), InputError, "masked array")
