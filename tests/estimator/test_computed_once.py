"""The estimator computes a lazy matrix once, whatever Dask knows of its chunks."""

from __future__ import annotations

from threading import Lock
from typing import Any

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp

import dnmf

V = np.random.default_rng(0).poisson(2.0, (200, 12)).astype("f4")
SOME = np.arange(200) % 5 > 0


class Counted:
    """A function of chunks that counts how often it is called."""

    def __init__(self) -> None:
        self.calls, self._lock = 0, Lock()

    def __call__(self, chunk: Any) -> Any:
        if chunk.size:  # what Dask asks for its dtype is empty
            with self._lock:
                self.calls += 1
        return chunk


def dense(count: Counted) -> Any:
    return da.from_array(V, chunks=(50, 12)).map_blocks(count, dtype="f4")


def csr(count: Counted) -> Any:
    return dense(count).map_blocks(sp.csr_array, dtype="f4", meta=sp.csr_array((0, 0), dtype="f4"))


def unknown_rows(count: Counted) -> Any:
    return dense(count)[da.from_array(SOME, chunks=50)]


@pytest.mark.parametrize("make", [dense, csr, unknown_rows])
def test_fit_and_transform(make: Any) -> None:
    count = Counted()
    x = make(count)
    model = dnmf.NMF(3, random_state=0, max_iter=3, tol=0)
    count.calls = 0
    model.fit(x)
    assert count.calls == 4
    W = model.transform(x)
    assert count.calls == 8
    same = V[SOME] if make is unknown_rows else V
    np.testing.assert_allclose(W, model.transform(same), rtol=1e-5, atol=1e-6)
