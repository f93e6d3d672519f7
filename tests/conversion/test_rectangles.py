"""Any rectangle of any source as a dense array, and numbers that do not fit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from dnmf.conversion.rectangles import cast_into, read_rectangle, read_unit
from dnmf.errors import InputError
from dnmf.sources import Source, open_source
from dnmf.testing.source_contract import sample_matrix

V = sample_matrix("float64", 61, 47)


@lru_cache
def _zarr(chunks: tuple[int, int]) -> Source:
    return open_source(zarr.create_array(zarr.storage.MemoryStore(), data=V, chunks=chunks))


SOURCES: dict[str, Callable[[], Source]] = {
    "rows": lambda: _zarr((7, 47)),
    "tall": lambda: _zarr((61, 3)),
    "grid": lambda: _zarr((20, 11)),
    "one": lambda: _zarr((61, 47)),
    "small": lambda: _zarr((2, 5)),
    "memory": lambda: open_source(V),
    "sparse": lambda: open_source(sp.csr_array(V)),
}


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(SOURCES)),
    rows=st.tuples(st.integers(0, 60), st.integers(1, 61)),
    columns=st.tuples(st.integers(0, 46), st.integers(1, 47)),
    read_bytes=st.sampled_from([1, 500, 5000, 10**6]),
    dtype=st.sampled_from(["float64", "float32", "uint8"]),
)
def test_reads_any_rectangle(name: str, rows, columns, read_bytes: int, dtype: str) -> None:
    rows, columns = sorted(rows), sorted(columns)
    if rows[0] == rows[1] or columns[0] == columns[1]:
        return
    expected = V[slice(*rows), slice(*columns)]
    out = np.full(expected.shape, 77, dtype)
    read_rectangle(SOURCES[name](), tuple(rows), tuple(columns), out, read_bytes)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("name", SOURCES)
def test_unit_is_what_is_decoded_together(name: str) -> None:
    known = {"rows": (7, 47), "tall": (61, 3), "grid": (20, 11), "one": (61, 47), "small": (2, 5)}
    assert read_unit(SOURCES[name]()) == known.get(name, (1, 47))


MEASURE = """
import sys, tracemalloc
import numpy as np, zarr
from dnmf.sources import open_source
from dnmf.conversion.rectangles import read_need, read_rectangle

folder, *chunks = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
data = np.random.default_rng(0).random((4000, 2000), dtype="float32")
source = open_source(zarr.create_array(folder, data=data, chunks=chunks))
for read_bytes in 100_000, 2_000_000:
    out = np.empty((1000, 2000), "float64")
    read_rectangle(source, (0, 10), (0, 10), np.empty((10, 10)), read_bytes)  # opened, warmed up
    peaks = []
    for _ in range(8):  # Zarr's threads may hold on to what they read last
        tracemalloc.start()
        read_rectangle(source, (500, 1500), (0, 2000), out, read_bytes)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    np.testing.assert_array_equal(out, data[500:1500])
    print(min(peaks), read_need(source, read_bytes))
"""


@pytest.mark.parametrize("chunks", [(100, 2000), (4000, 50), (500, 500), (4000, 2000), (137, 141)])
def test_need_is_an_upper_estimate(tmp_path: Path, chunks: tuple[int, int]) -> None:
    """Measured: what reading takes beyond ``out``, against what was predicted.

    In a process of its own: threads that earlier tests left behind allocate too.
    """
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "V"), *map(str, chunks)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    measured = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(measured) == 2
    for peak, predicted in measured:
        assert peak < 1.1 * predicted + 3e5, f"{peak:,} bytes, {predicted:,} predicted"


FITS = [
    ([1e30, 0.1], "float32"),
    ([np.inf, np.nan], "float32"),
    ([65504.0], "float16"),
    ([255.0, 0.0], "uint8"),
    ([-128, 127], "int8"),
    ([0, 1], "bool"),
    ([True, False], "int8"),
    ([2**62], "uint64"),
]
REFUSED = [
    ([0, 1e39], "float32", r"1e\+39 in row 5 or after it does not fit float32"),
    ([70000], "float16", "70000 in row 5"),
    ([0.5], "int16", "0.5 in row 5"),
    ([np.nan], "int16", "nan in row 5"),
    ([2.0**63], "int64", "does not fit int64"),
    ([-1], "uint8", "-1 in row 5"),
    ([1, 256], "uint8", "256 in row 5"),
    ([2], "bool", "2 in row 5"),
]


@pytest.mark.parametrize(("values", "dtype"), FITS)
def test_numbers_that_fit(values: list[float], dtype: str) -> None:
    out = np.empty(len(values), dtype)
    cast_into(out, np.array(values), 0, 0)
    np.testing.assert_allclose(out.astype(float), np.array(values, float), rtol=1e-6)


@pytest.mark.parametrize(("values", "dtype", "message"), REFUSED)
def test_numbers_that_do_not_fit(values: list[float], dtype: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        cast_into(np.empty(len(values), dtype), np.array(values), 5, 0)


def test_the_entry_that_does_not_fit_is_named() -> None:
    values = np.zeros((3, 4))
    values[1, 2] = -7
    with pytest.raises(InputError, match=r"-7.0 at row 11, column 22 does not fit uint8"):
        cast_into(np.empty((3, 4), "uint8"), values, 10, 20)
