"""How conversions are cut: aligned where that saves reads, within the budget always."""

from __future__ import annotations

import re

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from dnmf.config import MIB, Resources
from dnmf.conversion.csr_bands import CsrLayout, plan_bands
from dnmf.conversion.limits import DEFAULT
from dnmf.conversion.plan import (
    Budget,
    DenseLayout,
    check_dtype,
    dense_layout,
    plan_rectangles,
)
from dnmf.errors import MemoryPlanError, OptionError
from dnmf.planning.memory import BASELINE
from dnmf.sources import Source, open_source

F4 = np.dtype("float32")


def source_of(shape: tuple[int, int], chunks: tuple[int, int]) -> Source:
    """A float32 array of which nothing is stored: plans read no data."""
    store = zarr.storage.MemoryStore()
    return open_source(zarr.create_array(store, shape=shape, chunks=chunks, dtype="float32"))


def budget_of(size: int) -> Budget:
    return Budget(size, None, 1)


def test_budget_is_what_a_worker_may_plan() -> None:
    four = Resources(2, 4, 2_000_000_000, "")
    assert Budget.of(None, four).task == (1_400_000_000 - BASELINE) // 4
    assert Budget.of(1_000_000_000, four).limit == 1_000_000_000
    assert Budget.of(None, Resources(1, 1, None, "")).limit is None
    with pytest.raises(MemoryPlanError, match=r"--memory\), or use fewer threads"):
        Budget.of(300_000_000, four)


@pytest.mark.parametrize("to", ["dense", "csr"])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_memory_that_a_refusal_asks_for_is_enough(to: str, threads: int) -> None:
    resources, source = Resources(1, threads, None, ""), source_of((4000, 50_000), (4000, 50_000))

    def plan(memory: int) -> object:
        budget = Budget.of(memory, resources)
        if to == "csr":
            return plan_bands(source, CsrLayout(source.shape, F4, DEFAULT.entries), budget)
        return plan_rectangles(source, DenseLayout(source.shape, F4, (100, 50_000)), budget)

    with pytest.raises(MemoryPlanError, match=r"Give each worker (\d+)MB") as caught:
        plan(900_000_000)
    asked = re.search(r"Give each worker (\d+)MB", str(caught.value))
    assert asked is not None
    plan(int(asked[1]) * 10**6)


@pytest.mark.parametrize(
    ("shape", "chunks", "expected"),
    [
        ((10**6, 1000), (100, 1000), (2097, 1000)),  # whole rows of 8 MiB
        ((100, 1000), (10, 1000), (100, 1000)),  # all of it
        ((1000, 10**7), (1, 10**6), (1, 2 * MIB)),  # a row is more than a chunk
    ],
)
def test_default_chunks(shape, chunks, expected) -> None:
    assert dense_layout(source_of(shape, chunks), F4, None, budget_of(512 * MIB)).chunks == expected


@pytest.mark.parametrize("shape", [(10**6, 5000), (999_983, 5000)])
@pytest.mark.parametrize("width", [1, 10, 30])
def test_tall_chunks_are_decoded_once(shape: tuple[int, int], width: int) -> None:
    """20 GB in chunks of all rows: the target's chunks are narrow, but not tiny."""
    source, budget = source_of(shape, (shape[0], width)), budget_of(600 * MIB)
    layout = dense_layout(source, F4, None, budget)
    tasks = plan_rectangles(source, layout, budget)
    assert tasks.decodes == 1
    assert tasks.need <= budget.task
    assert layout.chunks[1] % width == 0
    assert layout.chunk_bytes > 150_000
    assert layout.chunks[0] * shape[1] * 4 <= 32 * MIB


def test_square_chunks_too_large_for_rows_and_columns_of_them() -> None:
    """400 GB in chunks of 400 MB, where neither a row nor a column of chunks fits."""
    source, budget = source_of((10**6, 10**5), (10**4, 10**4)), budget_of(2000 * MIB)
    layout = dense_layout(source, F4, None, budget)
    assert plan_rectangles(source, layout, budget).decodes == 1
    assert layout.chunks[0] * 10**5 * 4 <= 32 * MIB


def test_asked_for_chunks_may_cost_reads() -> None:
    source, budget = source_of((10**6, 5000), (10**6, 10)), budget_of(600 * MIB)
    tasks = plan_rectangles(source, DenseLayout((10**6, 5000), F4, (1000, 5000)), budget)
    assert 33 <= tasks.decodes <= 60  # 20 GB, with a few hundred MB at a time


def test_larger_tasks_only_where_they_save_many_reads() -> None:
    source = source_of((100_000, 1000), (700, 1000))
    layout, budget = DenseLayout((100_000, 1000), F4, (1000, 1000)), budget_of(2000 * MIB)
    tasks = plan_rectangles(source, layout, budget)
    assert tasks.count >= 3
    assert tasks.decodes == 1  # cut where both grids have an edge


def test_a_chunk_that_does_not_fit_is_refused() -> None:
    source = source_of((10**5, 10**4), (10**5, 10**4))
    with pytest.raises(MemoryPlanError, match="to decode 100000 x 10000 entries"):
        plan_rectangles(source, DenseLayout((10**5, 10**4), F4, (10, 10)), budget_of(10**9))


@settings(max_examples=100, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 500), st.integers(1, 500)),
    chunks=st.tuples(st.integers(1, 500), st.integers(1, 500)),
    target=st.tuples(st.integers(1, 500), st.integers(1, 500)),
    size=st.integers(10_000, 10_000_000),
)
def test_rectangles_cover_v_once_in_whole_chunks(shape, chunks, target, size) -> None:
    chunks = tuple(map(min, zip(shape, chunks, strict=True)))
    source, budget = source_of(shape, chunks), budget_of(size)
    layout = dense_layout(source, F4, target, budget)
    try:
        tasks = plan_rectangles(source, layout, budget)
    except MemoryPlanError:
        return
    assert tasks.need <= size
    times = np.zeros(shape, int)
    for index in range(tasks.count):
        rows, columns = tasks.bounds(index)
        times[slice(*rows), slice(*columns)] += 1
        for (start, stop), unit, length in zip((rows, columns), layout.chunks, shape, strict=True):
            assert start % unit == 0
            assert stop % unit == 0 or stop == length
    assert (times == 1).all()


@settings(max_examples=100, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 2000), st.integers(1, 50)),
    tall=st.integers(1, 2000),
    size=st.integers(2 * MIB, 40 * MIB),
)
def test_bands_cover_the_rows(shape, tall, size) -> None:
    source = source_of(shape, (min(tall, shape[0]), min(7, shape[1])))
    bands = plan_bands(source, CsrLayout(shape, F4, 1000), budget_of(20 * MIB + size))
    assert bands.edges[0] == 0
    assert bands.edges[-1] == shape[0]
    assert (np.diff(bands.edges) > 0).all()
    assert (np.diff(bands.tasks) > 0).all()
    assert bands.tasks[-1] == len(bands.edges) - 1


@pytest.mark.parametrize("name", ["complex128", "object", "str", "datetime64[s]", "float128"])
def test_types_that_v_cannot_have(name: str) -> None:
    with pytest.raises(OptionError, match="dtype is"):
        check_dtype(F4, name)
