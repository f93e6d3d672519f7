"""What is left out: unbiased, different for every seed, never fitted, and measured right."""

from __future__ import annotations

import numpy as np
import pytest
from marks import slow
from scipy import sparse
from scipy.optimize import nnls

import dnmf
from dnmf.config import FitConfig, ModelSpec
from dnmf.fitting.models.holdout import fold_of_model
from dnmf.linalg import folds
from dnmf.linalg.folds import COLUMNS, ROWS, fold_of, speckled
from dnmf.planning.plan import make_plan
from dnmf.sources import open_source
from dnmf.study.held_out import HeldOut


def planted(n: int = 300, d: int = 40, k: int = 3, noise: float = 0.05) -> np.ndarray:
    """Parts that are easy to tell apart, so that every solver finds the same."""
    rng = np.random.default_rng(1)
    W, H = rng.gamma(0.5, size=(n, k)), rng.gamma(0.3, size=(k, d))
    return np.maximum(W @ H + noise * rng.normal(size=(n, d)), 0)


@pytest.mark.parametrize("count", [10_000, folds.RANKED + 10_000])
def test_folds_are_unbiased_and_rows_are_independent_of_columns(count: int) -> None:
    index = np.arange(count)
    rows, columns = (fold_of(3, axis, index, count, 5) for axis in (ROWS, COLUMNS))
    expected = count / 5
    for found in (rows, columns):
        assert np.abs(np.bincount(found, minlength=5) - expected).max() < 5 * expected**0.5
        halves = [np.bincount(half, minlength=5) for half in np.array_split(found, 2)]
        assert np.abs(halves[0] - halves[1]).max() < 6 * expected**0.5  # nothing sorted
    both = np.histogram2d(rows, columns, bins=5)[0] / count
    assert np.abs(both - 1 / 25).max() < 0.01


def test_folds_differ_between_seeds_and_are_a_partition() -> None:
    index = np.arange(1000)
    one, other = fold_of(1, ROWS, index, 1000, 5), fold_of(2, ROWS, index, 1000, 5)
    assert 0.15 < np.mean(one == other) < 0.25
    part = index[137:420]
    np.testing.assert_array_equal(fold_of(1, ROWS, part, 1000, 5), one[part])
    source = open_source(planted())
    models = tuple(ModelSpec(k, 1, fold) for k in (2, 3) for fold in range(4))
    plan = make_plan(source, FitConfig(models, folds=4, holdout="bicv"))[0]
    found = [fold_of_model(plan, model) for model in models]
    assert all(fold is not None for fold in found)
    left_out = np.array([fold.rows(np.arange(300)) for fold in found if fold])
    columns = np.array([fold.columns for fold in found if fold])
    for table in (left_out, columns):
        np.testing.assert_array_equal(table[:4].sum(axis=0), 1)  # each exactly once
        np.testing.assert_array_equal(table[:4], table[4:])  # every k by the same folds


def by_hand(V: np.ndarray, k: int, fold: int, parts: int, seed: int) -> float:
    """Owen and Perry's steps, one after the other, with other solvers."""
    n, d = V.shape
    out = fold_of(seed, ROWS, np.arange(n), n, parts) == fold
    hidden = fold_of(seed, COLUMNS, np.arange(d), d, parts) == fold
    seen = dnmf.fit(V[~out][:, ~hidden], k, seed=5, n_init=6, tol=1e-7)
    left = np.array([nnls(np.asarray(seen.H).T, v)[0] for v in V[out][:, ~hidden]])
    right = np.array([nnls(np.asarray(seen.W), v)[0] for v in V[~out][:, hidden].T]).T
    block = V[out][:, hidden]
    return float(np.sum((block - left @ right) ** 2) / np.sum(block**2))


@pytest.mark.parametrize("kind", ["dense", "sparse", *slow("sampled")])
def test_held_out_errors_are_those_of_the_definition(kind: str) -> None:
    V = planted()
    given = sparse.csr_array(V) if kind == "sparse" else V
    options = {"sample": 0.4, "sample_bytes": "40kB"} if kind == "sampled" else {}
    study = dnmf.fit_many(
        given, [3], [4], folds=3, tol=1e-6, block_size="8kB", segments=24, **options
    )
    assert study.held_out is not None
    expected = [by_hand(V, 3, fold, 3, 4) for fold in range(3)]
    np.testing.assert_allclose(study.held_out.errors[0], expected, rtol=0.02)


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
def test_what_is_left_out_is_not_fitted(loss: str) -> None:
    """Spoiling the left-out block changes its error, and nothing of the model."""
    V = np.round(20 * planted())
    n, d = V.shape
    out = fold_of(4, ROWS, np.arange(n), n, 3) == 0
    hidden = fold_of(4, COLUMNS, np.arange(d), d, 3) == 0
    spoiled = V.copy()
    spoiled[np.ix_(out, hidden)] = spoiled[np.ix_(out, hidden)][::-1, ::-1]
    found = [
        dnmf.fit_many(X, [3], [4], folds=3, loss=loss, sample=0.0, max_passes=60).models[1]
        for X in (V, spoiled)
    ]
    assert found[0]["fold"] == 0
    assert found[1]["objective"] == pytest.approx(found[0]["objective"], rel=1e-3)
    assert found[1]["held_out"] > 1.5 * found[0]["held_out"]


