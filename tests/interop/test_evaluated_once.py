"""Lazy data in one process: computed once, then in memory or staged, with the bits of memory."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata
import dask
import dask.array as da
import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import xarray as xr
from dask.system import CPU_COUNT
from marks import slow

import dnmf
from dnmf.errors import InputError
from dnmf.executors.threads import Threads
from dnmf.planning.memory import BASELINE, USABLE
from dnmf.steps.events import Committed, Planned
from dnmf.steps.serial import Serial
from dnmf.steps.work import Executor
from dnmf.testing.problems import planted_poisson

if TYPE_CHECKING:
    from distributed import Client

N, D = 2000, 40
OPTIONS: dict[str, Any] = {
    "k": 4,
    "seed": 1,
    "tol": 0,
    "max_passes": 2,
    "block_size": 16_000,
    "segments": 5,
}
OPTIONS |= {"sample": 0.2, "sample_bytes": 40_000, "segments": 5}


@pytest.fixture(scope="module")
def V() -> np.ndarray:
    found = np.array(planted_poisson(n=N, d=D, k=4, seed=0).V, np.float32)
    found[found < 4] = 0
    found.flags.writeable = False
    return found


class Counted:
    """Counts how often chunks are computed."""

    def __init__(self, kind: Any = None) -> None:
        self._kind, self._lock, self.calls = kind, threading.Lock(), 0

    def __call__(self, block: Any, *rest: Any) -> Any:
        with self._lock:
            self.calls += 1
        return block if self._kind is None else self._kind(block)

    def of(self, x: da.Array) -> da.Array:
        meta = np.empty((0, 0), x.dtype) if self._kind is None else self._kind((0, 0))
        if self._kind is not None:
            meta = meta.astype(x.dtype)
        return x.map_blocks(self, dtype=x.dtype, meta=meta)


def on_disk(same: Any, weights: Any = None, need: int | None = None, **more: Any) -> Executor:
    """An executor in whose memory there is room for a run on a matrix, but not for that too."""
    if need is None:
        options = {**OPTIONS, "weights": weights, "resources": Serial().resources(), **more}
        need = dnmf.plan(same, **options).memory.total
    size = same.data.nbytes + same.indices.nbytes if sp.issparse(same) else same.nbytes
    return Serial(memory_limit=int((need + 0.9 * size) / USABLE))


def said(lines: list[tuple[str, str]]) -> Callable[[Any], None]:
    def listen(event: Any) -> None:
        if isinstance(event, Planned):
            lines.extend(line for line in event.lines if line[0] == "evaluation")

    return listen


def assert_same(one: Any, other: Any) -> None:
    np.testing.assert_array_equal(one.W[:], other.W[:])
    np.testing.assert_array_equal(one.H[:], other.H[:])
    assert [row["objective"] for row in one.history] == [row["objective"] for row in other.history]


def dense(V: np.ndarray, count: Counted) -> tuple[Any, Any, int]:
    return count.of(da.from_array(V, chunks=(100, 13))), V, 20 * 4


def csr(V: np.ndarray, count: Counted) -> tuple[Any, Any, int]:
    count._kind = sp.csr_matrix
    return count.of(da.from_array(V, chunks=(100, 40))), sp.csr_array(V), 20


def csr_beside(V: np.ndarray, count: Counted) -> tuple[Any, Any, int]:
    count._kind = sp.csr_array
    return count.of(da.from_array(V, chunks=((1, 999, 1000), (30, 10)))), sp.csr_array(V), 3 * 2


def unknown_rows(V: np.ndarray, count: Counted) -> tuple[Any, Any, int]:
    some = np.arange(N) % 5 > 0
    x = count.of(da.from_array(V, chunks=(100, 40)))
    return x[da.from_array(some, chunks=100)], V[some], 20


def integers(V: np.ndarray, count: Counted) -> tuple[Any, Any, int]:
    small = V.astype("u2")
    return count.of(da.from_array(small, chunks=(333, 40))), small, 7


def labelled(V: np.ndarray, count: Counted) -> tuple[Any, Any, int]:
    x, _, chunks = dense(V, count)
    return xr.DataArray(x, dims=("cell", "gene")), V, chunks


def annotated(V: np.ndarray, count: Counted) -> tuple[Any, Any, int]:
    x, S, chunks = csr(V, count)
    return anndata.AnnData(x), S, chunks


KINDS = [dense, csr, csr_beside, unknown_rows, integers, labelled, annotated]


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_computed_once_with_the_bits_of_memory(V: np.ndarray, make: Any, where: str) -> None:
    count, lines = Counted(), list[tuple[str, str]]()
    x, same, chunks = make(V, count)
    count.calls = 0
    executor = Threads() if where == "memory" else on_disk(same)
    fit = dnmf.fit(x, executor=executor, on_event=said(lines), **OPTIONS)
    # chunks that only a computation measures are computed again where there is no room for them
    assert count.calls == chunks * (2 if make is unknown_rows and where == "disk" else 1)
    assert_same(fit, dnmf.fit(same, executor=Serial(), **OPTIONS))
    ((_, text),) = lines
    assert text.startswith("V: computed once, ")
    assert ("kept in memory" in text) == (where == "memory")
    assert ("staged on disk" in text) == (where == "disk")


def test_many_passes_and_one_evaluation() -> None:
    """The reported case: five evaluations of a matrix that fits into memory."""
    S = sp.random_array((4000, 50), density=0.05, format="csr", rng=0, dtype="f4")
    count = Counted()
    meta = sp.csr_matrix((0, 0), dtype="f4")
    x = da.from_array(S, chunks=(100, 50), asarray=False)
    x = x.map_blocks(count, dtype="f4", meta=meta)
    fit = dnmf.fit(x, k=5, seed=0, n_init=1, sample=0)
    assert len(fit.history) > 1
    assert count.calls == 40


def scaled(x: da.Array) -> da.Array:
    return x / (1 + x.std(axis=0))


def over_all(x: da.Array) -> da.Array:
    return x / x.sum()


def over_both(x: da.Array) -> da.Array:
    return (x - x.min(axis=0)) / (1 + x.max())


@pytest.mark.parametrize("change", [scaled, over_all, over_both])
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_what_all_chunks_need_is_computed_once(V: np.ndarray, change: Any, where: str) -> None:
    """For want of memory what it needs is computed for it alone: twice, not for each block."""
    count, lines = Counted(), list[tuple[str, str]]()
    x = change(count.of(da.from_array(V, chunks=(100, 40))))
    executor = Threads() if where == "memory" else on_disk(V)
    fit = dnmf.fit(x, executor=executor, on_event=said(lines), **OPTIONS)
    assert count.calls == 20 * (1 if where == "memory" else 2)
    assert "that all chunks need are computed once" in lines[0][1]
    same = change(da.from_array(V, chunks=(100, 40))).compute(scheduler="sync")
    assert_same(fit, dnmf.fit(same, executor=Serial(), **OPTIONS))


def test_a_shared_file_is_opened_once(V: np.ndarray) -> None:
    """What is loaded whole, by a task without inputs, is no chunk, and not loaded for each."""
    count = Counted()
    whole = dask.delayed(lambda: count(V))()
    parts = [da.from_delayed(whole[a : a + 100], (100, D), dtype="f4") for a in range(0, N, 100)]
    for executor in (Threads(), on_disk(V)):
        count.calls = 0
        dnmf.fit(da.concatenate(parts), executor=executor, **OPTIONS)
        assert count.calls == 1


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_weights_that_are_lazy(V: np.ndarray, where: str) -> None:
    M = np.random.default_rng(0).gamma(1.0, size=V.shape).astype("f4")
    M[M < 0.3] = 0
    of_V, of_M = Counted(), Counted()
    x, m = of_V.of(da.from_array(V, chunks=(100, 13))), of_M.of(da.from_array(M, chunks=(400, 40)))
    executor = Threads() if where == "memory" else on_disk(V, M)
    lines: list[tuple[str, str]] = []
    fit = dnmf.fit(x, weights=m, executor=executor, on_event=said(lines), **OPTIONS)
    assert (of_V.calls, of_M.calls) == (20 * 4, 5)
    assert_same(fit, dnmf.fit(V, weights=M, executor=Serial(), **OPTIONS))
    assert [line.partition(":")[0] for _, line in lines] == ["V", "weights"]
    half = dnmf.fit(V, weights=m, executor=executor, **OPTIONS)  # one of them is lazy
    assert_same(half, fit)


@pytest.mark.parametrize(
    ("where", "out"), [("memory", False), ("disk", True), *slow(("memory", True), ("disk", False))]
)
def test_transform_and_study(V: np.ndarray, tmp_path: Path, where: str, out: bool) -> None:
    options: dict[str, Any] = {"holdout": "bicv", "folds": 2, "max_passes": 3}
    options |= {"block_size": 16_000}
    here = Serial().resources()
    need = dnmf.plan_many(V, [2, 3], 2, resources=here, **options).memory.total
    executor = Threads() if where == "memory" else on_disk(V, need=need)
    count = Counted()
    x, _, chunks = dense(V, count)
    fit = dnmf.fit(V, executor=Serial(), **OPTIONS)
    at = {"out": tmp_path / "W"} if out else {}
    W = dnmf.transform(x, fit, executor=executor, block_size=16_000, **at)
    np.testing.assert_array_equal(W[:], dnmf.transform(V, fit, block_size=16_000)[:])
    assert count.calls == chunks
    count.calls, at = 0, {"out": tmp_path / "study"} if out else {}
    study = dnmf.fit_many(x, [2, 3], 2, executor=executor, **at, **options)
    assert count.calls == chunks
    same = dnmf.fit_many(V, [2, 3], 2, executor=Serial(), **options)
    for one, other in zip(study.results, same.results, strict=True):
        np.testing.assert_array_equal(one.H[:], other.H[:])


def test_the_estimator(V: np.ndarray) -> None:
    for make in (dense, csr, annotated):
        count = Counted()
        x, same, chunks = make(V, count)
        model = dnmf.NMF(4, random_state=0, max_iter=3, tol=0)
        W = model.fit_transform(x)
        assert count.calls == chunks
        other = dnmf.NMF(4, random_state=0, max_iter=3, tol=0)
        np.testing.assert_array_equal(np.asarray(W), other.fit_transform(same))
        model.transform(x)
        assert count.calls == 2 * chunks


def test_wide_data_are_cut_by_columns(V: np.ndarray) -> None:
    wide = {**OPTIONS, "max_block": 5_000, "block_size": 5_000}
    T = np.ascontiguousarray(V.T)
    same = dnmf.fit(T, executor=Serial(), **wide)
    for executor in (Threads(), on_disk(T, **wide)):
        count = Counted()
        x = count.of(da.from_array(T, chunks=(13, 100)))
        assert_same(dnmf.fit(x, executor=executor, **wide), same)
        assert count.calls == 4 * 20


def interrupt(event: Any) -> None:
    if isinstance(event, Committed) and event.kind == "pass":
        raise KeyboardInterrupt


@pytest.mark.parametrize("make", [dense, csr, unknown_rows])
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_a_run_goes_on_with_what_it_computed(
    V: np.ndarray, tmp_path: Path, make: Any, where: str
) -> None:
    """What is staged is read where it is; what was in memory is computed once more."""
    count, out = Counted(), tmp_path / "out"
    x, same, chunks = make(V, count)
    less = on_disk(same)
    executor = Threads() if where == "memory" else less
    with pytest.raises(KeyboardInterrupt):
        dnmf.fit(x, executor=executor, out=out, on_event=interrupt, **OPTIONS)
    staged = list((out / ".dnmf").glob("staged*"))
    assert bool(staged) == (where == "disk")
    expected = dnmf.fit(same, executor=Serial(), **OPTIONS)
    if where == "disk":
        count.calls = 0
        assert_same(dnmf.resume(out, executor=Threads()), expected)
        assert count.calls == 0
    else:
        with pytest.raises(InputError, match="pass the same matrix again"):
            dnmf.resume(out)
        count.calls = 0
        again = {"out": out, "resume": True, **OPTIONS}
        assert_same(dnmf.fit(x, executor=less, **again), expected)  # less memory by now
        assert count.calls == chunks * (2 if make is unknown_rows else 1)
        count.calls = 0
        assert_same(dnmf.fit(x, **again), expected)  # it is done
        assert count.calls <= (chunks if make is unknown_rows else 0)
    assert not list((out / ".dnmf").glob("staged*"))


def test_another_matrix_is_no_reason_to_compute_it(V: np.ndarray, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        dnmf.fit(da.from_array(V, chunks=100), out=out, on_event=interrupt, **OPTIONS)
    count = Counted()
    for other in (V[:-1], V.astype("f8")):
        x = count.of(da.from_array(other, chunks=100))
        with pytest.raises(InputError, match="is not the matrix"):
            dnmf.fit(x, out=out, resume=True, **OPTIONS)
    assert count.calls == 0
    with pytest.raises(InputError, match="changed since the scan"):
        dnmf.fit(da.from_array(V + 1, chunks=100), out=out, resume=True, **OPTIONS)


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_nothing_stays_behind(
    V: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    executor = Threads() if where == "memory" else on_disk(V)
    bad = V.copy()
    bad[123, 17] = np.nan
    dnmf.fit(da.from_array(V, chunks=100), executor=executor, **OPTIONS)
    of_csr, S, _ = csr(bad, Counted())
    for x, same in ((da.from_array(bad, chunks=100), bad), (of_csr, S)):
        executor = Threads() if where == "memory" else on_disk(same)
        with pytest.raises(InputError, match=r"V\[123, 17\] is NaN"):
            dnmf.fit(x, executor=executor, **OPTIONS)
    assert list(tmp_path.iterdir()) == []


def test_storage_that_fails_for_a_moment(V: np.ndarray) -> None:
    class Failing(Counted):
        def __call__(self, block: Any, *rest: Any) -> Any:
            super().__call__(block)
            if self.calls == 7:
                raise ConnectionError("for a moment")
            return block

    count = Failing()
    x = count.of(da.from_array(V, chunks=(100, 40)))
    assert_same(
        dnmf.fit(x, executor=Threads(), **OPTIONS), dnmf.fit(V, executor=Serial(), **OPTIONS)
    )
    assert 20 < count.calls <= 20 + 2 * CPU_COUNT + 1  # those under way, once more


def test_files_in_hdf5_and_any_scheduler(V: np.ndarray, tmp_path: Path) -> None:
    """Lazy arrays of HDF5 are read by one thread at a time, whatever Dask was told."""
    with h5py.File(tmp_path / "V.h5", "w") as file:
        file["X"] = V

    def elsewhere(graph: Any, keys: Any, **options: Any) -> Any:
        return dask.get(graph, keys, **options)

    expected = dnmf.fit(V, executor=Serial(), **OPTIONS)
    with h5py.File(tmp_path / "V.h5") as file:
        x = da.from_array(file["X"], chunks=(100, 13), lock=True)
        for scheduler in (None, "sync", elsewhere):
            with dask.config.set(scheduler=scheduler):
                for executor in (Threads(), on_disk(V)):
                    assert_same(dnmf.fit(x, executor=executor, **OPTIONS), expected)


@pytest.mark.timeout(120)
@pytest.mark.cluster
@pytest.mark.parametrize("sparse", [False, True])
def test_chunks_that_a_cluster_computes_for_this_process(
    V: np.ndarray, client: Client, sparse: bool
) -> None:
    x = da.from_array(V, chunks=(100, 40))
    x, same = (x.map_blocks(sp.csr_array), sp.csr_array(V)) if sparse else (x, V)
    x = client.persist(x)
    expected = dnmf.fit(same, executor=Serial(), **OPTIONS)
    for executor in (Threads(), on_disk(same)):
        assert_same(dnmf.fit(x, executor=executor, **OPTIONS), expected)


@pytest.mark.parametrize("make", [dense, csr])
def test_the_plan_says_it(V: np.ndarray, make: Any) -> None:
    count = Counted()
    x, same, chunks = make(V, count)
    report = dnmf.plan(x, **OPTIONS)
    (found,) = report.to_json()["evaluations"]
    assert (found["where"], found["times"], found["shared"]) == ("memory", 1, 0)
    assert report.memory.total >= BASELINE + found["nbytes"]
    assert count.calls == (chunks if make is csr else 0)  # entries of CSR are counted
    assert "computed once" in dict(report.lines())["evaluation"]
    here = on_disk(same).resources()
    (found,) = dnmf.plan(x, resources=here, **OPTIONS).to_json()["evaluations"]
    assert found["where"] == "disk"
    study = dnmf.plan_many(x, [2, 3], 2, block_size=16_000)
    assert [one.where for one in study.evaluations] == ["memory"]
    assert dnmf.plan(V, 4).to_json()["evaluations"] == []
