"""Zeros that a format stores to fill its blocks or diagonals are not observed entries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp

import dnmf
from dnmf.sources import open_source

rng = np.random.default_rng(0)
R = np.where(rng.random((60, 24)) < 0.2, rng.integers(1, 6, (60, 24)), 0).astype(float)
WANT = sp.csr_array(R)
OPTIONS: dict[str, Any] = {"missing": "zeros", "seed": 0, "max_passes": 20}

PADDED: dict[str, Callable[[Any], Any]] = {
    "bsr_array": lambda V: sp.csr_array(V).tobsr((2, 3)),
    "bsr_matrix": lambda V: sp.csr_matrix(V).tobsr((5, 2)),
    "bsr of 1 x 1": lambda V: sp.bsr_array(V, blocksize=(1, 1)),
    "dia_array": sp.dia_array,
    "dia_matrix": lambda V: sp.csr_matrix(V).todia(),
}


def same(found: Any, wanted: Any) -> None:
    assert found.objective == pytest.approx(wanted.objective, rel=1e-12)
    np.testing.assert_allclose(found.H, wanted.H, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
@pytest.mark.parametrize("form", PADDED)
def test_fit(form: str, loss: str) -> None:
    V = PADDED[form](R)
    before = V.data.copy()
    same(dnmf.fit(V, 3, loss=loss, **OPTIONS), dnmf.fit(WANT, 3, loss=loss, **OPTIONS))
    np.testing.assert_array_equal(V.data, before)


@pytest.mark.parametrize("form", PADDED)
def test_transform_and_estimator(form: str) -> None:
    V, fit = PADDED[form](R), dnmf.fit(WANT, 3, **OPTIONS)
    want = dnmf.transform(WANT, fit)
    np.testing.assert_allclose(dnmf.transform(V, fit), want, rtol=1e-9, atol=1e-12)
    models = [
        dnmf.NMF(3, missing="zeros", random_state=0, max_iter=20, tol=0).fit(X) for X in (V, WANT)
    ]
    np.testing.assert_array_equal(models[0].components_, models[1].components_)
    np.testing.assert_array_equal(models[0].transform(V), models[1].transform(WANT))


@pytest.mark.parametrize("form", [name for name in PADDED if "array" in name])
@pytest.mark.parametrize("columns", [24, 12])
def test_blocks_of_dask(form: str, columns: int) -> None:
    x = da.from_array(R, chunks=(20, columns)).map_blocks(
        PADDED[form], meta=sp.csr_array((0, 0)), dtype=R.dtype
    )
    same(dnmf.fit(x, 3, **OPTIONS), dnmf.fit(WANT, 3, **OPTIONS))


@pytest.mark.parametrize("form", PADDED)
def test_files_and_conversion(tmp_path: Path, form: str) -> None:
    V = PADDED[form](R)
    sp.save_npz(tmp_path / "V.npz", V)
    for given in (tmp_path / "V.npz", V):
        dnmf.convert(given, tmp_path / "V.zarr", overwrite=True)
        assert open_source(tmp_path / "V.zarr").nonzeros == np.count_nonzero(R)
        same(dnmf.fit(tmp_path / "V.zarr", 3, **OPTIONS), dnmf.fit(WANT, 3, **OPTIONS))


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dok"])
def test_zeros_that_someone_stored_are_observed(form: str) -> None:
    """Where a format pads nothing, a stored zero was meant."""
    V = sp.coo_array((np.array([2.0, 0.0]), ([0, 1], [1, 0])), shape=(2, 2)).asformat(form)
    assert open_source(V).nonzeros == 2


def test_plan_says_so() -> None:
    told = open_source(PADDED["bsr_array"](R)).describe()
    assert "from BSR, without the zeros that it stores" in told
