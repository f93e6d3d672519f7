"""What holds for every matrix: descent, the same answer from every layout, scale, corners."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dnmf
from dnmf.losses.base import rounding_unit
from dnmf.testing.counting import CountingStore
from dnmf.testing.layouts import write_compressed, write_dense
from dnmf.testing.problems import exact_low_rank, planted_poisson, power_law_counts

SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
STORED = st.sampled_from(["float32", "float64", "uint8", "int32", "float16"])


@st.composite
def matrices(draw):
    """Any shape, density and stored dtype, with rows and columns of zeros; never all zero."""
    n, d = draw(st.integers(1, 40)), draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    V = rng.integers(1, 50, (n, d)) * (rng.random((n, d)) < draw(st.sampled_from([0.05, 0.5, 1])))
    V[rng.random(n) < 0.1] = 0
    V[:, rng.random(d) < 0.1] = 0
    V[rng.integers(n), rng.integers(d)] = 7
    return V.astype(draw(STORED))


@st.composite
def layouts(draw, V):
    """V as a Zarr array of some chunk grid, or CSR in Zarr or in memory."""
    kind = draw(st.sampled_from(["zarr", "zarr", "csr", "zarr-csr", "array"]))
    if kind == "array":
        return V
    if kind == "zarr":
        chunks = draw(st.tuples(st.integers(1, V.shape[0]), st.integers(1, V.shape[1])))
        return write_dense(zarr.storage.MemoryStore(), V, chunks)
    sparse = sp.csr_array(V.astype("float32" if V.dtype == "float16" else V.dtype))
    if kind == "csr":
        return sparse
    return write_compressed(zarr.storage.MemoryStore(), sparse, draw(st.integers(1, 99)))


def _sumsq(V):
    return float(np.sum(V.astype(float) ** 2))


def _accepted(fit):
    return [row["objective"] for row in fit.history if row["accepted"]]


def _sampled(V, part):
    """The options of a fit with no sample, with all rows as such, and with about a third of them.

    Below 20,000 rows only ``sample_bytes`` makes a part.
    """
    kinds = {"none": {"sample": 0}, "whole": {}, "part": {"sample_bytes": max(1, V.nbytes // 3)}}
    return kinds[part]


SAMPLES = ["none", "whole", "part"]


@given(st.data(), matrices(), st.integers(1, 9), st.sampled_from(SAMPLES))
@SLOW
def test_the_objective_never_rises_and_is_that_of_w_and_h(data, V, k, part):
    options = {"max_passes": 12, "tol": 0, "block_size": 600, **_sampled(V, part)}
    fit = dnmf.fit(data.draw(layouts(V)), k, seed=0, **options)
    W, H = np.asarray(fit.W), np.asarray(fit.H)
    assert W.shape == (V.shape[0], k)
    assert H.shape == (k, V.shape[1])
    assert W.min() >= 0
    assert H.min() >= 0
    unit = rounding_unit(_sumsq(V), W.dtype.name)
    objectives = _accepted(fit)
    assert all(b <= a + unit for a, b in pairwise(objectives))
    true = 0.5 * np.sum((V.astype(float) - W.astype(float) @ H.astype(float)) ** 2)
    assert abs(fit.objective - true) <= 4 * unit + 1e-5 * true
    assert abs(fit.relative_error - np.sqrt(2 * fit.objective / _sumsq(V))) <= 1e-9


GRIDS = [(300, 120), (1, 120), (300, 1), (7, 11), (64, 64), (299, 119), (300, 13)]


def _five_passes(V, **options):
    options = {"seed": 1, "max_passes": 5, "tol": 0, "sample": 0, "block_size": 20_000, **options}
    options.setdefault("rounds", 0)  # how many is decided by how V is stored
    return dnmf.fit(V, 6, **options)


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-10), ("float32", 1e-5)])
def test_every_layout_gives_the_same_objectives(dtype, rtol):
    V = planted_poisson(dtype=dtype).dense
    expected = _accepted(_five_passes(V))
    sparse = sp.csr_array(V)
    variants = [
        sparse,
        write_compressed(zarr.storage.MemoryStore(), sparse, 1000),
        np.asfortranarray(V),
        *(write_dense(zarr.storage.MemoryStore(), V, grid) for grid in GRIDS),
    ]
    for variant in variants:
        assert _accepted(_five_passes(variant)) == pytest.approx(expected, rel=rtol), variant


@pytest.mark.parametrize("block_size", [1, 5000, 10**9])
@pytest.mark.parametrize("segments", [1, 24, None])
def test_blocks_and_segments_matter_by_rounding_only(block_size, segments):
    V = planted_poisson(dtype="float64").dense
    fit = _five_passes(V, block_size=block_size, segments=segments, fan_in=2, slab_size=400)
    assert _accepted(fit) == pytest.approx(_accepted(_five_passes(V)), rel=1e-10)


def test_the_same_fit_twice_has_the_same_bits():
    V = planted_poisson().dense
    one, other = _five_passes(V), _five_passes(V)
    assert np.asarray(one.W).tobytes() == np.asarray(other.W).tobytes()
    assert np.asarray(one.H).tobytes() == np.asarray(other.H).tobytes()
    assert _accepted(one) == _accepted(other)


def test_another_seed_starts_elsewhere():
    V = planted_poisson().dense
    assert _accepted(_five_passes(V))[0] != _accepted(_five_passes(V, seed=2))[0]


def test_chunks_too_tall_are_read_by_columns_for_the_same_result():
    V = planted_poisson(dtype="float64").dense
    tall = write_dense(zarr.storage.MemoryStore(), V, (300, 4))
    options = {"tol": 1e-9, "max_passes": 300, "sample": 0, "seed": 0}
    columns = dnmf.fit(tall, 6, max_block=20_000, block_size=20_000, **options)
    rows = dnmf.fit(tall, 6, **options)
    assert (columns.details["axis"], rows.details["axis"]) == ("columns", "rows")
    assert columns.W.shape == rows.W.shape
    np.testing.assert_allclose(np.linalg.norm(columns.H, axis=1), 1)
    assert columns.objective == pytest.approx(rows.objective, rel=0.01)
    true = 0.5 * np.sum((V - columns.W @ columns.H) ** 2)
    assert columns.objective == pytest.approx(true, rel=1e-9)


def test_a_start_given_goes_the_same_way_by_rows_and_by_columns():
    """From one start (W, H) both ways end in the same place, though they alternate differently."""
    problem = planted_poisson(dtype="float64")
    V, rng = problem.dense, np.random.default_rng(0)
    W = problem.W * rng.uniform(0.8, 1.2, problem.W.shape)
    H = problem.H * rng.uniform(0.8, 1.2, problem.H.shape)
    tall = write_dense(zarr.storage.MemoryStore(), V, (300, 4))
    options = {"init": H, "init_W": W, "tol": 1e-10, "max_passes": 400}
    columns = dnmf.fit(tall, max_block=20_000, block_size=20_000, **options)
    rows = dnmf.fit(tall, **options)
    assert columns.details["axis"] == "columns"
    assert columns.objective == pytest.approx(rows.objective, rel=1e-6)
    np.testing.assert_allclose(columns.W @ columns.H, rows.W @ rows.H, atol=1e-2 * V.max())


@pytest.mark.parametrize(
    ("power", "sparse", "part"),
    [(-30, False, "none"), (30, True, "none"), (30, False, "whole"), (-30, True, "whole"),
     (30, False, "part"), (-30, True, "part")],
)  # fmt: skip
def test_powers_of_two_scale_the_bits(power, sparse, part):
    V = planted_poisson(dtype="float64").dense
    scale = 2.0**power
    fits = [
        dnmf.fit(sp.csr_array(X) if sparse else X, 6, seed=0, **_sampled(V, part))
        for X in (V, V * scale)
    ]
    one, other = fits
    assert other.passes == one.passes
    assert other.W.tobytes() == (one.W * scale).tobytes()
    assert other.H.tobytes() == one.H.tobytes()
    assert [row["objective"] * scale**2 for row in one.history] == [
        row["objective"] for row in other.history
    ]


@pytest.mark.parametrize(("factor", "dtype"), [(1e9, "float32"), (1e-9, "float64")])
def test_any_factor_gives_the_same_fit(factor, dtype):
    V = planted_poisson(dtype=dtype).dense
    options = {"seed": 0, "sample": 0, "tol": 1e-6}
    one = dnmf.fit(V, 6, **options)
    other = dnmf.fit(V * V.dtype.type(factor), 6, **options)
    assert abs(other.passes - one.passes) <= 1
    assert abs(other.relative_error - one.relative_error) <= 1e-6


CORNERS = {
    "one row": (1, 9, 3),
    "one column": (9, 1, 3),
    "one entry": (1, 1, 1),
    "one entry, many components": (1, 1, 4),
    "n < k": (3, 20, 5),
    "d < k": (20, 3, 5),
    "k = min(n, d)": (6, 8, 6),
    "k > n and k > d": (6, 8, 30),
}


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", CORNERS.values(), ids=CORNERS)
def test_corners_are_fitted_exactly(shape, dtype, sparse):
    n, d, k = shape
    V = np.random.default_rng(0).gamma(1.0, size=(n, d)).astype(dtype)
    fits = [dnmf.fit(sp.csr_array(V) if sparse else V, k, seed=seed, tol=1e-7) for seed in range(2)]
    best = min(fits, key=lambda fit: fit.objective)
    assert best.relative_error < 1e-2
    assert np.isfinite(best.W).all()
    assert np.isfinite(best.H).all()


@pytest.mark.parametrize("sparse", [False, True])
def test_zero_rows_and_columns_have_zero_factors(sparse):
    V = planted_poisson(n=50, d=30, k=4, dtype="float64").dense.copy()
    V[[0, 17, 49]] = 0
    V[:, [0, 8, 29]] = 0
    notes = []
    fit = dnmf.fit(sp.csr_array(V) if sparse else V, 4, seed=0, on_event=notes.append)
    assert not fit.W[[0, 17, 49]].any()
    assert not fit.H[:, [0, 8, 29]].any()
    assert fit.W.any(axis=1).sum() == 47
    texts = [note.text for note in notes if type(note).__name__ == "Notice"]
    assert any("3 rows and 3 columns of zeros" in text for text in texts)


@pytest.mark.parametrize("part", SAMPLES)
@pytest.mark.parametrize("sparse", [False, True])
def test_exact_rank_in_float32_does_not_cancel(sparse, part):
    """|V|^2 - 2 <V H', W> + <W'W, H H'> is noise here, now and then below zero."""
    problem = exact_low_rank()
    V = sp.csr_array(problem.V) if sparse else problem.V
    for seed in range(3):
        options = {"tol": 1e-6, "max_passes": 60, **_sampled(problem.V, part)}
        fit = dnmf.fit(V, problem.k + 1, seed=seed, **options)
        assert all(row["objective"] >= 0 for row in fit.history)
        wide = problem.V.astype(float) - fit.W.astype(float) @ fit.H.astype(float)
        true = 0.5 * float(np.sum(wide**2))
        assert fit.objective == pytest.approx(true, rel=1e-3, abs=1e-13 * _sumsq(problem.V))
        assert ("exact" in fit.stop_reason) <= (true <= 1e-11 * _sumsq(problem.V))


