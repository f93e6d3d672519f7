"""Rows of V that a page reads again: once, and never dense as a whole where V is sparse."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import zarr

import dnmf
from dnmf.reporting import rows
from dnmf.reporting.rows import row_errors
from dnmf.steps.serial import Serial


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, sp.csr_array]:
    """A fit of 500 x 10,000 CSR with 5 entries in a row: one block, 40 MB as float64."""
    folder = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(0)
    V = sp.csr_array(sp.random(500, 10_000, 5e-4, dtype="f4", random_state=rng))
    V.data += 0.1
    group = zarr.create_group(str(folder / "V.zarr"))
    group.attrs.update({"encoding-type": "csr_matrix", "shape": list(V.shape)})
    for name in ("data", "indices", "indptr"):
        group.create_array(name, data=getattr(V, name), chunks=(4096,))
    options: dict[str, Any] = {"seed": 0, "max_passes": 2, "executor": Serial()}
    return dnmf.fit(folder / "V.zarr", 2, out=folder / "fit", **options), V


def test_errors_of_sparse_rows_are_right_in_little_memory(wide: Any) -> None:
    fit, V = wide
    tracemalloc.start()
    found = row_errors(fit)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6
    dense = V.toarray().astype(float)
    product = np.asarray(fit.W[:], float) @ np.asarray(fit.H[:], float)
    sizes = np.linalg.norm(dense, axis=1)
    sizes[sizes == 0] = np.nan
    expected = np.linalg.norm(dense - product, axis=1) / sizes
    np.testing.assert_allclose(found.errors, expected, rtol=1e-7)


def test_stretches_change_no_error() -> None:
    rng = np.random.default_rng(1)
    H, W = rng.gamma(1, size=(3, 40)), rng.gamma(1, size=(25, 3))
    V = rng.poisson(W @ H).astype("f4")
    expected = np.linalg.norm(V - W @ H, axis=1) / np.linalg.norm(V.astype(float), axis=1)
    for size in (1, 1000, rows.BLOCK_BYTES):
        np.testing.assert_allclose(rows._dense(V, W, H, size), expected, rtol=1e-12)
        np.testing.assert_allclose(rows._sparse(sp.csr_array(V), W, H, size), expected, rtol=1e-9)


def test_a_page_reads_them_once(wide: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads, read = [], rows._read

    def counted(source: Any, fit: Any) -> Any:
        reads.append(source)
        return read(source, fit)

    monkeypatch.setattr(rows, "_read", counted)
    dnmf.report(wide[0], tmp_path / "page.html")
    assert len(reads) == 1
