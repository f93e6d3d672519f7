"""Fits of Dask arrays: the same as those of the matrices that they hold."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
from marks import slow

import dnmf
from dnmf.conversion.staging import STAGING, stage
from dnmf.errors import InputError
from dnmf.executors.cluster import Cluster
from dnmf.interop import as_source
from dnmf.sources import from_spec
from dnmf.steps.events import Committed, Planned
from dnmf.steps.serial import Serial
from dnmf.steps.work import Needs
from dnmf.testing.problems import planted_poisson

if TYPE_CHECKING:
    from distributed import Client

N, D, K = 250, 30, 4
OPTIONS: dict[str, Any] = {"k": K, "seed": 1, "tol": 0, "max_passes": 4, "sample": 0}
LAYOUT: dict[str, Any] = {**OPTIONS, "block_size": 10 * 64 * 8, "slab_size": 8 * K * 16}
DECISIONS = ("pass", "accepted", "objective", "relative_error", "kkt_W", "kkt_H", "extrapolation")

ODD = [
    (30, 7),
    ((1, 99, 0, 150), (30,)),
    (N, 1),
    ((7,) * 35 + (5,), (29, 0, 1)),
]


@pytest.fixture(scope="module")
def V() -> np.ndarray:
    found = np.asarray(planted_poisson(n=N, d=D, k=K, seed=0).V, np.float64)
    found.flags.writeable = False
    return found


@pytest.fixture(scope="module")
def expected(V: np.ndarray) -> Any:
    return dnmf.fit(V, executor=Serial(), **OPTIONS)


def objectives(result: Any) -> list[float]:
    return [row["objective"] for row in result.history]


@pytest.mark.parametrize("chunks", ODD)
@pytest.mark.parametrize("kind", [None, sp.csr_matrix, sp.csr_array])
def test_serial_fits_agree(V: np.ndarray, expected: Any, kind: Any, chunks: Any) -> None:
    x = da.from_array(V, chunks=chunks)
    x = x if kind is None else x.map_blocks(kind)
    graph = dict(x.dask)
    result = dnmf.fit(x, executor=Serial(), **OPTIONS)
    np.testing.assert_allclose(objectives(result), objectives(expected), rtol=1e-10)
    np.testing.assert_allclose(result.W[:] @ result.H[:], expected.W[:] @ expected.H[:], atol=1e-7)
    assert x.chunks == da.core.normalize_chunks(chunks, V.shape)
    assert dict(x.dask) == graph


def test_unknown_rows_agree(V: np.ndarray, expected: Any) -> None:
    twice = da.from_array(np.concatenate([V, V]), chunks=(33, 7))
    x = twice[da.from_array(np.arange(2 * N) < N, chunks=33)]
    result = dnmf.fit(x, executor=Serial(), **OPTIONS)
    np.testing.assert_allclose(objectives(result), objectives(expected), rtol=1e-10)
    assert np.isnan(x.shape[0])


def interrupt(event: Any) -> None:
    if isinstance(event, Committed) and event.kind == "pass":
        raise KeyboardInterrupt


def test_a_run_resumes_with_the_same_array(V: np.ndarray, tmp_path: Path) -> None:
    x, out = da.from_array(V, chunks=(30, 7)), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        dnmf.fit(x, out=out, executor=Serial(), on_event=interrupt, **LAYOUT)
    other = da.from_array(V[:-1], chunks=(30, 7))
    with pytest.raises(InputError, match="not the matrix"):
        dnmf.fit(other, out=out, executor=Serial(), resume=True, **LAYOUT)
    same = da.from_array(V, chunks=(31, 7))  # chunks decide nothing where V is computed once
    result = dnmf.fit(same, out=out, executor=Serial(), resume=True, **LAYOUT)
    assert_same(result, dnmf.fit(x, executor=Serial(), **LAYOUT))


def bad(V: np.ndarray, value: float) -> np.ndarray:
    wrong = V.copy()
    wrong[123, 17] = value
    return wrong


@pytest.mark.parametrize("kind", [None, sp.csr_array])
@pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN"), (-1.0, "-1")])
def test_bad_entries_are_named(V: np.ndarray, kind: Any, value: float, name: str) -> None:
    x = da.from_array(bad(V, value), chunks=(30, 7))
    x = x if kind is None else x.map_blocks(kind)
    with pytest.raises(InputError, match=rf"V\[123, 17\] is {name};"):
        dnmf.fit(x, executor=Serial(), **OPTIONS)


class NoRoom(Cluster):
    """A cluster that cannot keep V in memory."""

    def room(self, needs: Needs) -> int:
        return 0


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many chunks of a small matrix."""
    limits = replace(STAGING, chunk=10 * D * 8, rectangle=40 * D * 8)
    monkeypatch.setattr("dnmf.conversion.staging.stage", partial(stage, limits=limits))


def counted(block: np.ndarray, folder: str, sparse: bool) -> Any:
    """The block; leaves a mark of each time that it is computed."""
    Path(folder, f"{time.monotonic_ns()}-{os.getpid()}").touch()
    return sp.csr_array(block) if sparse else block