def test_what_products_cannot_tell_costs_no_read():
    """A zero by cancellation would make the next pass, which measures, look worse."""
    rng, floors = np.random.default_rng(0), 0
    for seed in range(25):
        k = 1 + seed % 2
        V = rng.gamma(1.0, size=(20, k)) @ rng.gamma(1.0, size=(k, 12))
        fit = dnmf.fit(V, k, seed=seed, tol=1e-6, sample=0)
        unit = rounding_unit(fit.details["data"]["sumsq"], "float64")
        for row, after in pairwise(fit.history):
            assert row["objective"] > 0
            if row["objective"] == unit:
                floors += 1
                assert after["accepted"]
    assert floors


def test_explicit_zeros_are_zeros():
    V = power_law_counts(n=60, d=30).V.astype("float64")
    full = sp.csr_array(V.toarray() + 1)  # a sparsity pattern with every entry
    full.data -= 1
    assert full.nnz == 1800
    one, other = _five_passes(V), _five_passes(full)
    assert _accepted(other) == pytest.approx(_accepted(one), rel=1e-10)


def test_unsorted_and_duplicate_indices_are_summed():
    V = power_law_counts(n=60, d=30).V.astype("float64")
    doubled = sp.csr_array(
        (
            np.repeat(V.data / 2, 2),
            np.concatenate([np.tile(V.indices[a:b][::-1], 2) for a, b in _rows(V)]),
            V.indptr * 2,
        ),
        shape=V.shape,
    )
    assert not doubled.has_canonical_format
    expected = V.copy()
    for i, (a, b) in enumerate(_rows(V)):
        expected.data[a:b] = doubled[[i]].toarray()[0][V.indices[a:b]]
    one, other = _five_passes(expected), _five_passes(doubled)
    assert _accepted(other) == pytest.approx(_accepted(one), rel=1e-10)


