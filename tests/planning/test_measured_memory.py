"""Fits and batches of models stay within what the plan predicts, and read V once per pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from marks import slow
from memory_tools import peak_of_a_run, traced_peak

import dnmf
from dnmf.config import MIB, FitConfig, ModelSpec, Resources
from dnmf.fitting.data.context import Context
from dnmf.options import asked
from dnmf.planning import limits
from dnmf.planning.memory import BASELINE, USABLE, check_memory, predict_memory
from dnmf.planning.plan import Plan, make_plan
from dnmf.runs.folder import FolderStore
from dnmf.sources import open_source
from dnmf.sources.base import Source
from dnmf.sources.weighted import WeightedSource
from dnmf.steps.serial import Serial
from dnmf.study.fit import study_config
from dnmf.testing.counting import CountingStore
from dnmf.testing.layouts import write_compressed, write_dense

OBJECTS = 1 << 18
"""Bytes of Python's own objects (plan, records; more for more models; other threads of a long test
session), for which a worker's baseline has room."""


def stays_within(
    plan: Plan, source: Source, folder: Path, spare: int, **more: Any
) -> tuple[int, int]:
    """Run a plan; what it took and what was predicted beside imports, in bytes."""
    store = FolderStore.create_new(folder / "run", plan.to_json())
    predicted = predict_memory(plan, 1).total - BASELINE
    measured = peak_of_a_run(Context(store, plan, source), predicted + spare, **more)
    text = f"{measured / 1e6:.1f} MB, predicted {predicted / 1e6:.1f} MB"
    assert measured <= predicted + spare, text
    assert measured > predicted / 4, f"{text}: too high a prediction refuses what would fit"
    return measured, predicted


def dense(n: int, d: int, chunks: tuple[int, int], dtype: str = "f4") -> Callable[[Path], object]:
    """Writes counts below 9."""
    V = np.random.default_rng(0).integers(0, 9, (n, d)).astype(dtype)
    return lambda path: write_dense(path, V, chunks)


def sparse(n: int, d: int) -> Callable[[Path], object]:
    """Writes CSR of which 2% are filled."""
    V = sp.random_array((n, d), density=0.02, rng=0, dtype="f4", format="csr")
    return lambda path: write_compressed(path, V, 50_000)


class Case(NamedTuple):
    """What is stored, k, and the options; several k are a study of so many ``seeds``."""

    write: Callable[[], Callable[[Path], object]]
    k: int | list[int]
    options: dict[str, Any]


TALL, WIDE, LONG = (6000, 1000), (300, 6000), (30_000, 64)
LEFT_OUT = {"holdout": "bicv", "folds": 3}
MANY = {"block_size": MIB, "seeds": 2}
SAMPLE = {"sample": 0.2, "sample_bytes": 4 * MIB, "n_init": 2}
SHORT = {
    "float32": Case(lambda: dense(*TALL, (500, 1000)), 4, {}),
    "16-bit integers": Case(lambda: dense(*TALL, (500, 1000), "u2"), 4, {}),
    "wide, in slabs": Case(lambda: dense(*WIDE, (100, 1000)), 40, {"slab_size": MIB}),
    "many segments": Case(
        lambda: dense(30_000, 16, (2000, 16), "f8"), 40, {"segments": 24, "block_size": 1 << 17}
    ),
    "sparse": Case(lambda: sparse(20_000, 1000), 4, {"block_size": MIB}),
    "sparse, wide": Case(lambda: sparse(2000, 8000), 30, {"block_size": MIB}),
    "models": Case(lambda: dense(20_000, 300, (1000, 300)), [2, 4, 6, 8, 10], MANY),
    "models of sparse data": Case(lambda: sparse(20_000, 1000), [4, 8, 12], MANY),
}
LONGER = {
    "float64": Case(lambda: dense(*TALL, (500, 1000), "f8"), 4, {}),
    "float64 as float32": Case(lambda: dense(*TALL, (500, 1000), "f8"), 4, {"dtype": "float32"}),
    "wide": Case(lambda: dense(*WIDE, (100, 1000)), 40, {}),
    "long": Case(lambda: dense(*LONG, (2000, 64)), 40, {"segments": 3}),
    "models, left out": Case(lambda: dense(20_000, 300, (1000, 300)), [4, 8], {**MANY, **LEFT_OUT}),
    "models of a sample": Case(lambda: dense(20_000, 300, (1000, 300)), [4, 8], {**MANY, **SAMPLE}),
    "models of sparse data, left out": Case(
        lambda: sparse(20_000, 1000), [4, 8], {**MANY, **LEFT_OUT, "seeds": 1}
    ),
    "models by Kullback-Leibler": Case(
        lambda: sparse(20_000, 1000), [4, 8], {**MANY, "loss": "kullback-leibler"}
    ),
    "wide models": Case(lambda: dense(*WIDE, (100, 1000)), [20, 40], {**MANY, "slab_size": MIB}),
}
CASES = SHORT | LONGER


