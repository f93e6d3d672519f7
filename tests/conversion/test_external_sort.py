"""Triplets to CSR on disk."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from dnmf.conversion.external_sort import NpyWriter, TripletSorter
from dnmf.sources.npy_csr import NpyCsr
from dnmf.testing.source_contract import read


def test_npy_writer(tmp_path: Path) -> None:
    writer = NpyWriter(tmp_path / "a.npy", np.dtype("int16"))
    for part in (np.arange(3), np.arange(0), np.arange(5)):
        writer.append(part)
    writer.close()
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), [0, 1, 2, 0, 1, 2, 3, 4])


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 40),
    d=st.integers(1, 20),
    count=st.integers(0, 400),
    seed=st.integers(0, 99),
    budget=st.sampled_from([1, 200, 4000, 10**7]),
    expected=st.sampled_from([0, 100, 10**6]),
)
def test_sorts_like_scipy(
    tmp_path_factory: pytest.TempPathFactory,
    n: int,
    d: int,
    count: int,
    seed: int,
    budget: int,
    expected: int,
) -> None:
    """Whatever the budget, and however wrong the number of entries expected."""
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(0, n, count), rng.integers(0, d, count)
    values = rng.integers(1, 9, count).astype("int32")
    folder = tmp_path_factory.mktemp("sort")
    sorter = TripletSorter(folder, (n, d), np.dtype("int32"), expected, budget)
    for some in np.array_split(np.arange(count), 3):
        sorter.add(rows[some], columns[some], values[some])
    sorter.finish()
    wanted = sp.coo_array((values, (rows, columns)), shape=(n, d)).tocsr()
    wanted.sum_duplicates()
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(np.load(folder / f"{name}.npy"), getattr(wanted, name))
    assert len(list(folder.iterdir())) == 3
    np.testing.assert_array_equal(read(NpyCsr(folder, (n, d))), wanted.toarray())


def test_stays_within_its_memory(tmp_path: Path) -> None:
    """40 MB of triplets, most of them in few rows, sorted in 8 MB."""
    rng, budget = np.random.default_rng(0), 8 * 2**20
    sorter = TripletSorter(tmp_path, (1000, 50_000), np.dtype("float64"), 2_500_000, budget)
    tracemalloc.start()
    try:
        for _ in range(50):
            rows = np.minimum(rng.geometric(0.02, 50_000), 999)
            sorter.add(rows, rng.integers(0, 50_000, 50_000), rng.random(50_000))
        sorter.finish()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < budget
