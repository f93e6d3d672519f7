"""convert: chunks, layouts, types and files, serially and on workers."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
import zarr
from cli_tools import planted


@pytest.fixture
def sparse() -> sp.csr_array:
    """80 x 30, a third of it stored."""
    dense = planted(80, 30)
    dense[np.random.default_rng(1).random(dense.shape) > 1 / 3] = 0
    return sp.csr_array(dense)


def read_csr(path) -> np.ndarray:
    group = zarr.open_group(path, mode="r")
    assert group.attrs["encoding-type"] == "csr_matrix"
    parts = tuple(group[name][:] for name in ("data", "indices", "indptr"))
    return sp.csr_array(parts, shape=tuple(group.attrs["shape"])).toarray()


def done(result) -> None:
    assert result.exit_code == 0, result.output


def test_npy_to_chunks_and_type(run, tmp_path):
    V = planted(100, 30)
    np.save(tmp_path / "V.npy", V)
    out = tmp_path / "V.zarr"
    options = ("--chunks", "16,10", "--dtype", "float64", "--workers", 0)
    printed = run("convert", tmp_path / "V.npy", out, *options)
    done(printed)
    written = zarr.open_array(out, mode="r")
    assert written.chunks == (16, 10)
    assert written.dtype == np.float64
    np.testing.assert_array_equal(written[:], V.astype(float))
    for said in (str(out), "dense", "100 x 30", "float64", "16 x 10"):
        assert said in printed.stdout


def test_dense_to_csr_and_back(run, sparse, tmp_path):
    np.save(tmp_path / "V.npy", sparse.toarray())
    csr, dense = tmp_path / "csr.zarr", tmp_path / "dense.zarr"
    printed = run("convert", tmp_path / "V.npy", csr, "--to", "csr", "--workers", 0)
    done(printed)
    assert f"{sparse.nnz:,} entries" in printed.stdout
    np.testing.assert_array_equal(read_csr(csr), sparse.toarray())
    done(run("convert", csr, dense, "--to", "dense", "--workers", 0))
    np.testing.assert_array_equal(zarr.open_array(dense, mode="r")[:], sparse.toarray())


def test_matrix_market_can_be_fitted_after_it(run, sparse, tmp_path):
    scipy.io.mmwrite(tmp_path / "V.mtx", sparse)
    done(run("convert", tmp_path / "V.mtx", tmp_path / "V.zarr", "--workers", 0))
    np.testing.assert_allclose(read_csr(tmp_path / "V.zarr"), sparse.toarray(), rtol=1e-6)
    options = ("-k", 3, "--max-passes", 3, "--workers", 0)
    done(run("fit", tmp_path / "V.zarr", "--out", tmp_path / "fit.zarr", *options))


def test_an_existing_target_is_kept_without_overwrite(run, tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        np.save(tmp_path / f"{name}.npy", planted(20, 5, seed=seed))
    out = tmp_path / "out.zarr"
    done(run("convert", tmp_path / "a.npy", out, "--workers", 0))
    refused = run("convert", tmp_path / "b.npy", out, "--workers", 0)
    assert refused.exit_code == 2
    assert "out.zarr" in refused.stderr
    np.testing.assert_array_equal(zarr.open_array(out, mode="r")[:], planted(20, 5))
    done(run("convert", tmp_path / "b.npy", out, "--workers", 0, "--overwrite"))
    np.testing.assert_array_equal(zarr.open_array(out, mode="r")[:], planted(20, 5, seed=1))


def test_memory_that_cannot_work_is_refused(run, tmp_path):
    np.save(tmp_path / "V.npy", planted(20, 5))
    refused = run("convert", tmp_path / "V.npy", tmp_path / "o", "--workers", 0, "--memory", "1MB")
    assert refused.exit_code == 2
    assert "MB" in refused.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.cluster
def test_workers_write_the_same(run, V, tmp_path):
    options = ("--chunks", "7,30", "--workers", 2, "--threads", 1, "--memory", "1GB")
    done(run("convert", V, tmp_path / "out.zarr", *options))
    written = zarr.open_array(tmp_path / "out.zarr", mode="r")
    assert written.chunks == (7, 30)
    np.testing.assert_array_equal(written[:], zarr.open_array(V, mode="r")[:])
