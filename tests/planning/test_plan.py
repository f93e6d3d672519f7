"""The layout of a run: from data and options only, whole chunk-rows, refused with numbers."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import dnmf
from dnmf.config import MIB, FitConfig, ModelSpec
from dnmf.errors import InputError, MemoryPlanError
from dnmf.planning.plan import Plan, compute_dtype, make_plan, sample_share
from dnmf.sources import open_source
from dnmf.testing.layouts import write_compressed


def config(k=3, **options):
    return FitConfig((ModelSpec(k, 0),), **options)


def empty(shape, chunks, dtype="f4", **options):
    """A Zarr array of any size, of which nothing is stored: a plan reads nothing."""
    store = zarr.storage.MemoryStore()
    return open_source(zarr.create_array(store, shape=shape, chunks=chunks, dtype=dtype, **options))


def sparse_columns(tmp_path, V):
    write_compressed(tmp_path / "csc.zarr", sp.csc_array(V), 100)
    return open_source(tmp_path / "csc.zarr")


@given(
    n=st.integers(1, 5000),
    d=st.integers(1, 300),
    chunks=st.tuples(st.integers(1, 6000), st.integers(1, 400)),
    block_size=st.integers(1, 1 << 20),
    segments=st.one_of(st.none(), st.integers(1, 100)),
)
@settings(max_examples=60, deadline=None)
def test_blocks_are_whole_chunk_rows_and_cover_v(n, d, chunks, block_size, segments):
    source = empty((n, d), (min(n, chunks[0]), min(d, chunks[1])))
    options = config(block_size=block_size, segments=segments, max_block=1 << 30)
    plan, oriented = make_plan(source, options)
    assert (plan.axis, oriented) == ("rows", source)
    starts = plan.block_starts
    assert (starts[0], starts[-1]) == (0, n)
    assert all(a < b for a, b in pairwise(starts))
    assert all(start % min(n, chunks[0]) == 0 for start in starts[:-1])
    chunk_row = min(n, chunks[0])
    fits = [rows * d * 4 <= block_size or rows <= chunk_row for rows in np.diff(starts)]
    assert all(fits)
    assert plan.segments == min(plan.blocks, segments or 32)
    assert (plan.row_starts[0], plan.row_starts[-1]) == (0, n)
    assert [plan.segment_block_starts(s)[0] for s in range(plan.segments)] == plan.row_starts[:-1]
    sizes = np.diff(plan.segment_blocks)
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= 1
    assert plan.bytes_per_read == sum(plan.segment_bytes) == n * d * 4
    assert plan.largest_block[:2] == (max(np.diff(starts)), max(np.diff(starts)) * d * 4)


def test_a_block_holds_as_many_chunk_rows_as_fit():
    plan, _ = make_plan(empty((1000, 80), (10, 7)), config(block_size=35 * 80 * 4))
    assert set(np.diff(plan.block_starts[:-1])) == {30}
    plan, _ = make_plan(empty((1000, 80), (40, 7)), config(block_size=35 * 80 * 4))
    assert set(np.diff(plan.block_starts)) == {40}


def test_blocks_larger_than_max_block_may_be_asked_for():
    source = empty((1000, 80), (10, 80))
    plan, _ = make_plan(source, config(block_size=64_000, max_block=4000))
    assert (plan.axis, set(np.diff(plan.block_starts))) == ("rows", {200})
    tall = empty((100, 80), (100, 8))  # a chunk-row has 32,000 bytes, a chunk-column 3,200
    plan, _ = make_plan(tall, config(block_size=64_000, max_block=4000))
    assert (plan.axis, plan.blocks) == ("columns", 1)


def test_narrow_rows_do_not_make_blocks_of_endlessly_many():
    plan, _ = make_plan(empty((10**7, 1), (1000, 1)), config())
    assert max(np.diff(plan.block_starts)) <= 32 * MIB // (4 * 64)


@pytest.mark.parametrize(
    ("gib", "segments"), [(1, 32), (3, 48), (4, 64), (16, 64), (17, 68), (100, 400), (2000, 2000)]
)
def test_segments_grow_with_the_data(gib, segments):
    n, d = gib * 128, 2 * MIB  # rows of 8 MiB, a chunk each
    plan, _ = make_plan(empty((n, d), (1, d)), config(block_size=8 * MIB))
    assert plan.blocks == n
    assert plan.segments == segments


def test_the_plan_depends_on_data_and_options_only():
    source = empty((1000, 50), (7, 50))
    one, _ = make_plan(source, config(block_size=3000))
    other, _ = make_plan(empty((1000, 50), (7, 50)), config(block_size=3000))
    own = {"run_id": one.run_id, "description": one.description}  # the store's address in memory
    assert {**other.to_json(), **own} == one.to_json()
    assert one.run_id != other.run_id
    taller, _ = make_plan(source, config(block_size=6000))
    assert taller.block_starts != one.block_starts


@pytest.mark.parametrize(
    ("slab_size", "widths"), [(1, [1] * 10), (7 * 3 * 8, [7, 3]), (10**9, [10])]
)
def test_slabs_are_as_wide_as_their_bytes_allow(slab_size, widths):
    plan, _ = make_plan(empty((20, 10), (5, 5)), config(slab_size=slab_size))
    assert np.diff(plan.slab_starts).tolist() == widths


def test_a_plan_survives_json():
    plan, _ = make_plan(empty((100, 10), (7, 5)), config(segments=5))
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan


@pytest.mark.parametrize(
    ("stored", "computed"),
    [
        *(("f2", "float32"), ("f4", "float32"), ("f8", "float64"), ("?", "float32")),
        *(("i1", "float32"), ("u2", "float32"), ("i4", "float64"), ("u8", "float64")),
    ],
)
def test_dtypes_compute_where_they_are_exact(stored, computed):
    assert compute_dtype(np.dtype(stored), None) == computed
    assert compute_dtype(np.dtype(stored), "float32") == "float32"
    plan, _ = make_plan(empty((10, 4), (5, 4), stored), config())
    assert (plan.dtype, plan.stored_dtype) == (computed, str(np.dtype(stored)))


def test_chunks_too_tall_for_rows_are_read_by_columns():
    source = empty((10_000, 300), (10_000, 3))
    plan, oriented = make_plan(source, config(max_block=1 * MIB, block_size=1 * MIB))
    assert plan.axis == "columns"
    assert plan.shape == oriented.shape == (300, 10_000)
    assert all(start % 3 == 0 for start in plan.block_starts)
    assert max(np.diff(plan.block_starts)) * 40_000 <= 1 * MIB
    assert plan.source_metadata["shape"] == [10_000, 300]
    wide, _ = make_plan(source, config())
    assert wide.axis == "rows"


def test_chunks_too_large_either_way_are_refused_with_numbers():
    source = empty((8192, 8192), (4096, 4096))
    with pytest.raises(MemoryPlanError) as caught:
        make_plan(source, config(max_block=100 * MIB))
    text = str(caught.value)
    assert "128 MiB by rows and 128 MiB by columns" in text
    assert "max_block (100 MiB)" in text
    assert "dnmf convert" in text


def test_a_transform_needs_rows():
    source = empty((8192, 8192), (8192, 8))
    with pytest.raises(MemoryPlanError, match=r"256 MiB by rows, more than max_block"):
        make_plan(source, config(max_block=100 * MIB), "transform")


def test_csc_is_read_by_columns_whatever_its_size(tmp_path):
    V = sp.random_array((50, 20), density=0.3, rng=0)
    plan, oriented = make_plan(sparse_columns(tmp_path, V), config())
    assert (plan.axis, plan.shape, plan.sparse) == ("columns", (20, 50), True)
    assert oriented.is_sparse


def test_csc_cannot_be_transformed(tmp_path):
    V = sp.random_array((50, 20), density=0.3, rng=0)
    with pytest.raises(InputError):
        make_plan(sparse_columns(tmp_path, V), config(), "transform")


def test_csr_blocks_follow_the_nonzeros():
    V = sp.csr_array(np.tri(200, dtype="f4"))  # row i has i + 1 entries
    source = open_source(V)
    plan, _ = make_plan(source, config(block_size=8000))
    heights = np.diff(plan.block_starts)
    assert heights[0] > 2 * heights[-2]
    entries = np.diff(V.indptr[list(plan.block_starts)])
    assert (entries * 8 + heights * 4 <= 8000).all()
    assert plan.bytes_per_read == source.block_bytes(0, 200)


@pytest.mark.parametrize(
    ("n", "nbytes", "options", "share"),
    [
        (1000, 10**6, {}, 1.0),  # fewer than 20,000 rows: all of them
        (100_000, 10**8, {}, 0.2),
        (10**6, 10**9, {}, 0.2),
        (10**6, 10**11, {}, (1 << 30) / 10**11),  # sample_bytes
        (50_000, 10**8, {}, 0.4),  # 20,000 rows
        (10**6, 10**9, {"sample": 0.5}, 0.5),
        (10**6, 10**9, {"sample": 0}, 0.0),
        (1000, 10**6, {"sample_bytes": 10**5}, 0.1),
        (100_000, 10**8, {"init": "custom"}, 0.0),  # passes over V begin at once
        (1000, 10**6, {"init": "custom"}, 1.0),  # and read it, once
    ],
)
def test_the_sample_is_a_share_of_the_rows(n, nbytes, options, share):
    assert sample_share(config(**options), n, nbytes, "fit") == pytest.approx(share)
    assert sample_share(config(**options), n, nbytes, "transform") == 0


def test_a_small_matrix_of_a_dear_loss_is_several_tasks():
    """Unless so small that statistics would cost more than they save; least squares is one."""
    V = np.ones((6000, 400), "float32")  # 9.6 MB
    for loss, blocks in (("frobenius", 1), ("kullback-leibler", 4), ("itakura-saito", 4)):
        assert dnmf.plan(V, 3, loss=loss).plan.segments == blocks
    assert dnmf.plan(V[:1500], 3, loss="kullback-leibler").plan.segments == 2
    assert dnmf.plan(V[:500], 3, loss="kullback-leibler").plan.segments == 1
    assert dnmf.plan(V, 3, loss="kullback-leibler", block_size="1MiB").plan.segments == 10


def test_sparse_tasks_of_a_dear_loss_weigh_the_same(tmp_path):
    """None has a few rows only, because each of the others ends with a whole one."""
    rng = np.random.default_rng(0)
    V = sp.random_array((6000, 400), density=0.5, rng=rng, format="csr", dtype="float32")
    write_compressed(tmp_path / "V.zarr", V, 100_000)
    for source in (V, tmp_path / "V.zarr"):
        sizes = dnmf.plan(source, 3, loss="kullback-leibler").plan.segment_bytes
        assert len(sizes) == 4
        assert max(sizes) < 1.05 * min(sizes)


def test_the_plan_says_what_the_sample_is_for():
    V = np.ones((1000, 50), np.float32)
    part = {"sample_bytes": V.nbytes // 4}
    cases = [
        ({}, "the sample holds every row, which passes read instead of V"),
        (part, "a sample of 25.0% of the rows is fitted first, without reading V"),
        ({"sample": 0}, "no sample"),
        ({**part, "init": np.ones((3, 50))}, "no sample"),  # passes over V begin at once
    ]
    for options, said in cases:
        kept = dict(dnmf.plan(V, 3, **options).lines())["kept in memory"]
        assert kept == f"no segment of V; {said}"
