"""The same bits whatever runs a fit, of whatever loss and data, with segments in memory or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from executor_tools import (
    OPTIONS,
    PASSES,
    SEGMENTS,
    Undisturbed,
    assert_undisturbed,
    cluster_of,
    faulty,
    fit,
    once_per_pass,
)
from marks import slow

import dnmf
from dnmf.executors.threads import Threads
from dnmf.losses import loss_names
from dnmf.steps.events import Committed
from dnmf.steps.serial import Serial
from dnmf.testing import faults
from dnmf.testing.counting import CountingStore
from dnmf.testing.layouts import write_compressed, write_dense
from dnmf.testing.problems import planted_poisson

pytestmark = pytest.mark.timeout(180)

KL = {"loss": "kullback-leibler"}
FIXED = np.random.default_rng(0).gamma(0.5, 1.0, (2, 30)) * [[3.0], [0.1]]
SAMPLE = {"sample": 0.5, "sample_bytes": 240 * 30 * 4 // 2}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "penalties": ("dense", {"alpha_W": 0.01, "alpha_H": 0.02, "l1_ratio": 0.5}),
    "mu": ("dense", {"solver": "mu"}),
    "KL": ("dense", KL),
    "KL mu": ("dense", {**KL, "solver": "mu", "alpha_W": 0.01}),
    "KL sample": ("dense", {**KL, **SAMPLE}),
    "IS": ("dense", {"loss": "itakura-saito"}),
    "beta": ("dense", {"loss": "beta", "beta": 0.5}),
    "fixed H": ("dense", {"fixed_H": FIXED, **SAMPLE}),
    "sparse mu": ("csr", {"solver": "mu"}),
    "sparse KL": ("csr", {**KL, "init": "nndsvda", "sample": 0.5, "sample_bytes": 240 * 30 * 6}),
    "sparse KL fixed H": ("csr", {**KL, "fixed_H": np.ones((1, 30))}),
    "sparse beta": ("csr", {"loss": "beta", "beta": 1.5, "alpha_W": 0.01, "l1_ratio": 1.0}),
    "sparse KL mu": ("csr", {**KL, "solver": "mu", "normalize": "components"}),
    "nan": ("holes", {"missing": "nan"}),
    "weights": ("holes", {"weights": True, "alpha_W": 0.01}),
    "zeros": ("observed", {"missing": "zeros", "sample": 0.5}),
    "KL zeros weights": ("observed", {**KL, "missing": "zeros", "weights": True}),
}
MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "KL weights": ("holes", {**KL, "weights": True, "sample": 0.5}),
    "KL nan": ("holes", {**KL, "missing": "nan"}),
    "KL zeros": ("observed", {**KL, "missing": "zeros"}),
}
ALL = CASES | MORE
RESUMED = ("KL sample", "KL zeros weights", "fixed H")
DENSE = [name for name in CASES if CASES[name][0] in ("dense", "holes")]


def test_every_loss_is_among_the_cases() -> None:
    assert {options.get("loss", "frobenius") for _, options in CASES.values()} == set(loss_names())


@pytest.fixture(scope="session")
def matrices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """V and its weights as the cases name them, the weights in other chunks."""
    folder = tmp_path_factory.mktemp("matrices")
    V = planted_poisson(240, 30, 4).V + np.float32(0.25)
    M = np.random.default_rng(0).gamma(1.0, size=V.shape).astype("f4")
    M[np.random.default_rng(1).random(V.shape) < 0.3] = 0
    holes, few = np.where(M > 0, V, np.nan), np.where(V < 1, 0, V).astype(np.float64)
    for name, array, chunks in (
        ("dense", V, (10, 30)),
        ("holes", holes, (10, 30)),
        ("weights of holes", M, (5, 8)),
    ):
        write_dense(folder / name, array, chunks)
    write_compressed(folder / "csr", sp.csr_array(few), 200)
    # what was observed is not zero
    for name, array in (("observed", np.where(M > 0, V, 0)), ("weights of observed", M)):
        write_compressed(folder / name, sp.csr_array(array), 150, index_dtype="i4")
    return {path.name: path for path in folder.iterdir()}


class Given(NamedTuple):
    """Where V is stored, and the options of a fit."""

    V: Path
    options: dict[str, Any]


@pytest.fixture(scope="session")
def given(matrices: dict[str, Path]) -> Callable[[str], Given]:
    def of(name: str) -> Given:
        data, case = ALL[name]
        wide = not case.keys().isdisjoint({"missing", "weights"}) or (
            "loss" in case and case.get("solver") != "mu"
        )
        options = {**OPTIONS, "max_passes": 3, "block_size": 20 * 64 * 4, **case}
        options |= {"slab_size": 8 * 4 * 80} if wide else {}  # of more numbers per column
        options |= {"block_size": 11_000} if data == "csr" else {}
        if case.get("weights"):
            options |= {"weights": matrices[f"weights of {data}"], "block_size": 20 * 30 * 12}
        return Given(matrices[data], options)

    return of


@pytest.fixture(scope="session")
def serial(
    given: Callable[[str], Given], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Undisturbed]:
    """What the reference makes of a case, once in a session."""
    folder = tmp_path_factory.mktemp("serial")

    @cache
    def run(name: str) -> Undisturbed:
        V, options = given(name)
        result = dnmf.fit(V, out=folder / name, executor=Serial(), **options)
        assert result.details["layout"]["segments"] > 9  # a tree of three levels
        assert result.details["layout"]["slabs"] > 1
        assert len(result.history) == 3
        return Undisturbed(str(V), result.W[:], result.H[:], result.history)

    return run


@pytest.mark.cluster
@pytest.mark.parametrize("name", [*CASES, *slow(*MORE)])
def test_two_workers(client, given, serial, tmp_path, name):
    V, options = given(name)
    result = dnmf.fit(V, out=tmp_path / "out", client=client, **options)
    assert_undisturbed(result, serial(name))


@pytest.mark.parametrize("name", [*CASES, *slow(*MORE)])
def test_threads_of_this_process(given, serial, tmp_path, name):
    V, options = given(name)
    result = dnmf.fit(V, out=tmp_path / "out", executor=Threads(3), **options)
    assert_undisturbed(result, serial(name))


class EnoughError(Exception):
    """The listener's way out of a fit."""


