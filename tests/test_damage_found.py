"""What the corpus of damaged stores found, one by one: each was a traceback, a crash or worse."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from corpus_layouts import LAYOUTS
from corpus_tools import fitted

import dnmf
from dnmf.errors import CorruptDataError, InputError, MemoryPlanError, RunError
from dnmf.steps.serial import Serial


@pytest.fixture
def make(tmp_path):
    """Writes a layout of the corpus; its path."""

    def write(layout: str) -> Path:
        name, writer = LAYOUTS[layout]
        writer(tmp_path / name)
        return tmp_path / name

    return write


def edit(path: Path, name: str, *keys: Any, value: Any) -> None:
    """Set a field of JSON metadata."""
    document = json.loads((path / name).read_text())
    holder = document
    for key in keys[:-1]:
        holder = holder[key]
    holder[keys[-1]] = value
    (path / name).write_text(json.dumps(document))


@pytest.mark.parametrize("part", ["data", "indices", "indptr"])
def test_metadata_of_a_part_of_a_sparse_matrix_that_cannot_be_read(make, part):
    path = make("csr")
    (path / part / "zarr.json").write_text("{")
    with pytest.raises(InputError, match=rf"metadata of .*{part} cannot be read"):
        fitted(path)


def test_metadata_of_a_member_of_a_group_that_is_no_matrix(make):
    path = make("csr")
    edit(path, "zarr.json", "attributes", "encoding-type", value=7)
    (path / "data" / "zarr.json").write_text("{")
    with pytest.raises(InputError, match="not a matrix"):
        fitted(path)


@pytest.mark.parametrize("part", ["data", "indices", "indptr"])
def test_a_missing_chunk_of_a_sparse_matrix_is_no_zeros(make, part):
    """Rows of zeros are likely there, but chunks hold what is not zero."""
    path = make("csr-raw")
    (path / part / "c" / "1").unlink()
    with pytest.raises(CorruptDataError):
        fitted(path)


def test_a_missing_shard_is_no_zeros(make):
    path = make("zarr-shards")
    (path / "c" / "1" / "0").unlink()
    with pytest.raises(CorruptDataError, match=r"are missing: c/1/0"):
        fitted(path)


def test_columns_that_are_missing_altogether(make):
    path = make("zarr")
    edit(path, "zarr.json", "shape", 1, value=24)
    with pytest.raises(CorruptDataError, match=r"12 of 24 chunks of .* are missing"):
        fitted(path)


@pytest.mark.parametrize("layout", ["zarr-v2", "csr-v2"])
def test_chunks_of_no_entries(make, layout):
    path = make(layout)
    name = ".zarray" if layout == "zarr-v2" else "indices/.zarray"
    edit(path, name, "chunks", 0, value=0)
    with pytest.raises(InputError, match="chunks"):
        fitted(path)


@pytest.mark.parametrize("columns", [-1, 10**30])
def test_absurd_shapes(make, columns):
    path = make("csr-v2")
    edit(path, ".zattrs", "shape", 1, value=columns)
    with pytest.raises(InputError, match="which nothing is"):
        fitted(path)


def test_so_many_columns_that_slabs_would_fill_memory(make):
    path = make("csr-v2")
    edit(path, ".zattrs", "shape", 1, value=2**40)
    with pytest.raises(MemoryPlanError, match="slabs"):
        fitted(path)


def test_so_many_rows_that_listing_the_blocks_never_ends(make):
    path = make("zarr-gzip")
    edit(path, "zarr.json", "shape", 0, value=10**12)
    with pytest.raises(MemoryPlanError, match="blocks"):
        fitted(path)


def test_numbers_whose_sums_overflow(make):
    path = make("csr-wide")
    zarr.open_group(path)["data"][5:9] = np.float32(3e38)
    with pytest.raises(InputError, match=r"largest entry of V is 3e\+38"):
        fitted(path)


def test_signalling_nans(make):
    path = make("zarr-raw")
    bits = np.full(8, 0x7FA00000, np.uint32).tobytes()
    chunk = path / "c" / "3" / "0"
    chunk.write_bytes(bits + chunk.read_bytes()[len(bits) :])
    with pytest.raises(InputError, match=r"V\[30, 0\] is NaN"):
        fitted(path)


def convert(path: Path) -> None:
    dnmf.convert(path, path.parent / "out.zarr", memory="1GiB", executor=Serial())


@pytest.mark.parametrize("byte", [0, 255, 7])
def test_bytes_that_crash_the_parser_of_matrix_market(make, byte):
    path = make("mtx")
    data = bytearray(path.read_bytes())
    data[400:600] = bytes([byte]) * 200
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"line \d+: byte {byte} is no part of a number"):
        convert(path)


@pytest.mark.parametrize(("offset", "value"), [(6, 200), (8, 1), (10, 99)])
def test_an_archive_that_python_does_not_know_how_to_read(make, offset, value):
    """Version needed, encryption flag and compression method of its first member."""
    path = make("npz-csr")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + offset] = value
    path.write_bytes(data)
    assert zipfile.is_zipfile(path)
    with pytest.raises(CorruptDataError, match=r"V\.npz cannot be read"):
        convert(path)


@pytest.fixture
def result(make, tmp_path):
    """A finished result, several chunks of V."""
    dnmf.fit(make("zarr"), 2, out=tmp_path / "out", seed=0, max_passes=2, executor=Serial())
    return tmp_path / "out"


def test_a_missing_chunk_of_a_result_is_no_zeros(result):
    shutil.rmtree(result / "W" / "c")
    with pytest.raises(RunError, match="W is damaged: 1 of 1 chunks are missing"):
        dnmf.open(result)


@pytest.mark.parametrize("name", ["W", "H"])
def test_a_damaged_chunk_of_a_result_is_a_dnmf_error(result, name):
    chunk = result / name / "c" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[-6] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(RunError, match=f"{name} is damaged"):
        getattr(dnmf.open(result), name)[:]
    with pytest.raises(RunError, match=f"{name} is damaged"):
        np.asarray(getattr(dnmf.open(result), name))


def test_a_changed_number_in_the_metadata_of_a_result(result):
    text = (result / "zarr.json").read_text()
    edit(result, "zarr.json", "attributes", "dnmf", "objective", value=1.0)
    with pytest.raises(RunError, match="metadata differ from their checksum"):
        dnmf.open(result)
    (result / "zarr.json").write_text(text)
    meta = ("consolidated_metadata", "metadata", "W", "codecs", 0, "configuration", "endian")
    edit(result, "zarr.json", *meta, value="big")
    with pytest.raises(RunError, match="W is damaged: it is not the array"):
        dnmf.open(result)