@pytest.mark.parametrize("name", [*SHORT, *slow(*LONGER)])
def test_a_fit_stays_within_its_prediction(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    case.write()(tmp_path / "V.zarr")
    given = {"sample": 0.0, "block_size": 2 * MIB, "segments": 4, "max_passes": 2, "tol": 0.0}
    given |= case.options
    many = isinstance(case.k, list)
    if many:
        left_out = given.pop("holdout", None), given.pop("folds", 5)
        config = study_config(case.k, given.pop("seeds"), *left_out, given)
    else:
        config = FitConfig((ModelSpec(case.k, 0),), **given)
    with limits.using(losses={"nonzero_tile": 1 << 14}):  # small data, small tiles
        plan, source = make_plan(open_source(tmp_path / "V.zarr"), config)
    stays_within(plan, source, tmp_path, OBJECTS if many else 0)


@pytest.fixture
def _small_tiles() -> Iterator[None]:
    """As large in proportion to these data as they are to what is out of core."""
    with limits.using(losses={"nonzero_tile": 1 << 12, "dense_tile": 1 << 12, "batch": 1 << 8}):
        yield


def stored(path: Path, array: np.ndarray, rows: int) -> tuple[Source, CountingStore]:
    store = CountingStore(zarr.storage.LocalStore(path))
    return open_source(write_dense(store, array, (rows, array.shape[1]))), store


def counted(folder: Path, kind: str) -> tuple[Source, list[CountingStore], dict[str, Any]]:
    """V with its weights, its stores, and the options that say what is missing."""
    rng = np.random.default_rng(0)
    V = rng.gamma(2.0, size=LONG).astype("f4")
    lost = rng.random(V.shape) < 0.3
    if kind in ("zeros", "sparse"):
        V[lost] = 0
        store = CountingStore(zarr.storage.LocalStore(folder / "V.zarr"))
        write_compressed(store, sp.csr_array(V), 20_000)
        source = open_source(zarr.open_group(store, mode="r"))
        return source, [store], {"missing": "zeros"} if kind == "zeros" else {}
    if kind != "plain":
        V[lost] = np.nan
    source, of_V = stored(folder / "V.zarr", V, 250 if kind == "nan" else 500)
    if kind != "weights":
        return source, [of_V], {"missing": "nan"} if kind == "nan" else {}
    weights, of_M = stored(folder / "M.zarr", np.where(lost, 0, 2).astype("f4"), 500)
    return WeightedSource(source, weights), [of_V, of_M], {"weights": True}


KL, LS = "kullback-leibler", "frobenius"
L1 = {"alpha_W": 1e-3, "l1_ratio": 0.5}
OUT_OF_CORE: list[tuple[Any, str, dict[str, Any]]] = [
    (KL, "nan", {}),
    (LS, "weights", {}),
    (LS, "plain", {"solver": "mu"}),
    (LS, "plain", {"normalize": "weights"}),
]
MORE_OUT_OF_CORE: list[tuple[Any, str, dict[str, Any]]] = [
    (KL, "plain", {}),
    ("itakura-saito", "plain", {}),
    (0.5, "plain", {}),
    (LS, "zeros", {}),
    (KL, "zeros", {}),
    (LS, "nan", {}),
    (KL, "weights", {}),
    (KL, "sparse", {}),
    (0.5, "sparse", {}),
    (KL, "plain", {"solver": "mu"}),
    (KL, "sparse", {**L1, "normalize": "components"}),
    (LS, "sparse", L1),
    (1.5, "plain", L1),
    (3.0, "sparse", {}),
    (KL, "sparse", {"alpha_W": 1e-3}),
    (KL, "sparse", {"normalize": "components"}),
    (KL, "sparse", {"normalize": "weights"}),
]


@pytest.mark.usefixtures("_small_tiles")
@pytest.mark.parametrize(("loss", "kind", "more"), [*OUT_OF_CORE, *slow(*MORE_OUT_OF_CORE)])
def test_a_quarter_of_the_data_is_enough_memory(
    tmp_path: Path, loss: Any, kind: str, more: dict[str, Any]
) -> None:
    """A plan of a quarter of the data is made, held to, and every chunk is read once per pass."""
    source, stores, options = counted(tmp_path, kind)
    named, _ = asked({"k": 3, "seed": 0, "loss": loss})
    options |= {**more, "loss": named.loss, "beta": named.beta}
    options |= {"max_passes": 2, "tol": 0.0, "sample": 0.0, "segments": 6, "rounds": 0}
    block_size = 1 << (17 if kind == "nan" else 18)
    config = FitConfig((ModelSpec(3, 0),), block_size=block_size, **options)
    plan, oriented = make_plan(source, config)
    working = source.nbytes // 4  # what a worker may have beside its imports
    check_memory(plan, Resources(1, 1, int((BASELINE + working) / USABLE), "one"))
    for store in stores:
        store.reset()

    def count() -> None:
        for store in stores:
            shared = plan.segments - 1 if kind in ("zeros", "sparse") else 0
            check_reads(store.chunk_reads(), 1 + 2, shared)

    assert max(stays_within(plan, oriented, tmp_path, OBJECTS, first=count)) <= working


def check_reads(reads: dict[str, int], times: int, shared: int) -> None:
    """Every chunk was read that often: by a scan and two passes.

    Those of CSR in which a segment ends and another begins are read by both.
    """
    if not shared:
        assert set(reads.values()) == {times}
        return
    for name in ("data", "indices"):
        of_array = [count for key, count in reads.items() if key.startswith(f"{name}/")]
        assert len(of_array) > 10 * shared
        assert set(of_array) <= {times, 2 * times}
        assert sum(count > times for count in of_array) <= shared


def as_csr(block: np.ndarray) -> sp.csr_array:
    indices = np.tile(np.arange(0, 250, 3, dtype="i4"), len(block))
    indptr = np.arange(len(block) + 1, dtype="i4") * 84
    return sp.csr_array((np.ones(len(indices), "f4"), indices, indptr), block.shape)


def lazily(kind: str) -> da.Array:
    """8 MB in chunks that are made one by one; a third of that as CSR."""
    ones = da.ones((8000, 250), chunks=(200, 250), dtype="f4")
    if kind == "csr":
        return ones.map_blocks(as_csr, dtype="f4", meta=sp.csr_array((0, 0), dtype="f4"))
    return ones / (1 + ones.std(axis=0)) if kind == "shared" else ones


@pytest.mark.parametrize("kind", ["dense", "shared", "csr"])
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_lazy_data_stay_within_the_prediction(kind: str, where: str) -> None:
    """While they are computed, and when a run reads them from where they are then."""
    x = lazily(kind)
    options: dict[str, Any] = {"k": 4, "seed": 0, "max_passes": 1, "sample": 0, "n_init": 1}
    options |= {"block_size": MIB, "segments": 4}
    executor = Serial(
        memory_limit=int((BASELINE + (50 if where == "memory" else 7) * MIB) / USABLE)
    )
    report = dnmf.plan(x, resources=executor.resources(), **options)
    assert [one.where for one in report.evaluations] == [where]
    predicted = report.memory.total - BASELINE

    def fit() -> None:
        dnmf.fit(x, executor=executor, **options)

    fit()
    measured = traced_peak(fit)
    text = f"{measured / 1e6:.1f} MB, predicted {predicted / 1e6:.1f} MB"
    assert predicted / 4 < measured <= predicted + 4 * OBJECTS, text