def test_single_entries_are_left_out_without_bias() -> None:
    rows, columns = np.arange(400), np.arange(300)
    found = [speckled(1, rows, columns, fold, 4) for fold in range(4)]
    for mask in found:
        assert abs(mask.mean() - 0.1) < 5 * (0.1 * 0.9 / mask.size) ** 0.5
        assert np.abs(mask.mean(axis=0) - 0.1).max() < 0.08  # no column, no row is preferred
        assert np.abs(mask.mean(axis=1) - 0.1).max() < 0.1
    assert sum(found).max() == 1  # folds do not overlap
    other = speckled(2, rows, columns, 0, 4)
    assert abs(np.mean(other & found[0]) - 0.01) < 0.003  # seeds are independent
    np.testing.assert_array_equal(speckled(1, rows[37:90], columns, 2, 4), found[2][37:90])
    assert not speckled(1, rows, columns, 0, 20)[:, :].mean() > 0.06  # many folds: smaller ones


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
def test_speckled_errors_are_those_of_a_fit_with_missing_entries(loss: str, kind: str) -> None:
    V = np.round(20 * planted())
    given = sparse.csr_array(V) if kind == "sparse" else V
    options = {"loss": loss, "tol": 1e-6, "sample": 0.0}
    study = dnmf.fit_many(given, [3], [4], folds=2, holdout="speckled", **options)
    assert study.held_out is not None
    out = speckled(4, np.arange(V.shape[0]), np.arange(V.shape[1]), 1, 2)
    seen = np.where(out, np.nan, V)
    alone = dnmf.fit(seen, 3, seed=4, n_init=1, missing="nan", **options)
    line = study.models[-1]
    assert line["fold"] == 1
    assert line["objective"] == pytest.approx(alone.objective, rel=1e-3)
    fitted, v = (alone.W @ alone.H)[out], V[out]
    expected = np.sum((v - fitted) ** 2) / np.sum(v**2)
    if loss == "kullback-leibler":
        some, fitted = v > 0, np.maximum(fitted, 1e-3)
        logs = np.sum(v[some] * np.log(v[some] / fitted[some]))
        expected = (logs + np.sum(fitted - v)) / v.sum()
    assert study.held_out.errors[0, 1] == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("holdout", ["bicv", "speckled"])
@pytest.mark.parametrize("loss", ["frobenius", *slow("kullback-leibler")])
def test_the_planted_number_is_found(loss: str, holdout: str) -> None:
    rng = np.random.default_rng(3)
    mean = 8 * rng.gamma(0.4, size=(400, 4)) @ rng.gamma(0.4, size=(4, 50))
    V = rng.poisson(mean).astype("f4")
    study = dnmf.fit_many(V, range(2, 7), 2, folds=3, loss=loss, holdout=holdout)
    answer = study.recommend()
    assert answer.k == 4
    assert not answer.weak
    assert "left out" in str(answer)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("holdout", ["bicv", *slow("speckled")])
def test_a_study_does_not_depend_on_workers(client, tmp_path, holdout: str) -> None:
    import zarr

    zarr.create_array(str(tmp_path / "V.zarr"), data=planted().astype("f4"), chunks=(10, 40))
    options = {"folds": 2, "block_size": "1kB", "segments": 24, "sample": 0.0, "slab_size": "2kB"}
    options |= {"max_passes": 3, "tol": 0, "holdout": holdout}
    from dnmf.steps.serial import Serial

    ran = [
        dnmf.fit_many(str(tmp_path / "V.zarr"), [2, 3], 2, out=tmp_path / name, **where, **options)
        for name, where in (("a", {"executor": Serial()}), ("b", {"client": client}))
    ]
    assert ran[0].models == ran[1].models  # objectives and held-out errors, to the bit
    for one, other in zip(ran[0].results, ran[1].results, strict=True):
        assert one.W[:].tobytes() == other.W[:].tobytes()
        assert one.H[:].tobytes() == other.H[:].tobytes()


def test_folds_that_are_far_apart_do_not_tell_k() -> None:
    """Models of an exact product of k = 4 had errors in no order from there on, in five folds."""
    errors = np.array(
        [
            [2.4e-2, 3.1e-2, 4.5e-2, 4.5e-2, 5.4e-2],
            [6.5e-5, 1.3e-8, 5.5e-4, 6.4e-5, 1.7e-5],
            [1.2e-5, 5.6e-8, 1.7e-4, 2.4e-5, 1.4e-5],
            [5.3e-4, 3.2e-6, 5.9e-4, 7.9e-5, 4.9e-4],
        ]
    )
    assert HeldOut([3, 4, 5, 6], errors).within_one_error[0] == 4


def test_a_small_difference_that_all_folds_agree_on_tells_k() -> None:
    """However small the errors: spectra with little noise may have components of 1e-5 of V."""
    hard = np.array([1.0, 2.0, 1.5, 0.7, 1.2]) * 1e-6
    errors = np.array([hard * 1.5, hard, hard * 1.001])
    assert HeldOut([3, 4, 5], errors, 0.01, 1e-7).within_one_error == [4, 5]
