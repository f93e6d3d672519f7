"""NumPy's format without NumPy's parser: the same arrays, and errors for everything else."""

from __future__ import annotations

import ast
import io
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnmf.npy_header import read_array, read_header

DTYPES = ("<f4", "<f8", ">f4", "|u1", "<i8", "|b1", "<c16", "<M8[s]", "|S3", "<U2", ">i2")
SHAPES = [(), (0,), (7,), (3, 4), (0, 4), (2, 3, 4), (1,)]


def saved(array: np.ndarray) -> io.BytesIO:
    file = io.BytesIO()
    np.save(file, array)
    file.seek(0)
    return file


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_headers_are_what_numpy_says(dtype, fortran):
    for shape in SHAPES:
        array = np.zeros(shape, dtype)
        array = np.asfortranarray(array) if fortran else array
        file = saved(array)
        found = read_header(file)
        assert (found.shape, found.dtype) == (array.shape, array.dtype)
        assert len(file.read()) == array.nbytes
        assert found.fortran_order == (array.flags.f_contiguous and not array.flags.c_contiguous)


def test_structured_dtypes_go_to_numpy():
    array = np.zeros(3, [("a", "f4"), ("b", "i8")])
    assert read_header(saved(array)).dtype == array.dtype


def test_arrays_come_back_and_no_parser_runs(tmp_path, monkeypatch):
    """Python's parser fails now and then while several threads use it."""

    def refuse(*_):
        raise AssertionError("ast.literal_eval")

    array = np.arange(12, dtype="f4").reshape(3, 4)
    np.save(tmp_path / "a.npy", array)
    monkeypatch.setattr(ast, "literal_eval", refuse)
    with (tmp_path / "a.npy").open("rb") as file:
        found = read_array(file)
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


@pytest.mark.parametrize("array", [np.array([None]), np.ones((2, 3), order="F")])
def test_what_dnmf_never_writes_is_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with (tmp_path / "a.npy").open("rb") as file, pytest.raises(ValueError, match="it holds"):
        read_array(file)


@given(st.binary(max_size=200), st.integers(0, 127), st.sampled_from(["f4", "i8", "c8"]))
@settings(max_examples=300, deadline=None)
def test_damaged_headers_are_value_errors(noise, at, dtype):
    data = bytearray(saved(np.ones((3, 4), dtype)).getvalue())
    data[at : at + len(noise)] = noise
    try:
        read_header(io.BytesIO(bytes(data)))
    except ValueError:
        return


def test_it_is_here_for_python_3_11() -> None:
    """Where 3.12 is the oldest, `dnmf.npy_header` gives way to `numpy.lib.format`."""
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())
    assert project["project"]["requires-python"] == ">=3.11"
