"""Losses, weights and missing entries out of core: a quarter of the data in memory, one read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from marks import slow
from test_memory import ATTEMPTS, _measured

from dnmf.config import FitConfig, ModelSpec, Resources
from dnmf.fitting.data.context import Context
from dnmf.losses import beta, kullback_leibler, nonzeros
from dnmf.options import divergence
from dnmf.planning.memory import BASELINE, USABLE, check_memory, predict_memory
from dnmf.planning.plan import make_plan
from dnmf.runs.folder import FolderStore
from dnmf.sources import open_source
from dnmf.sources.base import Source
from dnmf.sources.weighted import WeightedSource
from dnmf.testing.counting import CountingStore
from dnmf.testing.layouts import write_compressed

N, D = 30_000, 64
CHUNK = {"nan": 250, "weights": 500, "plain": 500}
"""Rows of a chunk, and of a block."""


OBJECTS = 1 << 18
"""Bytes of Python's own objects (plan, records; other threads of a long test session), which a
worker's baseline has room for."""


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """As large in proportion to these data as they are to what is out of core."""
    for module in (nonzeros, beta):
        monkeypatch.setattr(module, "TILE_ENTRIES", 1 << 12)
    monkeypatch.setattr(kullback_leibler, "BATCH", 1 << 8)


def stored(folder: Path, name: str, array: np.ndarray, rows: int) -> tuple[Source, CountingStore]:
    store = CountingStore(zarr.storage.LocalStore(folder / name))
    node = zarr.create_array(store, shape=array.shape, chunks=(rows, D), dtype=array.dtype)
    node[:] = array
    return open_source(node), store


def sources(folder: Path, kind: str) -> tuple[Source, list[CountingStore], dict[str, Any]]:
    rng = np.random.default_rng(0)
    V = rng.gamma(2.0, size=(N, D)).astype("f4")
    lost = rng.random(V.shape) < 0.3
    if kind == "weights":
        V[lost] = np.nan
        both = [
            stored(folder, name, array, CHUNK[kind])
            for name, array in (("V", V), ("M", np.where(lost, 0, 2).astype("f4")))
        ]
        source = WeightedSource(both[0][0], both[1][0])
        return source, [store for _, store in both], {"weights": True}
    if kind == "nan":
        V[lost] = np.nan
        source, store = stored(folder, "V", V, CHUNK[kind])
        return source, [store], {"missing": "nan"}
    if kind == "plain":
        source, store = stored(folder, "V", V, CHUNK[kind])
        return source, [store], {}
    V[lost] = 0
    store = CountingStore(zarr.storage.LocalStore(folder / "V.zarr"))
    write_compressed(store, sp.csr_array(V), 20_000)
    source = open_source(zarr.open_group(store, mode="r"))
    return source, [store], {"missing": "zeros"} if kind == "zeros" else {}


SHORT = [("kullback-leibler", "nan"), ("frobenius", "weights")]
LONG = [
    ("kullback-leibler", "plain"),
    ("itakura-saito", "plain"),
    (0.5, "plain"),
    ("frobenius", "zeros"),
    ("kullback-leibler", "zeros"),
    ("frobenius", "nan"),
    ("kullback-leibler", "weights"),
    ("kullback-leibler", "sparse"),
    (0.5, "sparse"),
]


@pytest.mark.parametrize(("loss", "kind"), [*SHORT, *slow(*LONG)])
def test_a_quarter_of_the_data_is_enough_memory(tmp_path: Path, loss: Any, kind: str) -> None:
    check_a_quarter(tmp_path, loss, kind, {})


OPTIONS: list[tuple[Any, str, dict[str, Any]]] = [
    ("frobenius", "plain", {"solver": "mu"}),
    ("kullback-leibler", "plain", {"solver": "mu"}),
    ("kullback-leibler", "sparse", {"alpha_W": 1e-3, "l1_ratio": 0.5, "normalize": "components"}),
    ("frobenius", "sparse", {"alpha_W": 1e-3, "l1_ratio": 0.5}),
    (1.5, "plain", {"alpha_W": 1e-3, "l1_ratio": 0.5}),
    (3.0, "sparse", {}),
    ("kullback-leibler", "sparse", {"alpha_W": 1e-3}),
    ("kullback-leibler", "sparse", {"normalize": "components"}),
    ("kullback-leibler", "sparse", {"normalize": "weights"}),
    ("frobenius", "plain", {"normalize": "weights"}),
]


@pytest.mark.parametrize(("loss", "kind", "more"), [OPTIONS[0], OPTIONS[-1], *slow(*OPTIONS[1:-1])])
def test_with_options_too(tmp_path: Path, loss: Any, kind: str, more: dict[str, Any]) -> None:
    check_a_quarter(tmp_path, loss, kind, more)


def check_a_quarter(tmp_path: Path, loss: Any, kind: str, more: dict[str, Any]) -> None:
    """A plan of a quarter of the data is made, held to, and every chunk is read once per pass."""
    source, stores, options = sources(tmp_path, kind)
    options |= {**more, **divergence(loss, None)}
    options |= {"max_passes": 2, "tol": 0.0, "sample": 0.0}
    config = FitConfig(
        (ModelSpec(3, 0),), block_size=1 << (17 if kind == "nan" else 18), segments=6, **options
    )
    plan, oriented = make_plan(source, config)
    working = source.nbytes // 4  # what a worker may have beside its imports
    limit = int((BASELINE + working) / USABLE)
    check_memory(plan, Resources(1, 1, limit, "one"))
    folder = FolderStore.create_new(tmp_path / "run", plan.to_json())
    for store in stores:
        store.reset()
    measured = _measured(Context(folder, plan, oriented))
    predicted = predict_memory(plan, 1).total - BASELINE
    assert measured <= predicted + OBJECTS, (measured, predicted)
    assert max(measured, predicted) <= working
    assert measured > predicted / 4
    for store in stores:
        check_reads(
            store, (1 + ATTEMPTS) * 3, 0 if kind not in ("zeros", "sparse") else plan.segments - 1
        )


def check_reads(store: CountingStore, times: int, shared: int) -> None:
    """Every chunk was read that often: in each run by a scan and two passes.

    Those of CSR in which a segment ends and another begins are read by both.
    """
    reads = store.chunk_reads()
    if not shared:
        assert set(reads.values()) == {times}
        return
    for name in ("data", "indices"):
        of_array = [count for key, count in reads.items() if key.startswith(f"{name}/")]
        assert len(of_array) > 10 * shared
        assert set(of_array) <= {times, 2 * times}
        assert sum(count > times for count in of_array) <= shared
