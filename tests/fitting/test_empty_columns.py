"""Columns of a sparse V that nothing uses: left out after the scan, 0 in H, without cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from memory_tools import peak_of_a_run

import dnmf
from dnmf.config import FitConfig, ModelSpec
from dnmf.errors import InputError, ResumableError
from dnmf.fitting.data.column_sums import ColumnSums
from dnmf.fitting.data.context import Context
from dnmf.linalg.matrix import WeightedCSR
from dnmf.linalg.pick import few_filled_rows, pick_columns, pick_rows
from dnmf.planning import limits
from dnmf.planning.memory import BASELINE, predict_memory
from dnmf.planning.narrow import at_most, worth_narrowing
from dnmf.planning.plan import make_plan
from dnmf.runs.folder import FolderStore
from dnmf.sources import open_source
from dnmf.testing import faults
from dnmf.testing.faults import Fault
from dnmf.testing.layouts import write_compressed

N, D, USED, K = 240, 3000, 40, 3
PLACE = np.sort(np.random.default_rng(1).choice(D, USED, replace=False))
SLABS = {"segments": 4, "block_size": 2000, "slab_size": 8 * K * 16, "fan_in": 2}


def compact(dtype: str = "f4") -> sp.csr_array:
    """Counts of which every column has some."""
    rng = np.random.default_rng(0)
    V = rng.poisson(rng.gamma(0.5, 1, (N, K)) @ rng.gamma(0.5, 1, (K, USED))).astype(dtype)
    V[rng.integers(0, N, USED), np.arange(USED)] += 1
    return sp.csr_array(V)


def spread(V: sp.csr_array) -> sp.csr_array:
    """Return the entries in their places among many more columns."""
    return sp.csr_array((V.data, PLACE[V.indices].astype(np.int32), V.indptr), shape=(N, D))


def placed(H: np.ndarray, elsewhere: float = 0.0) -> np.ndarray:
    whole = np.full((len(H), D), elsewhere, H.dtype)
    whole[:, PLACE] = H
    return whole


def check_same(found: Any, wanted: Any) -> None:
    """Check that a fit of `spread` is the fit of `compact`, to the bit, and 0 elsewhere."""
    np.testing.assert_array_equal(np.asarray(found.W), np.asarray(wanted.W))
    np.testing.assert_array_equal(np.asarray(found.H), placed(np.asarray(wanted.H)))
    assert found.objective == wanted.objective
    assert found.shape == (N, D)


CASES: dict[str, dict[str, Any]] = {
    "least squares": {},
    "float64": {"dtype": "float64"},
    "multiplicative": {"solver": "mu", "max_passes": 20},
    "Kullback-Leibler": {"loss": "kullback-leibler"},
    "Kullback-Leibler, multiplicative": {
        "loss": "kullback-leibler",
        "solver": "mu",
        "max_passes": 20,
    },
    "beta 0.5": {"beta": 0.5, "max_passes": 5},
    "beta 3": {"beta": 3.0, "max_passes": 5},
    "several slabs and segments, a sample": {**SLABS, "sample": 0.3, "sample_bytes": 6000},
    "no sample": {"sample": 0},
    "starts that race": {"n_init": 3},
    "NNDSVD": {"init": "nndsvd"},
    "normalized": {"normalize": "weights"},
    "missing": {"missing": "zeros", "max_passes": 5},
    "missing, Kullback-Leibler": {
        "missing": "zeros",
        "loss": "kullback-leibler",
        "max_passes": 5,
    },
}


@pytest.mark.parametrize("name", CASES)
def test_a_fit_is_that_of_the_columns_with_entries(name: str) -> None:
    V = compact()
    options: dict[str, Any] = {"k": K, "seed": 1, **CASES[name]}
    check_same(dnmf.fit(spread(V), **options), dnmf.fit(V, **options))


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
def test_penalties_count_every_column(loss: str) -> None:
    V = compact("f8")
    options: dict[str, Any] = {"k": K, "seed": 1, "loss": loss, "alpha_H": 2e-3, "l1_ratio": 0.5}
    found = dnmf.fit(spread(V), alpha_W=1e-3, **options)
    wanted = dnmf.fit(V, alpha_W=1e-3 * D / USED, **options)
    assert found.objective == pytest.approx(wanted.objective, rel=1e-6)
    assert not np.delete(np.asarray(found.H), PLACE, axis=1).any()


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
def test_weights_come_along(loss: str) -> None:
    V = compact()
    weights = V.copy()
    weights.data = np.random.default_rng(2).uniform(0.5, 2, V.nnz).astype("f4")
    options: dict[str, Any] = {"k": K, "seed": 1, "loss": loss, "max_passes": 5}
    found = dnmf.fit(spread(V), weights=spread(weights), **options)
    check_same(found, dnmf.fit(V, weights=weights, **options))


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
@pytest.mark.parametrize("name", ["init", "fixed_H"])
def test_a_given_H_that_is_zero_elsewhere_is_cut_to_the_columns(name: str, loss: str) -> None:
    V = compact()
    H = np.random.default_rng(3).uniform(0.1, 1, (K if name == "init" else 1, USED)).astype("f4")
    options: dict[str, Any] = {"k": K, "seed": 1, "loss": loss, "max_passes": 6}
    found = dnmf.fit(spread(V), **{name: placed(H)}, **options)
    check_same(found, dnmf.fit(V, **{name: H}, **options))


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
@pytest.mark.parametrize("name", ["init", "fixed_H"])
def test_a_given_H_that_has_something_elsewhere_keeps_all_columns(name: str, loss: str) -> None:
    """It predicts entries where V has zeros, which costs: W is smaller than without."""
    V = spread(compact())
    H = np.random.default_rng(3).uniform(0.1, 1, (K if name == "init" else 1, USED)).astype("f4")
    options: dict[str, Any] = {
        "k": K,
        "seed": 1,
        "loss": loss,
        "max_passes": 4,
        name: placed(H, 0.05),
    }
    found = dnmf.fit(V, **options)
    with limits.using(times_used=0):
        wanted = dnmf.fit(V, **options)
    np.testing.assert_array_equal(found.H, wanted.H)
    np.testing.assert_array_equal(found.W, wanted.W)
    if name == "fixed_H":
        assert np.all(np.asarray(found.H)[0] == placed(H, 0.05)[0])


@pytest.mark.parametrize("holdout", ["bicv", "speckled"])
def test_left_out_parts_are_of_the_columns_with_entries(holdout: str) -> None:
    V = compact()
    studies = [
        dnmf.fit_many(X, [2, 3], seeds=1, holdout=holdout, folds=3, max_passes=5)
        for X in (spread(V), V)
    ]
    found, wanted = (study.held_out for study in studies)
    np.testing.assert_array_equal(found.errors, wanted.errors)


@pytest.mark.parametrize("encoding", ["csr", "csc"])
@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
def test_stored_matrices(tmp_path: Path, encoding: str, loss: str) -> None:
    """In CSC columns are the rows of blocks: those without entries are rows of zeros."""
    V = compact()
    results = []
    for name, X in {"whole": spread(V), "compact": V}.items():
        stored = X if encoding == "csr" else sp.csc_array(X)
        write_compressed(tmp_path / name, stored, 500)
        out = tmp_path / f"{name}.fit"
        results.append(dnmf.fit(tmp_path / name, k=K, seed=1, loss=loss, tol=1e-6, out=out))
    found, wanted = results
    assert found.objective == pytest.approx(wanted.objective, rel=1e-3)
    H = np.asarray(found.H)
    assert H.shape == (K, D)
    assert not np.delete(H, PLACE, axis=1).any()
    if encoding == "csr":
        check_same(found, wanted)


def test_rows_without_entries_of_a_matrix_read_by_columns(tmp_path: Path) -> None:
    V = sp.csc_array(spread(compact()).T)  # (D, N), whose columns are blocks' rows
    write_compressed(tmp_path / "V", V, 500)
    out = tmp_path / "out"
    fault = Fault("finish", "no-memory", {"run": str(out), "rows": "all", "part": 0}, after=2)
    with faults.active(tmp_path / "faults", [fault]), pytest.raises(ResumableError):
        dnmf.fit(tmp_path / "V", k=K, seed=1, out=out, tol=0, max_passes=5, n_init=1)
    running = dnmf.open(out)
    assert running.W.shape == (D, K)
    assert not np.delete(np.asarray(running.W), PLACE, axis=0).any()
    found = dnmf.resume(out)
    wanted = dnmf.fit(tmp_path / "V", k=K, seed=1, tol=0, max_passes=5, n_init=1)
    np.testing.assert_array_equal(np.asarray(found.W), wanted.W)
    np.testing.assert_array_equal(np.asarray(found.H), wanted.H)
    assert np.asarray(found.W)[PLACE].any(axis=1).all()


def test_a_run_in_progress_shows_and_a_resumed_one_has_the_bits(tmp_path: Path) -> None:
    write_compressed(tmp_path / "V", spread(compact()), 500)
    options: dict[str, Any] = {"k": K, "seed": 1, "tol": 0, "max_passes": 5, **SLABS}
    out = tmp_path / "out"
    fault = Fault("finish", "no-memory", {"run": str(out), "rows": "all", "part": 0}, after=2)
    with faults.active(tmp_path / "faults", [fault]), pytest.raises(ResumableError):
        dnmf.fit(tmp_path / "V", out=out, **options)
    running = dnmf.open(out)
    H = np.asarray(running.H)
    assert H.shape == (K, D)
    assert H[:, PLACE].any()
    assert not np.delete(H, PLACE, axis=1).any()
    found = dnmf.resume(out)
    wanted = dnmf.fit(tmp_path / "V", **options)
    np.testing.assert_array_equal(np.asarray(found.H), wanted.H)
    np.testing.assert_array_equal(np.asarray(found.W), wanted.W)
    assert zarr.open_group(out, mode="r")["H"].nchunks_initialized == 1


def test_H_is_published_chunk_by_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnmf.runs.published._CHUNK_BYTES", 4 * K * 700)
    V = compact()
    found = dnmf.fit(spread(V), k=K, seed=1, out=tmp_path / "out")
    H: Any = zarr.open_array(tmp_path / "out" / "H", mode="r")
    assert H.chunks == (K, 700)
    check_same(found, dnmf.fit(V, k=K, seed=1))


def test_the_estimator_and_transform_of_what_it_found() -> None:
    V = compact("f8")
    whole, alone = dnmf.NMF(K, random_state=0).fit(spread(V)), dnmf.NMF(K, random_state=0).fit(V)
    np.testing.assert_array_equal(whole.components_, placed(alone.components_))
    assert whole.n_features_in_ == D
    np.testing.assert_allclose(whole.transform(spread(V)), alone.transform(V), rtol=1e-7, atol=1e-9)


def test_dask_blocks_of_csr(tmp_path: Path) -> None:
    dask = pytest.importorskip("dask.array")
    V = spread(compact())
    blocks = [dask.from_array(V[a : a + 80], asarray=False, chunks=(80, D)) for a in (0, 80, 160)]
    found = dnmf.fit(dask.concatenate(blocks), k=K, seed=1, out=tmp_path / "out")
    assert not np.delete(np.asarray(found.H), PLACE, axis=1).any()
    assert found.objective == pytest.approx(dnmf.fit(V, k=K, seed=1).objective, rel=1e-6)


def test_stored_zeros_do_not_make_a_column_used() -> None:
    V = spread(compact()).tolil()
    V = sp.csr_array(V)
    free = np.setdiff1d(np.arange(D), PLACE)[:50].astype(np.int32)
    zeros = sp.csr_array((np.zeros(50, "f4"), (np.arange(50), free)), shape=(N, D))
    both = sp.csr_array(
        (
            np.concatenate([V.data, zeros.data]),
            (
                np.concatenate([np.repeat(np.arange(N), np.diff(V.indptr)), np.arange(50)]),
                np.concatenate([V.indices, free]),
            ),
        ),
        shape=(N, D),
    )
    assert both.nnz == V.nnz + 50
    check_same(dnmf.fit(both, k=K, seed=1), dnmf.fit(compact(), k=K, seed=1))


def test_bad_entries_are_named_by_their_own_column() -> None:
    V = spread(compact())
    V.data[7] = -3.0
    row, column = int(np.searchsorted(V.indptr, 7, side="right")) - 1, V.indices[7]
    with pytest.raises(InputError, match=rf"V\[{row}, {column}\] is -3"):
        dnmf.fit(V, k=K, seed=1)


def test_only_wide_matrices_with_few_columns_used_are_narrowed() -> None:
    V = compact()
    config = FitConfig((ModelSpec(K, 0),))
    wide, alone = (make_plan(open_source(X), config)[0] for X in (spread(V), V))
    worth = [worth_narrowing(wide, used) for used in (USED, D // 2, D // 2 + 1, D)]
    assert worth == [True, True, False, False]
    assert not worth_narrowing(alone, USED)
    dense = make_plan(open_source(V.toarray()), config)[0]
    assert not worth_narrowing(dense, 3)
    # 2,000 columns more do not pay for other numbers of millions of entries
    many = make_plan(open_source(sp.random_array((2000, 4000), density=0.2, rng=0)), config)[0]
    assert not worth_narrowing(many, 1900)


def test_memory_is_predicted_for_the_columns_that_can_have_entries(tmp_path: Path) -> None:
    d, n, entries = 1_000_000, 500, 20_000
    rng = np.random.default_rng(0)
    columns = rng.choice(d, 6000, replace=False)[rng.integers(0, 6000, entries)]
    V = sp.csr_array((np.ones(entries, "f4"), (rng.integers(0, n, entries), columns)), (n, d))
    write_compressed(tmp_path / "V", V, 5000)
    config = FitConfig((ModelSpec(10, 0),), sample=0.0, max_passes=2, tol=0.0, segments=4)
    plan, source = make_plan(open_source(tmp_path / "V"), config)
    assert at_most(plan).shape[1] == V.nnz == plan.most_used
    predicted = predict_memory(plan, 1).total - BASELINE
    with limits.using(times_used=0):
        before = make_plan(open_source(tmp_path / "V"), config)[0]
    assert predicted < (predict_memory(before, 1).total - BASELINE) / 3
    store = FolderStore.create_new(tmp_path / "run", plan.to_json())
    assert peak_of_a_run(Context(store, plan, source), predicted) <= predicted
    given = make_plan(open_source(tmp_path / "V"), config.replace(init="custom"))[0]
    assert at_most(given).shape[1] == d  # a given H may have something everywhere


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
@pytest.mark.parametrize("missing", [None, "zeros"])
def test_rows_that_nothing_uses_are_not_solved(loss: str, missing: str | None) -> None:
    """Blocks of many rows, few of them with entries: the rest is 0, as it would be."""
    V = sp.csr_array(spread(compact("f8")).T)
    options: dict[str, Any] = {"k": K, "seed": 1, "loss": loss, "missing": missing}
    options |= {"init": np.full((K, N), 0.5) + np.arange(K * N).reshape(K, N) % 7}
    # rounds between passes depend on the number of rows
    options |= {"init_W": np.ones((D, K)), "max_passes": 8, "tol": 0, "rounds": 0}
    found = dnmf.fit(V, **options)
    wanted = dnmf.fit(V[PLACE], **{**options, "init_W": np.ones((USED, K))})
    assert not np.delete(found.W, PLACE, axis=0).any()
    np.testing.assert_allclose(found.W[PLACE], wanted.W, rtol=1e-6, atol=1e-9)
    assert found.objective == pytest.approx(wanted.objective, rel=1e-9)


def test_rows_with_entries_are_picked_where_they_are_few() -> None:
    rows = np.array([3, 700, 1999])
    V = sp.csr_array((np.ones(4), ([3, 3, 700, 1999], [0, 2, 1, 2])), shape=(2000, 3))
    found = few_filled_rows(V)
    assert found is not None
    np.testing.assert_array_equal(found, rows)
    np.testing.assert_array_equal(pick_rows(V, rows).toarray(), V.toarray()[rows])
    assert few_filled_rows(sp.csr_array((2000, 3))).tolist() == [0]
    assert few_filled_rows(V[:1000]) is None
    assert few_filled_rows(V.toarray()) is None


@pytest.mark.parametrize("weighted", [False, True])
def test_columns_are_picked(weighted: bool) -> None:
    V = sp.random_array((30, 50), density=0.2, rng=0, format="csr", dtype="f4")
    columns = np.array([3, 4, 20, 49])
    places = np.full(50, -1, np.int32)
    places[columns] = np.arange(4)
    X: Any = V
    if weighted:
        X = WeightedCSR(V.data, 2 * V.data, V.indices, V.indptr, 50)
    found = pick_columns(X, places, 4)
    np.testing.assert_array_equal(
        (found.entries if weighted else found).toarray(), V[:, columns].toarray()
    )
    if weighted:
        np.testing.assert_array_equal(found.weights, 2 * found.data)


@pytest.mark.parametrize("d", [10, 60, 500, 5000])
def test_listed_sums_are_those_of_all_columns(d: int) -> None:
    """Whether a segment lists its columns or has all, and wherever it changes over."""
    rng = np.random.default_rng(d)
    parts, total = [], np.zeros((2, d))
    for entries in (5, 40, 0, 200):
        part, whole = ColumnSums(2, d), np.zeros((2, d))
        for _ in range(2):
            where = rng.integers(0, 20, entries), rng.integers(0, d, entries)
            V = sp.csr_array((rng.uniform(1, 2, entries), where), shape=(20, d))
            V.sum_duplicates()
            covered = part.cover(V)
            np.add.at(part.sums[0], covered.indices, covered.data)
            np.add.at(whole[0], V.indices, V.data)
        parts.append(part)
        total += whole
    found = ColumnSums.added(parts)
    assert (found.columns is None) == (d <= 500 or np.count_nonzero(total[0]) * 4 > d)
    np.testing.assert_array_equal(found.used(), np.flatnonzero(total[0]))
    np.testing.assert_array_equal(found.at(found.used()), total[:, found.used()])
    np.testing.assert_array_equal(found.whole(), total)
