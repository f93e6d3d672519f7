"""The prediction covers what is measured, and what cannot fit is refused with numbers."""

from __future__ import annotations

import re

import pytest
import zarr

from dnmf.config import MIB, FitConfig, ModelSpec, Resources
from dnmf.errors import MemoryPlanError
from dnmf.planning.memory import (
    BASELINE,
    USABLE,
    check_memory,
    predict_memory,
)
from dnmf.planning.plan import make_plan
from dnmf.sources import open_source
from dnmf.steps.residency import room, that_fit


def config(k=3, **options):
    return FitConfig((ModelSpec(k, 0),), **{"sample": 0.0, **options})


def plan_of(shape, chunks, k=3, dtype="f4", mode="fit", **options):
    store = zarr.storage.MemoryStore()
    array = zarr.create_array(store, shape=shape, chunks=chunks, dtype=dtype)
    return make_plan(open_source(array), config(k, **options), mode)[0]


def offer(memory, threads=1):
    return Resources(2, threads, memory, "two workers")


@pytest.mark.parametrize(
    "larger",
    [
        {"k": 30},
        {"shape": (100_000, 2000)},
        {"block_size": 64 * MIB},
        {"fan_in": 16},
        {"threads": 2},
        {"rounds": None},
    ],
    ids=lambda case: next(iter(case)),
)
def test_the_prediction_grows_with_what_costs_memory(larger):
    facts = {"shape": (100_000, 1000), "chunks": (1000, 1000), "k": 10, "rounds": 0}
    before = predict_memory(plan_of(**facts), 1)
    threads = larger.get("threads", 1)
    facts |= {name: value for name, value in larger.items() if name != "threads"}
    after = predict_memory(plan_of(**facts), threads)
    assert after.total > before.total
    parts = after.shared + threads * after.per_task + after.reduction
    assert after.total == BASELINE + parts


def test_segments_are_kept_whole_on_one_worker():
    """Two workers with 77 MB to spare each keep one segment of 60 MB, not one and a quarter."""
    offered = [(10**9, 460 * 10**6), (10**9, 460 * 10**6), (None, 1)]
    assert room(offered) == pytest.approx(153e6)
    assert room(offered, 60 * 10**6) == 120 * 10**6
    assert room(offered, 80 * 10**6) == 0
    assert that_fit([60 * 10**6] * 3, room(offered, 60 * 10**6)) == 2


def test_a_transform_needs_no_sums():
    fit = predict_memory(plan_of((10_000, 20_000), (100, 20_000), 50), 1)
    transform = predict_memory(plan_of((10_000, 20_000), (100, 20_000), 50, mode="transform"), 1)
    assert transform.reduction == 0
    assert transform.total < fit.total


def test_what_fits_is_not_refused_and_no_limit_is_no_limit():
    plan = plan_of((100_000, 1000), (1000, 1000), 10)
    need = predict_memory(plan, 1)
    assert check_memory(plan, offer(None)) == need
    assert check_memory(plan, offer(int(need.total / USABLE) + 1)) == need
    with pytest.raises(MemoryPlanError):
        check_memory(plan, offer(int(need.total / USABLE) - 1))


def _megabytes(text):
    return [int(number.replace(",", "")) for number in re.findall(r"([\d,]+) MB", text)]


@pytest.mark.parametrize("threads", [1, 4])
def test_a_refusal_has_the_numbers_and_its_remedies_work(threads):
    plan = plan_of((100_000, 4000), (1000, 4000), 200, fan_in=8)
    need = predict_memory(plan, threads)
    with pytest.raises(MemoryPlanError) as caught:
        check_memory(plan, offer(400_000_000, threads))
    text = str(caught.value)
    numbers = _megabytes(text)
    expected = [need.total, need.baseline, need.shared, need.per_task, need.reduction]
    assert numbers[:5] == [round(part / 1e6) for part in expected]
    assert numbers[5:7] == [280, 400]
    assert f"{threads} task(s)" in text
    assert "fewer components (k)" in text
    assert "--block-size" in text
    assert ("--threads 1" in text) is (threads > 1)
    advised = int(re.search(r"give each worker ([\d,]+) MB", text)[1].replace(",", ""))
    check_memory(plan, offer((advised + 1) * 10**6, threads))


def test_a_refusal_does_not_advise_what_would_not_help():
    plan = plan_of((100, 100), (10, 100))
    with pytest.raises(MemoryPlanError) as caught:
        check_memory(plan, offer(100_000_000))
    text = str(caught.value)
    assert "--memory" in text
    assert "--block-size" not in text
    assert "--threads" not in text
    assert "components" not in text