def enough(event: Any) -> None:
    committed = isinstance(event, Committed) and event.kind == "pass"  # not the sample's
    if committed and event.rows[-1]["pass"] == 2:
        raise EnoughError


@pytest.mark.parametrize("name", [*RESUMED, *slow(*(x for x in ALL if x not in RESUMED))])
def test_interrupted_and_resumed(given, serial, tmp_path, name):
    V, options = given(name)
    out = tmp_path / "out"
    with pytest.raises(EnoughError):
        dnmf.fit(V, out=out, executor=Serial(), on_event=enough, **options)
    assert_undisturbed(dnmf.resume(out, executor=Serial()), serial(name))


@pytest.mark.cluster
def test_data_in_memory_are_staged_with_their_weights(client, given, tmp_path):
    V, options = given("weights")
    serial = dnmf.fit(V, executor=Serial(), **options)
    weights = sp.csr_array(zarr.open_array(options["weights"], mode="r")[:])
    options |= {"client": client, "out": tmp_path / "out", "weights": weights}
    in_memory = zarr.open_array(V, mode="r")[:]
    with pytest.raises(EnoughError):
        dnmf.fit(in_memory, on_event=enough, **options)
    cluster = dnmf.fit(in_memory, resume=True, **options)
    np.testing.assert_allclose(np.asarray(cluster.H), np.asarray(serial.H), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", DENSE)
def test_a_pass_reads_every_chunk_once(given, name):
    V, options = given(name)
    options = {**options, "sample": 0}
    paths, counting = [V, *filter(None, [options.get("weights")])], []
    for path in paths:
        store = CountingStore(zarr.storage.LocalStore(path))
        counting.append((store, zarr.open_array(store, mode="r")))
        store.reset()
    if "weights" in options:
        options["weights"] = counting[1][1]
    result = dnmf.fit(counting[0][1], **options)
    for store, array in counting:
        reads = store.chunk_reads()
        assert len(reads) == array.nchunks
        assert set(reads.values()) == {1 + len(result.history)}


@pytest.mark.parametrize("name", [x for x in CASES if x != "IS" and CASES[x][0] == "dense"])
def test_sparse_and_dense_agree(matrices, name):
    V = zarr.open_array(matrices["dense"], mode="r")[:].astype(np.float64)
    V[V < 1] = 0
    options = {**OPTIONS, "max_passes": 5, **CASES[name][1], "sample": 0, "rounds": 0}
    dense, sparse = (dnmf.fit(X, **options).objective for X in (V, sp.csr_array(V)))
    assert dense == pytest.approx(sparse, rel=1e-10)


@pytest.fixture
def shaped(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A client of so many workers of so many threads, or one that is there."""
    if isinstance(request.param, str):
        yield request.getfixturevalue(request.param)
        return
    with cluster_of(*request.param) as started:
        yield started


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("shaped", "reads"),
    [
        ("streaming", (PASSES + 1) * SEGMENTS),  # 2 x 2, which keep nothing
        ("client", SEGMENTS),  # 2 x 1, which keep all
        ((1, 3), None),
        *(pytest.param(shape, None, marks=pytest.mark.chaos) for shape in ((4, 1), (2, 2))),
    ],
    ids=str,
    indirect=["shaped"],
)
def test_any_workers_and_threads(shaped, undisturbed, tmp_path, reads):
    with faulty(shaped, tmp_path / "f") as counts:
        result = fit(undisturbed.V, tmp_path / "out", shaped)
        once_per_pass(counts)
        assert reads in (None, faults.count(counts, "block-read"))
    assert_undisturbed(result, undisturbed)
