"""Planted matrices are what they say; files on the disk are those matrices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import zarr


def test_poisson_has_its_mean_and_its_factors() -> None:
    from benchmarks.planted import PlantedPoisson

    data = PlantedPoisson(5_000, 80, 4, mean=1.5)
    V, strongest = data.matrix()
    assert V.shape == (5_000, 80)
    assert V.dtype == np.float32
    assert V.mean() == pytest.approx(1.5, rel=0.1)
    share = data.H / data.H.sum(axis=1, keepdims=True)
    means = np.stack([V[strongest == t].mean(axis=0) for t in range(4)])
    correlation = np.corrcoef(np.vstack([means, share]))[:4, 4:]
    assert np.all(np.argmax(correlation, axis=1) == np.arange(4))


def test_topics_are_canonical_and_sparse() -> None:
    from benchmarks.planted import PlantedTopics

    V, strongest = PlantedTopics(3_000, 500, 4, events=40, power=1.0).matrix()
    assert V.has_canonical_format
    assert V.dtype == np.float32
    assert V.indices.dtype == np.int32
    assert 0.01 < V.nnz / np.prod(V.shape) < 0.08
    popular = np.sort(np.bincount(V.indices, minlength=500))
    assert popular[-25:].sum() > 0.25 * V.nnz, "a twentieth of the columns has a quarter"
    assert strongest.shape == (3_000,)


def test_full_size_sparse_data_are_filled_as_promised() -> None:
    from benchmarks.peers import CASES
    from benchmarks.problems import planted_problems

    reads = next(p.planted for p in planted_problems("full") if p.name == "planted sparse")
    assert reads is not None
    assert reads.unit(3).V.nnz / (2_000 * reads.d) == pytest.approx(0.01, rel=0.05)
    peers = CASES["sparse"].data["full"]
    assert peers.unit(3).V.nnz / 2_000 * peers.n == pytest.approx(60e6, rel=0.05)


def test_units_do_not_depend_on_one_another() -> None:
    from benchmarks.planted import PlantedPoisson

    data, longer = PlantedPoisson(3_000, 20, 3), PlantedPoisson(9_000, 20, 3)
    np.testing.assert_array_equal(data.unit(0).V, longer.unit(0).V)
    assert (data.unit(0).V != longer.unit(1).V).any()
    assert len(data.unit(1).V) == 1_000


def test_sorting_permutes_rows() -> None:
    from benchmarks.planted import PlantedPoisson, by_strongest

    V, strongest = PlantedPoisson(2_500, 12, 3).matrix()
    ordered = by_strongest(V, strongest)
    np.testing.assert_array_equal(np.sort(V.sum(axis=1)), np.sort(ordered.sum(axis=1)))
    np.testing.assert_array_equal(ordered, V[np.argsort(strongest, kind="stable")])


@pytest.mark.parametrize("codec", ["uncompressed", "lz4", "zstd"])
def test_dense_data_on_the_disk(codec: str, tmp_path: Path) -> None:
    from benchmarks.planted import PlantedPoisson
    from benchmarks.stores import can_drop, drop_cache, read_raw, write_dense

    data = PlantedPoisson(4_500, 10, 3)  # units of 2,000 rows, chunks of 700
    path = write_dense(tmp_path / "V.zarr", data, (700, 4), codec)
    np.testing.assert_array_equal(zarr.open_array(path, mode="r")[:], data.matrix()[0])
    seconds, stored = read_raw(path, 2)
    assert seconds > 0
    assert stored == sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    if can_drop():
        drop_cache(path)
    assert read_raw(path, 2)[1] == stored


def test_what_was_not_written_to_its_end_is_written_again(tmp_path: Path) -> None:
    from benchmarks.stores import write_dense

    V = np.ones((50, 4), np.float32)
    path = write_dense(tmp_path / "V.zarr", V, (20, 4))
    write_dense(path, 2 * V, (20, 4))
    assert zarr.open_array(path, mode="r")[0, 0] == 1, "it was there"
    path.with_suffix(".complete").unlink()
    write_dense(path, 2 * V, (20, 4))
    assert zarr.open_array(path, mode="r")[0, 0] == 2


def test_csr_on_the_disk(tmp_path: Path) -> None:
    from benchmarks.stores import write_csr
    from dnmf.interop import as_source

    V = sp.random_array((300, 40), density=0.1, format="csr", rng=np.random.default_rng(0))
    V = sp.csr_array(V.astype(np.float32))
    V.sort_indices()
    source = as_source(str(write_csr(tmp_path / "V.zarr", V)))
    (block,) = source.read_blocks([0, 300])
    assert source.is_sparse
    np.testing.assert_array_equal(block.toarray(), V.toarray())
