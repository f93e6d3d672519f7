"""Dask arrays that fit stay in the cluster's memory: nothing is written, nothing is read."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp

import dnmf
from dnmf.errors import InputError
from dnmf.testing.problems import planted_poisson

pytestmark = pytest.mark.cluster
LAYOUT = {"seed": 1, "block_size": 100 * 80 * 4, "slab_size": 4 * 8 * 30, "segments": 24}


@pytest.fixture(scope="module")
def V() -> np.ndarray:
    return np.asarray(planted_poisson(n=1000, d=80, k=4, seed=0).V, np.float32)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "csr"])
def test_a_dask_array_that_fits_is_neither_staged_nor_read(
    V: np.ndarray, sparse: bool, client: object, tmp_path: Path
) -> None:
    x = da.from_array(V, chunks=(41, 80 if sparse else 33))
    if sparse:
        x = x.map_blocks(sp.csr_array)
    fit = dnmf.fit(x, 4, out=tmp_path / "fit.zarr", client=client, **LAYOUT)
    assert not list((tmp_path / "fit.zarr" / ".dnmf").glob("staged*"))
    assert {row["bytes_read"] for row in fit.history} == {0}
    error = np.linalg.norm(V - np.asarray(fit.W) @ np.asarray(fit.H)) / np.linalg.norm(V)
    assert error == pytest.approx(fit.relative_error, rel=1e-4)


def test_a_held_array_resumes_when_it_is_passed_again(
    V: np.ndarray, client: object, tmp_path: Path
) -> None:
    x = da.from_array(V, chunks=(41, 80))
    whole = dnmf.fit(x, 4, out=tmp_path / "whole.zarr", client=client, **LAYOUT)

    def stop(event: object) -> None:
        if type(event).__name__ == "Committed" and event.kind == "pass":  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    out = tmp_path / "fit.zarr"
    with pytest.raises(KeyboardInterrupt):
        dnmf.fit(x, 4, out=out, client=client, on_event=stop, **LAYOUT)
    with pytest.raises(InputError, match="resume=True"):
        dnmf.resume(out, client=client)
    fit = dnmf.fit(x, 4, out=out, client=client, resume=True, **LAYOUT)
    assert np.array_equal(np.asarray(fit.W), np.asarray(whole.W))
    assert np.array_equal(np.asarray(fit.H), np.asarray(whole.H))
