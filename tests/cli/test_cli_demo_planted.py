"""The planted matrix: its numbers, its size, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from dnmf.cli.demo_planted import NOISE, Planted, generate
from dnmf.cli.memory_use import Peaks, resident
from dnmf.errors import OptionError, OutputExistsError
from dnmf.executors.local import start_local

CHUNK = 16 * 10 * 4
"""Bytes of 16 rows of 10 columns."""


def make(tmp_path, **changes) -> Planted:
    values = {"path": str(tmp_path / "V.zarr"), "size": 4007, "columns": 10, "k": 3, "seed": 5}
    values["chunk_bytes"] = CHUNK
    return Planted(**(values | changes))


def test_size_is_what_was_asked_for_in_whole_rows(tmp_path):
    planted = make(tmp_path)
    squares = list(generate(planted, client=None))
    V = zarr.open_array(planted.path, mode="r")
    assert V.shape == (100, 10)
    assert V.dtype == np.float32
    assert V.chunks == (16, 10)
    assert V.nchunks_initialized == planted.chunks == len(squares) == 7


def test_entries_are_the_planted_product_within_the_noise(tmp_path):
    planted = make(tmp_path)
    squares, residuals = map(sum, zip(*generate(planted, client=None), strict=True))
    V = zarr.open_array(planted.path, mode="r")[:].astype(float)
    clean = np.vstack([planted.block(chunk)[1] for chunk in range(planted.chunks)]).astype(float)
    assert np.linalg.matrix_rank(clean, tol=1e-4) == planted.k
    assert V.min() >= 0
    assert np.all(np.abs(V - clean) <= (NOISE + 1e-6) * clean)
    assert squares == pytest.approx(np.sum(V**2), rel=1e-6)
    assert residuals == pytest.approx(np.sum((V - clean) ** 2), rel=1e-5)


def test_chunks_depend_on_seed_and_position_only(tmp_path):
    planted = make(tmp_path)
    again = [planted.block(chunk)[0] for chunk in reversed(range(planted.chunks))]
    list(generate(planted, client=None))
    V = zarr.open_array(planted.path, mode="r")[:]
    np.testing.assert_array_equal(V, np.vstack(again[::-1]))
    rows = [row.tobytes() for row in V if row.any()]
    assert len(set(rows)) == len(rows) > 80
    assert not np.array_equal(make(tmp_path, seed=6).block(0)[0], planted.block(0)[0])


def test_rows_wider_than_a_chunk_should_be(tmp_path):
    planted = make(tmp_path, columns=400, size=3 * 1600)
    assert (planted.rows, planted.chunk_rows, planted.chunks) == (3, 1, 3)


def test_less_than_a_row_is_refused(tmp_path):
    with pytest.raises(OptionError, match="39 bytes, less than one row of 10 columns"):
        make(tmp_path, size=39)


def test_more_than_the_disk_is_refused(tmp_path):
    with pytest.raises(OptionError, match=r"need 1\.9e\+09 GB of disk, .* GB are free"):
        make(tmp_path, size=10**18).check_disk()
    make(tmp_path).check_disk()


def test_an_existing_matrix_is_kept(tmp_path):
    planted = make(tmp_path)
    list(generate(planted, client=None))
    before = zarr.open_array(planted.path, mode="r")[:]
    with pytest.raises(OutputExistsError, match=r"V\.zarr exists"):
        list(generate(make(tmp_path, seed=6), client=None))
    np.testing.assert_array_equal(zarr.open_array(planted.path, mode="r")[:], before)


def test_resident_size_follows_the_memory_that_is_touched():
    before, peak_before = resident()
    block = np.ones(64 << 20, dtype=np.uint8)
    now, peak = resident()
    assert now - before > 50 << 20
    assert peak >= max(now - (1 << 20), peak_before)
    del block
    assert resident()[1] > peak - (1 << 20)  # the kernel counts in batches


@pytest.mark.cluster
def test_workers_write_the_same_matrix_and_their_peaks_are_seen(tmp_path):
    large = {"size": 4 * 10**7, "columns": 200, "k": 7, "chunk_bytes": Planted.chunk_bytes}
    serial = make(tmp_path, path=str(tmp_path / "serial.zarr"), **large)
    parallel = make(tmp_path, path=str(tmp_path / "workers.zarr"), **large)
    squares = list(generate(serial, client=None))
    with start_local(2, 1, 10**9) as client:
        peaks = Peaks(client)
        assert list(generate(parallel, client)) == squares
        lines = dict(peaks.lines(10**9))
    assert len(squares) == 3
    one, other = (zarr.open_array(which.path, mode="r")[:] for which in (serial, parallel))
    np.testing.assert_array_equal(one, other)
    assert lines["largest worker"].endswith("MB resident of 1 GB")
    assert float(lines["largest worker"].split()[0]) > 60
    assert "workers lost" not in lines