def _rows(V):
    return list(zip(V.indptr[:-1], V.indptr[1:], strict=True))


@pytest.mark.parametrize("kind", ["array", "fortran", "csr", "zarr"])
def test_inputs_are_never_modified(kind):
    V = planted_poisson(n=80, d=30).dense.copy()
    sparse = sp.csr_array(V)
    inputs = {
        "array": V,
        "fortran": np.asfortranarray(V),
        "csr": sparse,
        "zarr": write_dense(zarr.storage.MemoryStore(), V, (10, 10)),
    }
    H, W = np.random.default_rng(0).random((4, 30)), np.random.default_rng(1).random((80, 4))
    given_arrays = [V, H, W, sparse.data, sparse.indices, sparse.indptr]
    before = [array.copy() for array in given_arrays]
    dnmf.fit(inputs[kind], init=H, init_W=W, max_passes=3)
    fit = dnmf.fit(inputs[kind], 4, seed=0, max_passes=3)
    dnmf.transform(inputs[kind], fit)
    for array, copy in zip(given_arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    if kind == "zarr":
        np.testing.assert_array_equal(inputs["zarr"][:], V)


@pytest.mark.parametrize("chunks", [(10, 30), (7, 11), (80, 2), (1, 30), (80, 30)])
def test_every_chunk_is_read_once_per_pass(chunks):
    V = planted_poisson(n=80, d=30).dense
    store = CountingStore(zarr.storage.MemoryStore())
    array = write_dense(store, V, chunks)
    store.reset()
    fit = dnmf.fit(array, 4, seed=0, max_passes=3, tol=0, sample=0, block_size=1500, segments=8)
    assert fit.passes == 3
    assert [row["bytes_read"] for row in fit.history] == [V.nbytes] * 3
    reads = store.chunk_reads()
    assert len(reads) == -(-80 // chunks[0]) * -(-30 // chunks[1])
    assert set(reads.values()) == {1 + fit.passes}


def test_every_chunk_of_csr_is_read_once_per_pass():
    V = power_law_counts(n=200, d=50).V
    store = CountingStore(zarr.storage.MemoryStore())
    group = write_compressed(store, V, 100)
    store.reset()
    fit = dnmf.fit(group, 4, seed=0, max_passes=3, tol=0, sample=0, segments=1)
    assert fit.passes == 3
    reads = store.chunk_reads()
    data = {key: count for key, count in reads.items() if not key.startswith("indptr")}
    assert len(data) == 2 * -(-V.nnz // 100)
    assert set(data.values()) == {1 + fit.passes}


def test_a_sample_of_all_rows_reads_v_once(tmp_path):
    V = planted_poisson(n=80, d=30).dense
    store = CountingStore(zarr.storage.MemoryStore())
    array = write_dense(store, V, (10, 30))
    store.reset()
    fit = dnmf.fit(array, 4, seed=0, out=tmp_path / "run")
    assert set(store.chunk_reads().values()) == {1}
    assert {row["bytes_read"] for row in fit.history} == {0}
