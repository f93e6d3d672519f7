"""Weights of entries: what they mean, whatever holds them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import zarr

import dnmf
from dnmf.config import Resources
from dnmf.errors import CorruptDataError, InputError, OptionError
from dnmf.planning.memory import predict_memory
from dnmf.sources import open_source
from dnmf.sources.weighted import WeightedSource
from dnmf.testing.counting import CountingStore

LOSSES = ["frobenius", "kullback-leibler"]


def planted(n: int = 200, d: int = 30, k: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.gamma(0.5, 1.0, (n, k)) @ rng.gamma(0.5, 1.0, (k, d)) + 0.01


def weights_of(V: np.ndarray, zeros: float = 0.3, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    M = rng.gamma(1.0, 1.0, V.shape) + 0.01
    M[rng.random(V.shape) < zeros] = 0
    return M


def as_csr(V: np.ndarray, M: np.ndarray) -> sp.csr_array:
    """The entries of V that have a weight."""
    return sp.csr_array((V[M > 0], np.nonzero(M)), shape=V.shape)


def divergence(loss: str, V: np.ndarray, M: np.ndarray, fit: Any) -> float:
    """From the definition."""
    WH, seen = np.asarray(fit.W) @ np.asarray(fit.H), M > 0
    v, m, y = V[seen], M[seen], WH[seen]
    if loss == "frobenius":
        return float(np.sum(m * (v - y) ** 2)) / 2
    return float(np.sum(m * (v * np.log(v / y) - v + y)))


@pytest.mark.parametrize("options", [{"sample": 0}, {"n_init": 2}], ids=str)
@pytest.mark.parametrize("loss", LOSSES)
def test_the_objective_is_the_weighted_sum(loss: str, options: dict[str, Any]) -> None:
    V = planted()
    M = weights_of(V)
    fit = dnmf.fit(V, 3, loss=loss, weights=M, seed=0, max_passes=8, **options)
    assert fit.objective == pytest.approx(divergence(loss, V, M, fit), rel=1e-9)
    accepted = [row["objective"] for row in fit.history if row["accepted"]]
    assert (np.diff(accepted) <= 1e-9 * accepted[0]).all()


@pytest.mark.parametrize("filler", [np.nan, np.inf, -7.0, 1e300])
@pytest.mark.parametrize("loss", LOSSES)
def test_what_weighs_nothing_changes_no_bit(loss: str, filler: float) -> None:
    V = planted()
    M = weights_of(V)
    other = np.where(M > 0, V, filler)
    given = other.copy(), M.copy()
    one, same = (dnmf.fit(X, 3, loss=loss, weights=M, seed=0, max_passes=4) for X in (V, other))
    np.testing.assert_array_equal(np.asarray(one.W), np.asarray(same.W))
    np.testing.assert_array_equal(np.asarray(one.H), np.asarray(same.H))
    assert one.objective == same.objective
    assert one.fingerprint == same.fingerprint
    for before, after in zip(given, (other, M), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("loss", LOSSES)
def test_only_ratios_of_weights_matter(loss: str) -> None:
    V = planted()
    M = weights_of(V)
    one, four = (dnmf.fit(V, 3, loss=loss, weights=s * M, seed=0, max_passes=6) for s in (1, 4))
    np.testing.assert_array_equal(np.asarray(one.H), np.asarray(four.H))
    assert four.objective == 4 * one.objective


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_of_one_are_no_weights(loss: str) -> None:
    V = planted()
    options: dict[str, Any] = {"loss": loss, "seed": 0, "tol": 1e-8, "max_passes": 300}
    usual = dnmf.fit(V, 3, **options)
    weighed = dnmf.fit(V, 3, weights=np.ones(V.shape, np.uint8), **options)
    assert weighed.objective == pytest.approx(usual.objective, rel=1e-3, abs=1e-6 * V.sum())


@pytest.mark.parametrize("loss", LOSSES)
def test_dense_and_sparse_say_the_same(loss: str) -> None:
    V = planted()
    M = weights_of(V)
    few, lots = as_csr(V, M), sp.csr_array(V)
    cases: list[tuple[Any, Any, str | None]] = [
        (V, sp.csr_array(M), None),
        (np.where(M > 0, V, np.nan), np.where(M > 0, M, 1.0), "nan"),
        (lots, sp.csr_array(M), None),
        (few, sp.csr_array(M), "zeros"),
        (few, np.where(M > 0, M, 1.0), "zeros"),
        (few, np.where(M > 0, M, 1.0).astype("f4").astype("f8"), "zeros"),
    ]
    options: dict[str, Any] = {"loss": loss, "seed": 0, "max_passes": 4}
    expected = dnmf.fit(V, 3, weights=M, **options)
    for X, weights, missing in cases[:-1]:
        found = dnmf.fit(X, 3, weights=weights, missing=missing, **options)
        np.testing.assert_array_equal(np.asarray(found.H), np.asarray(expected.H))
    X, weights, missing = cases[-1]  # other weights are another problem
    found = dnmf.fit(X, 3, weights=weights, missing=missing, **options)
    assert not np.array_equal(np.asarray(found.H), np.asarray(expected.H))


def test_uncertainties_tell_good_measurements_from_bad_ones() -> None:
    """Noise of known size: with 1 / sigma^2 the truth is met with less than half the error."""
    truth = planted(400, 30)
    rng = np.random.default_rng(2)
    sigma = 0.02 * truth.mean() * np.where(rng.random(truth.shape) < 0.5, 1.0, 30.0)
    V = np.maximum(truth + sigma * rng.normal(size=truth.shape), 0)
    errors = []
    for weights in (1 / sigma**2, None):
        fit = dnmf.fit(V, 3, weights=weights, seed=0, tol=1e-6)
        errors.append(np.linalg.norm(np.asarray(fit.W) @ np.asarray(fit.H) - truth))
    assert 2 * errors[0] < errors[1]


@pytest.mark.parametrize("loss", LOSSES)
def test_transform_honours_weights(loss: str) -> None:
    V = planted()
    M = weights_of(V)
    fit = dnmf.fit(V, 3, loss=loss, weights=M, seed=0, tol=1e-9, max_passes=400)
    broken = np.where(M > 0, V, np.nan)
    W = dnmf.transform(broken, fit, weights=M)
    again = type("Fit", (), {"W": W, "H": fit.H})
    assert divergence(loss, V, M, again) <= fit.objective * (1 + 1e-6) + 1e-9
    plain = dnmf.transform(V, fit)  # without weights every entry counts alike
    assert not np.allclose(plain, W, rtol=1e-4)
    M[4, 2] = -1
    with pytest.raises(InputError, match=r"weights\[4, 2\] is negative"):
        dnmf.transform(V, fit, weights=M)


@pytest.mark.parametrize("loss", LOSSES)
def test_what_weighs_nothing_changes_no_bit_of_a_transform(loss: str) -> None:
    V = planted()
    M = weights_of(V)
    fit = dnmf.fit(V, 3, loss=loss, weights=M, seed=0, max_passes=10)
    expected = np.asarray(dnmf.transform(np.where(M > 0, V, 0), fit, weights=M))
    for filler in (np.nan, np.inf, -7.0, 1e300):
        found = dnmf.transform(np.where(M > 0, V, filler), fit, weights=M)
        np.testing.assert_array_equal(np.asarray(found), expected)


def stored(path: Path, array: np.ndarray, chunks: tuple[int, int]) -> tuple[Any, CountingStore]:
    store = CountingStore(zarr.storage.LocalStore(path))
    node = zarr.create_array(store, shape=array.shape, chunks=chunks, dtype=array.dtype)
    node[:] = array
    store.reset()
    return node, store


@pytest.mark.parametrize("chunks", [(10, 30), (15, 7), (7, 30), (200, 30), (1, 11)])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_pass_reads_both_once(tmp_path: Path, loss: str, chunks: tuple[int, int]) -> None:
    """Every chunk of V and of the weights, whatever the grids; bytes are those of both."""
    matrix = planted()
    V, of_V = stored(tmp_path / "V", matrix, (10, 30))
    M, of_M = stored(tmp_path / "M", weights_of(matrix).astype("f4"), chunks)
    options: dict[str, Any] = {"sample": 0, "block_size": 8000, "max_passes": 3, "tol": 0}
    fit = dnmf.fit(V, 3, loss=loss, weights=M, **options)
    for store in (of_V, of_M):
        assert set(store.chunk_reads().values()) == {1 + len(fit.history)}
    assert {row["bytes_read"] for row in fit.history} == {matrix.size * (8 + 4)}
    again = dnmf.fit(matrix, 3, loss=loss, weights=weights_of(matrix).astype("f4"), seed=0)
    assert again.objective is not None


def test_columns_are_the_blocks_where_rows_are_too_long(tmp_path: Path) -> None:
    matrix = planted(60, 40)
    V, _ = stored(tmp_path / "V", matrix, (60, 4))
    M, store = stored(tmp_path / "M", weights_of(matrix), (60, 6))
    options: dict[str, Any] = {"sample": 0, "max_block": 8000, "max_passes": 5, "seed": 0}
    fit = dnmf.fit(V, 3, weights=M, **options)
    assert set(store.chunk_reads().values()) == {1 + len(fit.history)}
    assert fit.W.shape == (60, 3)
    assert fit.objective == pytest.approx(
        divergence("frobenius", matrix, weights_of(matrix), fit), rel=1e-9
    )


def test_the_plan_counts_the_weights() -> None:
    V = planted()
    plain = dnmf.plan(V, 3)
    weighed = dnmf.plan(V, 3, weights=np.ones(V.shape, "f4"))
    assert weighed.plan.bytes_per_read == plain.plan.bytes_per_read + 4 * V.size
    assert predict_memory(weighed.plan, 1).per_task > predict_memory(plain.plan, 1).per_task
    assert "with weights" in dict(weighed.lines())["data"]
    few = Resources(1, 1, 300 << 20, "one")
    with pytest.raises(dnmf.errors.MemoryPlanError):
        dnmf.plan(np.zeros((4, 4 << 20)), 3, weights=np.ones((4, 4 << 20)), resources=few)


@pytest.mark.parametrize(
    ("value", "words"), [(-2.0, "negative"), (np.nan, "NaN"), (np.inf, "infinite")]
)
@pytest.mark.parametrize("sparse", [False, True])
def test_bad_weights_are_counted_and_placed(value: float, words: str, sparse: bool) -> None:
    V, M = planted(), np.ones((200, 30))
    M[17, 5] = M[60, 3] = M[60, 4] = value
    given = sp.csr_array(M) if sparse else M
    with pytest.raises(InputError, match=rf"weights\[17, 5\] is {words}.*3 weights are such"):
        dnmf.fit(V, 3, weights=given, block_size=4000)


def test_entries_that_weigh_something_must_be_good() -> None:
    V = planted()
    V[9, 4] = np.nan
    with pytest.raises(InputError, match=r"V\[9, 4\] is NaN; it is the only such entry"):
        dnmf.fit(V, 3, weights=np.ones(V.shape))
    with pytest.raises(InputError, match="nothing but zeros where it has a weight"):
        dnmf.fit(V, 3, weights=np.zeros(V.shape))


def test_a_resume_needs_the_same_weights(tmp_path: Path) -> None:
    V = planted()
    np.save(tmp_path / "V.npy", V)
    np.save(tmp_path / "M.npy", weights_of(V))
    np.save(tmp_path / "other.npy", weights_of(V, seed=3))
    path, weights, out = (str(tmp_path / name) for name in ("V.npy", "M.npy", "out"))
    options: dict[str, Any] = {"seed": 0, "max_passes": 6, "tol": 0, "sample": 0}
    with pytest.raises(KeyboardInterrupt):
        dnmf.fit(path, 3, weights=weights, out=out, on_event=_after(3), **options)
    again: dict[str, Any] = {"out": out, "resume": True, **options}
    with pytest.raises(OptionError, match="weights was True, now False"):
        dnmf.fit(path, 3, **again)
    with pytest.raises(InputError, match="is not the matrix that"):
        dnmf.fit(path, 3, weights=str(tmp_path / "other.npy"), **again)
    (tmp_path / "M.npy").write_bytes((tmp_path / "other.npy").read_bytes())
    with pytest.raises(CorruptDataError, match="changed since the scan"):
        dnmf.resume(out)
    np.save(tmp_path / "M.npy", weights_of(V))
    resumed = dnmf.fit(path, 3, weights=weights, **again)
    whole = dnmf.fit(path, 3, weights=weights, **options)
    np.testing.assert_array_equal(np.asarray(resumed.W), np.asarray(whole.W))


def _after(passes: int) -> Any:
    def listen(event: Any) -> None:
        rows = getattr(event, "rows", [])
        if rows and rows[-1].get("pass") == passes:
            raise KeyboardInterrupt

    return listen


def test_a_chunk_of_V_that_is_lost_shows_only_where_it_is_observed(tmp_path: Path) -> None:
    matrix, M = planted() + 0.1, np.ones((200, 30))
    V, _ = stored(tmp_path / "V", matrix, (10, 30))
    (tmp_path / "V" / "c" / "3" / "0").unlink()
    with pytest.raises(CorruptDataError, match="c/3/0"):
        dnmf.fit(V, 3, weights=M, sample=0)
    M[30:40] = 0
    assert dnmf.fit(V, 3, weights=M, sample=0, max_passes=1).W[35].max() == 0


def test_a_source_is_made_again_from_its_spec(tmp_path: Path) -> None:
    np.save(tmp_path / "V.npy", planted())
    np.save(tmp_path / "M.npy", np.ones((200, 30)))
    parts = [open_source(str(tmp_path / name)) for name in ("V.npy", "M.npy")]
    source = WeightedSource(*parts)
    again = dnmf.sources.from_spec(source.spec())
    assert again.metadata() == source.metadata()
    assert source.nbytes == parts[0].nbytes + parts[1].nbytes
