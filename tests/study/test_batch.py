"""Many models in the same reads: each is what a fit of it alone gives."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from scipy import sparse

import dnmf
from dnmf.config import Resources
from dnmf.errors import MemoryPlanError, OptionError
from dnmf.planning import limits
from dnmf.planning.memory import predict_memory
from dnmf.results.models import is_batch
from dnmf.steps.serial import Serial
from dnmf.study.fit import study_config

LAYOUT = {"block_size": "64kB", "segments": 24, "slab_size": "6kB"}
"""At least 24 segments, three levels of the tree, several slabs."""


def counts(n: int = 1200, d: int = 60, k: int = 4, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.poisson(4 * rng.gamma(0.4, size=(n, k)) @ rng.gamma(0.4, size=(k, d))).astype("f4")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("study") / "V.zarr"
    zarr.create_array(str(path), data=counts(), chunks=(50, 60))
    return str(path)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sample": 0.3, "sample_bytes": "100kB"},
        {"sample": 0.0},
        {"loss": "kullback-leibler"},
        {"alpha_H": 0.01, "l1_ratio": 1.0, "dtype": "float64"},  # products differ by rounding
    ],
    ids=["resident", "sample", "no-sample", "kl", "penalties"],
)
def test_every_model_is_what_a_fit_of_it_alone_gives(options: dict) -> None:
    V = counts()
    study = dnmf.fit_many(V, [2, 4], [0, 7], holdout=None, n_init=1, **LAYOUT, **options)
    for k in (2, 4):
        for seed in (0, 7):
            alone = dnmf.fit(V, k, seed=seed, n_init=1, **LAYOUT, **options)
            mine = study.result(k, seed)
            assert mine.objective == pytest.approx(alone.objective, rel=1e-5)
            assert mine.passes == alone.passes
            assert worded(mine.stop_reason) == worded(alone.stop_reason)
            np.testing.assert_allclose(mine.H, alone.H, atol=1e-3 * np.max(alone.H))


def worded(reason: str) -> str:
    """A reason to stop without the decrease that is still to be expected, which rounds."""
    return re.sub(r"\d\.\de-\d+ of", "... of", reason)


def test_sparse_models_too() -> None:
    V = sparse.csr_array(counts())
    study = dnmf.fit_many(V, [2, 3], 2, holdout=None, **LAYOUT)
    assert study.facts["config"]["n_init"] == 2  # as a fit of one model has
    for k in (2, 3):
        alone = dnmf.fit(V, k, seed=0, **LAYOUT)
        assert study.result(k, 0).objective == pytest.approx(alone.objective, rel=1e-5)
        # the start from the singular vectors, which is the same for every seed, races once
        raced = [run.details["starts"]["number"] for run in study.runs(k)]
        assert raced == [3, 2]


@pytest.mark.parametrize("most", [1, 5, 1000])
def test_it_does_not_matter_which_models_share_a_product(most: int) -> None:
    """Of a sparse V: bit for bit."""
    V = sparse.csr_array(counts())
    options = {**LAYOUT, "folds": 2, "max_passes": 3, "sample": 0.0}
    plain = dnmf.fit_many(V, [2, 3], 2, **options)
    with limits.using(stacked_components=most):
        other = dnmf.fit_many(V, [2, 3], 2, **options)
    assert other.models == plain.models
    for one, same in zip(plain.results, other.results, strict=True):
        np.testing.assert_array_equal(one.H, same.H)


def test_models_share_reads_and_leave_when_converged(stored: str, tmp_path: Path) -> None:
    options = {**LAYOUT, "sample": 0.0, "holdout": None}
    study = dnmf.fit_many(stored, [1, 3, 5], 2, out=tmp_path / "s", executor=Serial(), **options)
    passes = [line["passes"] for line in study.models]
    assert min(passes) < max(passes)  # one left before another
    assert study.reads == pytest.approx(1 + max(passes))
    for result, line in zip(study.results, study.models, strict=True):
        assert result.passes == line["passes"]
        assert result.W.shape == (1200, line["k"])
        np.testing.assert_allclose(
            0.5 * np.sum((counts() - result.W[:] @ result.H[:]) ** 2), result.objective, rtol=1e-4
        )


def test_a_study_opens_with_zarr_and_again(stored: str, tmp_path: Path) -> None:
    out = tmp_path / "s"
    made = dnmf.fit_many(stored, [2, 3], 2, out=out, executor=Serial(), folds=2, **LAYOUT)
    assert is_batch(out)
    again = dnmf.open(out)
    assert isinstance(again, dnmf.Study)
    assert again.models == made.models
    assert [line["fold"] for line in again.models] == [None] * 4 + [0, 1, 0, 1]
    group = zarr.open_group(str(out), mode="r")
    assert sorted(group["models"]) == ["0", "1", "2", "3"]
    assert group["models/2/H"].shape == (3, 60)
    assert dnmf.fit_many(
        stored, [2, 3], 2, out=out, executor=Serial(), folds=2, resume=True, **LAYOUT
    ).done


def test_groups_by_memory_cost_reads_and_nothing_else(stored: str, tmp_path: Path) -> None:
    options = {**LAYOUT, "sample": 0.0, "holdout": None}
    free = dnmf.plan_many(stored, [40, 50, 60], 1, **options)
    assert free.plan.read_groups == ()
    one_by_one = predict_memory(replace(free.plan, read_groups=((0,), (1,), (2,))), 1).total
    limit = int((one_by_one + 0.3 * (free.memory.total - one_by_one)) / 0.7)
    tight = Resources(1, 1, limit, "a small worker")
    planned = dnmf.plan_many(stored, [40, 50, 60], 1, resources=tight, **options)
    assert len(planned.plan.read_groups) > 1
    assert "times, once for every group" in dict(planned.lines())["reads"]
    assert sorted(m for group in planned.plan.read_groups for m in group) == [0, 1, 2]
    with pytest.raises(MemoryPlanError, match="a worker would need"):
        dnmf.plan_many(stored, [60], 1, resources=Resources(1, 1, 10**8, "tiny"), **options)
    whole = dnmf.fit_many(stored, [40, 50, 60], 1, max_passes=3, **options)
    split = dnmf.fit_many(
        stored, [40, 50, 60], 1, executor=Serial(limit), out=tmp_path / "g", max_passes=3, **options
    )
    assert split.reads == 1 + 3 * len(planned.plan.read_groups)
    for one, other in zip(whole.models, split.models, strict=True):
        assert one["objective"] == pytest.approx(other["objective"], rel=1e-5)


def test_what_is_asked_is_checked() -> None:
    V = counts()
    with pytest.raises(OptionError, match="no option tole"):
        dnmf.fit_many(V, [2], tole=1)
    with pytest.raises(OptionError, match="twice"):
        dnmf.fit_many(V, [2, 2])
    with pytest.raises(OptionError, match="ks is empty"):
        dnmf.fit_many(V, [])
    with pytest.raises(OptionError, match="holdout=None"):
        dnmf.fit_many(V, [2], loss="itakura-saito")
    with pytest.raises(OptionError, match="init is an array"):
        dnmf.fit_many(V, [2], init=np.ones((2, 60)))
    with pytest.raises(OptionError, match=r"fixed_H was given, but a study .* give .* to dnmf.fit"):
        dnmf.fit_many(V, [2], fixed_H=np.ones((1, 60)))
    with pytest.raises(OptionError, match="folds"):
        dnmf.fit_many(V, [2], folds=1)
    with pytest.raises(OptionError, match="holdout"):
        dnmf.fit_many(V, [2], holdout="jackknife")
    config = study_config(range(2, 4), 3, "bicv", 4, {"n_init": 2})
    assert (len(config.models), config.n_init) == (2 * 3 + 2 * 4, 2)