class Staged:
    """Hears of a fit's steps, and keeps a copy of what it staged, which goes when it is done."""

    def __init__(self, out: Path, sparse: bool) -> None:
        self.there, self.copy = out / ".dnmf" / "staged.zarr", out.parent / "copy.zarr"
        self.kind = "stacked" if sparse else "zarr"

    def __call__(self, event: Any) -> None:
        if not self.copy.exists():
            shutil.copytree(self.there, self.copy)

    def source(self) -> Any:
        assert not self.there.exists()
        return from_spec({"kind": self.kind, "location": str(self.copy)})


def assert_same(result: Any, other: Any) -> None:
    np.testing.assert_array_equal(result.W[:], other.W[:])
    np.testing.assert_array_equal(result.H[:], other.H[:])
    for one, two in zip(result.history, other.history, strict=True):
        assert [one[name] for name in DECISIONS] == [two[name] for name in DECISIONS]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("sparse", [*slow(False), True], ids=["dense", "csr"])
def test_staged_once_and_fitted(
    V: np.ndarray, client: Client, small_chunks: None, tmp_path: Path, sparse: bool
) -> None:
    """Bit for bit the serial fit of what was staged; each chunk is computed as often as said."""
    out, marks = tmp_path / "out", tmp_path / "marks"
    marks.mkdir()
    meta = sp.csr_array((0, 0), dtype=V.dtype) if sparse else V[:0, :0]
    x = da.from_array(V, chunks=(9, 16)).map_blocks(counted, str(marks), sparse, meta=meta)
    staged = Staged(out, sparse)
    result = dnmf.fit(x, out=out, executor=NoRoom(client), on_event=staged, **LAYOUT)
    assert result.details["layout"]["segments"] >= 24
    computed = len(list(marks.iterdir()))
    assert computed == 28 * 2 * (2 if sparse else 1)  # CSR is counted, too, before it is placed
    read_again = dnmf.fit(staged.source(), executor=Serial(), **LAYOUT)
    assert_same(result, read_again)
    plain = dnmf.fit(sp.csr_array(V) if sparse else V, executor=Serial(), **LAYOUT)
    np.testing.assert_allclose(objectives(result), objectives(plain), rtol=1e-10)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "csr"])
def test_bad_entries_on_a_cluster_leave_nothing(
    V: np.ndarray, client: Client, tmp_path: Path, sparse: bool
) -> None:
    x = da.from_array(bad(V, np.nan), chunks=(30, 30))
    x = x.map_blocks(sp.csr_array) if sparse else x
    with pytest.raises(InputError, match=r"V\[123, 17\] is NaN"):
        dnmf.fit(x, out=tmp_path / "out", executor=NoRoom(client), **LAYOUT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(120)
@pytest.mark.parametrize("make", [np.array, sp.csr_array])
def test_matrices_of_this_process_on_a_cluster(
    V: np.ndarray, client: Client, small_chunks: None, tmp_path: Path, make: Any
) -> None:
    given = make(V)
    out = tmp_path / "out"
    staged = Staged(out, sp.issparse(given))
    result = dnmf.fit(given, out=out, client=client, on_event=staged, **LAYOUT)
    assert result.details["layout"]["segments"] >= 24
    again = dnmf.fit(staged.source(), executor=Serial(), **LAYOUT)
    assert_same(result, again)
    assert_same(dnmf.fit(given, out=out, client=client, resume=True, **LAYOUT), again)
    with pytest.raises(InputError, match="is not the matrix"):
        dnmf.fit(given[1:], out=out, client=client, resume=True, **LAYOUT)


def other_entries(given: Any) -> Any:
    other = given.copy()
    (other.data if sp.issparse(other) else other.reshape(-1))[1000] += 1
    return other


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("begun", "make"), [("planned", np.array), ("scanned", sp.csr_array), ("done", np.array)]
)
def test_other_entries_are_not_taken_for_what_was_staged(
    V: np.ndarray, client: Client, small_chunks: None, tmp_path: Path, make: Any, begun: str
) -> None:
    given = make(V)
    out = tmp_path / "out"

    def stop(event: Any) -> None:
        if isinstance(event, {"planned": Planned, "scanned": Committed}.get(begun, ())):
            raise KeyboardInterrupt

    expected = nullcontext() if begun == "done" else pytest.raises(KeyboardInterrupt)
    with expected:
        dnmf.fit(given, out=out, client=client, on_event=stop, **LAYOUT)
    again: dict[str, Any] = {"out": out, "client": client, "resume": True, **LAYOUT}
    for other in (other_entries(given), given.astype(np.float32)):
        with pytest.raises(InputError, match="but other entries or another dtype"):
            dnmf.fit(other, **again)
    result = dnmf.fit(given.copy(), **again)
    assert result.done
    assert result.passes == 4


@pytest.mark.timeout(120)
def test_transform_of_a_dask_array(
    V: np.ndarray, expected: Any, client: Client, tmp_path: Path
) -> None:
    x = da.from_array(V, chunks=(30, 7))
    W = dnmf.transform(V, expected)
    for found in (
        dnmf.transform(x, expected, executor=Serial()),
        dnmf.transform(x, expected, out=tmp_path / "W", client=client),
    ):
        np.testing.assert_allclose(found[:], W[:], rtol=1e-8, atol=1e-12)


def test_a_dask_array_is_a_source_of_its_own_kind(V: np.ndarray) -> None:
    with pytest.raises(InputError, match="stages it"):
        from_spec({"kind": "dask"})
    assert as_source(as_source(da.from_array(V))).kind == "dask"
