"""Stored CSC whose columns are mostly empty: left out from the plan on, in every result 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from memory_tools import traced_peak

import dnmf
from dnmf.config import MIB, FitConfig, ModelSpec
from dnmf.errors import CorruptDataError, InputError, ResumableError
from dnmf.launch.data import lay_out
from dnmf.launch.request import Request
from dnmf.planning import limits
from dnmf.planning.memory import BASELINE
from dnmf.planning.plan import make_plan
from dnmf.sources import open_source
from dnmf.sources.missing import check_missing
from dnmf.steps.serial import Serial
from dnmf.testing import faults
from dnmf.testing.faults import Fault
from dnmf.testing.layouts import write_compressed

N, D, USED, K = 90, 2500, 60, 3
PLACE = np.sort(np.random.default_rng(1).choice(D, USED, replace=False))
SLABS = {"segments": 4, "block_size": 1000, "slab_size": 8 * K * 16, "fan_in": 2}


def compact(dtype: str = "f4") -> sp.csr_array:
    """Counts of which every column has some, but a few rows have none."""
    rng = np.random.default_rng(0)
    V = rng.poisson(rng.gamma(0.5, 1, (N, K)) @ rng.gamma(0.5, 1, (K, USED))).astype(dtype)
    V[rng.integers(0, N, USED), np.arange(USED)] += 1
    V[[0, 17, N - 1]] = 0
    V[5] += V.sum(axis=0) == 0
    return sp.csr_array(V)


def spread(V: Any) -> sp.csr_array:
    """Return the entries in their places among many more columns."""
    V = sp.csr_array(V)
    return sp.csr_array((V.data, PLACE[V.indices].astype(np.int32), V.indptr), shape=(N, D))


def stored(path: Path, V: sp.csr_array, entries: int = 100) -> Path:
    write_compressed(path, sp.csc_array(V), entries)
    return path


def check_same(found: Any, wanted: Any) -> None:
    """Check that a fit of `spread` is the fit of `compact`, to the bit, and 0 elsewhere."""
    H = np.zeros((wanted.H.shape[0], D), np.asarray(wanted.H).dtype)
    H[:, PLACE] = np.asarray(wanted.H)
    np.testing.assert_array_equal(np.asarray(found.H), H)
    np.testing.assert_array_equal(np.asarray(found.W), np.asarray(wanted.W))
    assert found.objective == wanted.objective
    assert found.shape == (N, D)


CASES: dict[str, dict[str, Any]] = {
    "least squares": {},
    "float64": {"dtype": "float64"},
    "multiplicative": {"solver": "mu", "max_passes": 20},
    "Kullback-Leibler": {"loss": "kullback-leibler"},
    "missing": {"missing": "zeros", "max_passes": 5},
    "several slabs and segments, a sample": {**SLABS, "sample": 0.6, "sample_bytes": 3000},
    "no sample": {"sample": 0},
    "NNDSVD": {"init": "nndsvd"},
    "normalized": {"normalize": "weights"},
    "components": {"normalize": "components"},
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("out", [False, True])
def test_a_fit_is_that_of_the_columns_with_entries(tmp_path: Path, name: str, out: bool) -> None:
    V = compact()
    results = []
    for what, X in {"spread": spread(V), "compact": V}.items():
        where = {"out": tmp_path / f"{what}.fit"} if out else {}
        path = stored(tmp_path / what, X)
        results.append(dnmf.fit(path, k=K, seed=1, **{**CASES[name], **where}))
    check_same(*results)
    # a few rows without entries are not worth leaving out: what rounds leave there is rounding
    assert np.asarray(results[0].W)[[0, 17, N - 1]].max() < 1e-12
    assert results[0].details["data"]["zero_columns"] == 3  # by columns these are V's rows
    assert results[0].details["data"]["zero_rows"] == D - USED


def test_beta(tmp_path: Path) -> None:
    """Its size counts all entries of V, so that only the factors are those of the compact one."""
    V, options = compact(), {"k": K, "seed": 1, "beta": 0.5, "max_passes": 4, "tol": 0}
    found = dnmf.fit(stored(tmp_path / "spread", spread(V)), **options)
    wanted = dnmf.fit(stored(tmp_path / "compact", V), **options)
    np.testing.assert_allclose(found.H[:, PLACE], wanted.H, rtol=1e-4, atol=1e-6)
    assert not np.delete(found.H, PLACE, axis=1).any()


def test_weights_whose_lines_are_others(tmp_path: Path) -> None:
    """A column that has a weight stays, whether V has entries there or not."""
    V = compact()
    weights = V.copy()
    weights.data = np.random.default_rng(2).uniform(0.5, 2, V.nnz).astype("f4")
    more = spread(weights).tolil()
    unused = np.setdiff1d(np.arange(D), PLACE)[[3, 900, -1]]
    more[2, unused] = 1.5
    given = {
        "spread": (spread(V), sp.csr_array(more)),
        "compact": (V, weights),
    }
    options: dict[str, Any] = {"k": K, "seed": 1, "tol": 0, "max_passes": 6}
    fits = {}
    for name, (X, M) in given.items():
        paths = [stored(tmp_path / f"{name}-{i}", one) for i, one in enumerate((X, M))]
        fits[name] = dnmf.fit(paths[0], weights=paths[1], **options)
    found, wanted = fits["spread"], fits["compact"]
    assert found.objective == pytest.approx(wanted.objective, rel=0.05)
    assert not np.delete(found.H, PLACE, axis=1).any()
    assert found.shape == (N, D)


def test_penalties_count_every_column(tmp_path: Path) -> None:
    V = compact("f8")
    options: dict[str, Any] = {"k": K, "seed": 1, "alpha_H": 2e-3, "l1_ratio": 0.5, "tol": 1e-7}
    found = dnmf.fit(stored(tmp_path / "spread", spread(V)), alpha_W=1e-3, **options)
    wanted = dnmf.fit(stored(tmp_path / "compact", V), alpha_W=1e-3 * D / USED, **options)
    assert found.objective == pytest.approx(wanted.objective, rel=1e-6)
    by_rows = dnmf.fit(spread(V), alpha_W=1e-3, **options)
    assert found.objective == pytest.approx(by_rows.objective, rel=1e-3)


@pytest.mark.parametrize("holdout", [None, "bicv", "speckled"])
def test_a_study(tmp_path: Path, holdout: str | None) -> None:
    V = compact()
    options: dict[str, Any] = {"seeds": 1, "folds": 3, "max_passes": 5, "holdout": holdout}
    studies = [
        dnmf.fit_many(stored(tmp_path / name, X), [2, 3], **options)
        for name, X in {"spread": spread(V), "compact": V}.items()
    ]
    if holdout is None:
        check_same(studies[0].results[-1], studies[1].results[-1])
        return
    found, wanted = (study.held_out for study in studies)
    np.testing.assert_array_equal(found.errors, wanted.errors)


def test_a_run_that_stopped_shows_and_is_resumed(tmp_path: Path) -> None:
    path = stored(tmp_path / "V", spread(compact()))
    options: dict[str, Any] = {"k": K, "seed": 1, "tol": 0, "max_passes": 5, **SLABS}
    out = tmp_path / "out"
    fault = Fault("finish", "no-memory", {"run": str(out), "rows": "all", "part": 0}, after=2)
    with faults.active(tmp_path / "faults", [fault]), pytest.raises(ResumableError):
        dnmf.fit(path, out=out, **options)
    running = dnmf.open(out)
    assert running.shape == (N, D)
    assert np.asarray(running.H)[:, PLACE].any()
    assert not np.delete(np.asarray(running.H), PLACE, axis=1).any()
    found, wanted = dnmf.resume(out), dnmf.fit(path, **options)
    np.testing.assert_array_equal(np.asarray(found.H), wanted.H)
    np.testing.assert_array_equal(np.asarray(found.W), wanted.W)
    assert found.fingerprint == wanted.fingerprint


def test_entries_that_moved_to_another_column_are_found(tmp_path: Path) -> None:
    """The blocks of both matrices are alike; their columns are not."""
    path = stored(tmp_path / "V", spread(compact()))
    out = tmp_path / "out"
    fault = Fault("finish", "no-memory", {"run": str(out), "rows": "all", "part": 0}, after=1)
    with faults.active(tmp_path / "faults", [fault]), pytest.raises(ResumableError):
        dnmf.fit(path, k=K, seed=1, out=out, tol=0, max_passes=5)
    begun = dnmf.open(out).fingerprint
    indptr: Any = zarr.open_array(path / "indptr")
    values = indptr[:]
    at = int(PLACE[7])
    values[at + 1] = values[at]  # column at + 1 gets the entries
    indptr[:] = values
    with pytest.raises(InputError, match="changed since the run began"):
        dnmf.resume(out)
    assert dnmf.fit(path, k=K, seed=1, max_passes=1).fingerprint != begun


@pytest.mark.parametrize(("value", "what"), [(-3.0, "-3"), (np.nan, "NaN")])
def test_bad_entries_are_named_by_their_own_column(tmp_path: Path, value: float, what: str) -> None:
    V = sp.csc_array(spread(compact()))
    V.data[40] = value
    row, column = V.indices[40], int(np.searchsorted(V.indptr, 40, side="right")) - 1
    with pytest.raises(InputError, match=rf"V\[{row}, {column}\] is {what}"):
        dnmf.fit(stored(tmp_path / "V", sp.csr_array(V)), k=K, seed=1)


def test_damage_is_named_by_its_own_column(tmp_path: Path) -> None:
    path = stored(tmp_path / "V", spread(compact()))
    indices: Any = zarr.open_array(path / "indices")
    values = indices[:]
    values[40] = N
    indices[:] = values
    column = int(np.searchsorted(zarr.open_array(path / "indptr")[:], 40, side="right")) - 1
    with pytest.raises(CorruptDataError, match=f"row index {N} in column {column}, "):
        dnmf.fit(path, k=K, seed=1)


@pytest.mark.parametrize("name", ["data", "indices", "indptr"])
def test_a_chunk_that_is_gone_is_missed(tmp_path: Path, name: str) -> None:
    path = stored(tmp_path / "V", spread(compact()))
    lost = next(p for p in sorted((path / name).rglob("*")) if p.is_file() and "json" not in p.name)
    lost.unlink()
    with pytest.raises(CorruptDataError, match="missing"):
        dnmf.fit(path, k=K, seed=1)


def test_only_many_empty_columns_are_left_out(tmp_path: Path) -> None:
    config = FitConfig((ModelSpec(K, 0),))
    wide = open_source(stored(tmp_path / "wide", spread(compact())))
    plan, source = make_plan(wide, config)
    assert (plan.axis, plan.shape, plan.empty_rows) == ("columns", (USED, N), D - USED)
    assert plan.shape_of_V == (N, D)
    np.testing.assert_array_equal(source.numbers(), PLACE)
    assert check_missing(source, source.missing_chunks(0, USED, None), "error") == []
    full = open_source(stored(tmp_path / "full", compact()))
    assert make_plan(full, config)[0].empty_rows == 0
    assert make_plan(wide, config.replace(init="custom"))[0].empty_rows == D - USED
    with limits.using(times_used=0):
        assert make_plan(wide, config)[0].empty_rows == 0


@pytest.mark.parametrize("encoding", ["csr", "csc"])
@pytest.mark.parametrize("out", [False, True])
def test_memory_is_that_of_the_plan(
    tmp_path: Path, encoding: str, out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result in memory is counted, if it is to be there; what steps leave out is not."""
    for where in ("planning.narrow.ENCODED_BYTES", "runs.published._CHUNK_BYTES"):
        monkeypatch.setattr(f"dnmf.{where}", 4 * MIB)
    n, d, k, entries = 300, 1_000_000, 16, 20_000
    rng = np.random.default_rng(0)
    columns = rng.choice(d, 4000, replace=False)[rng.integers(0, 4000, entries)]
    V = sp.csr_array((np.ones(entries, "f4"), (rng.integers(0, n, entries), columns)), (n, d))
    write_compressed(tmp_path / "V", V if encoding == "csr" else sp.csc_array(V), 5000)
    options: dict[str, Any] = {"sample": 0.0, "max_passes": 2, "tol": 0.0}
    config = FitConfig((ModelSpec(k, 0),), **options)
    request = Request(tmp_path / "V", None, config, out=tmp_path / "o" if out else None)
    need = lay_out(open_source(tmp_path / "V"), request, Serial())[2]
    predicted = need.total - BASELINE

    def act(name: str) -> None:
        where = {"out": tmp_path / name} if out else {}
        dnmf.fit(tmp_path / "V", k=k, seed=0, executor=Serial(), **options, **where)

    act("first")  # compiles
    measured = traced_peak(lambda: act("second"))
    text = f"{measured / 1e6:.1f} MB, predicted {predicted / 1e6:.1f} MB"
    assert predicted / 4 < measured <= predicted, text
    of_H = 4 * k * d
    assert (measured > of_H) == (not out), text
