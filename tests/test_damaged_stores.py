"""The corpus of damaged stores: every case ends in a dnmf error or in the right answer."""

from __future__ import annotations

import pytest
from corpus_layouts import CONVERTED, LAYOUTS
from corpus_tools import (
    Verdict,
    before_the_fit,
    during_the_fit,
    of_a_result,
    of_a_run,
)

from dnmf.steps import retries

pytestmark = pytest.mark.timeout(600)

FEW, MANY = 7, 300
DURING = [name for name in LAYOUTS if name not in (*CONVERTED, "anndata")]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(retries, "PAUSES", (0.0, 0.0, 0.0))


def run(kind, layout, seeds, root) -> Verdict:
    verdict = Verdict()
    for seed in seeds:
        verdict.add(kind(layout, seed, root))
    text = "\n".join(verdict.failures)
    assert not verdict.failures, f"{len(verdict.failures)} of {verdict.cases} cases:\n{text}"
    return verdict


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "anndata"])
def test_a_few_damaged_stores(layout, tmp_path, record_property):
    verdict = run(before_the_fit, layout, range(FEW), tmp_path)
    assert verdict.cases == FEW
    assert verdict.refused
    record_property("cases", verdict.cases)


@pytest.mark.parametrize("layout", DURING)
def test_a_few_that_are_damaged_during_the_fit(layout, tmp_path, record_property):
    record_property("cases", run(during_the_fit, layout, range(FEW), tmp_path).cases)


@pytest.mark.parametrize("kind", [of_a_run, of_a_result])
def test_a_few_damaged_runs_and_results(kind, tmp_path, record_property):
    verdict = run(kind, "zarr", range(15), tmp_path)
    assert verdict.refused
    assert verdict.right
    record_property("cases", verdict.cases)


@pytest.mark.chaos
@pytest.mark.parametrize("layout", LAYOUTS)
def test_many_damaged_stores(layout, tmp_path, record_property):
    verdict = run(before_the_fit, layout, range(FEW, FEW + MANY), tmp_path)
    assert verdict.refused > MANY / 10
    assert verdict.right
    record_property("cases", verdict.cases)


@pytest.mark.chaos
@pytest.mark.parametrize("layout", DURING)
def test_many_that_are_damaged_during_the_fit(layout, tmp_path, record_property):
    verdict = run(during_the_fit, layout, range(FEW, FEW + MANY // 3), tmp_path)
    assert verdict.refused > MANY / 30
    record_property("cases", verdict.cases)


@pytest.mark.chaos
@pytest.mark.parametrize("kind", [of_a_run, of_a_result])
def test_many_damaged_runs_and_results(kind, tmp_path, record_property):
    verdict = run(kind, "zarr", range(15, 15 + 3 * MANY), tmp_path)
    assert verdict.refused > MANY / 10
    assert verdict.right
    record_property("cases", verdict.cases)
