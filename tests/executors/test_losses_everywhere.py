"""Every loss gives the same bits on the serial executor and on a cluster, a read per pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from executor_tools import OPTIONS, decisions
from marks import slow

import dnmf
from dnmf.losses import loss_names
from dnmf.steps.events import Committed
from dnmf.testing.counting import CountingStore
from dnmf.testing.layouts import write_compressed
from dnmf.testing.problems import planted_poisson

pytestmark = pytest.mark.timeout(180)

CASES: list[dict[str, Any]] = [
    {"loss": "frobenius", "alpha_W": 0.01, "alpha_H": 0.02, "l1_ratio": 0.5},
    {"loss": "frobenius", "solver": "mu"},
    {"loss": "kullback-leibler"},
    {"loss": "kullback-leibler", "solver": "mu", "alpha_W": 0.01},
    {"loss": "kullback-leibler", "sample": 0.5, "sample_bytes": 240 * 30 * 4 // 2},
    {"loss": "itakura-saito"},
    {"loss": "beta", "beta": 0.5},
]


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    return planted_poisson(240, 30, 4).V + np.float32(0.25)


@pytest.fixture(scope="module")
def stored(counts: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("losses") / "V.zarr")
    array = zarr.create_array(path, shape=counts.shape, chunks=(10, 30), dtype=counts.dtype)
    array[:] = counts
    return path


def test_every_loss_is_among_the_cases() -> None:
    assert {case["loss"] for case in CASES} == set(loss_names())


@pytest.mark.cluster
@pytest.mark.parametrize("case", CASES, ids=str)
def test_serial_and_cluster_agree_bit_by_bit(
    client: Any, stored: str, case: dict[str, Any], tmp_path: Path
) -> None:
    options = {**OPTIONS, "slab_size": 8 * 4 * 80, "max_passes": 3, **case}
    serial = dnmf.fit(stored, out=tmp_path / "serial", **options)
    cluster = dnmf.fit(stored, out=tmp_path / "cluster", client=client, **options)
    assert decisions(cluster.history) == decisions(serial.history)
    np.testing.assert_array_equal(np.asarray(cluster.W), np.asarray(serial.W))
    np.testing.assert_array_equal(np.asarray(cluster.H), np.asarray(serial.H))


@pytest.mark.cluster
@pytest.mark.parametrize(
    "case",
    [
        {"loss": "frobenius", "solver": "mu"},
        {
            "loss": "kullback-leibler",
            "init": "nndsvda",
            "sample": 0.5,
            "sample_bytes": 240 * 30 * 6,
        },
        {"loss": "kullback-leibler", "fixed_H": np.ones((1, 30))},
        {"loss": "beta", "beta": 1.5, "alpha_W": 0.01, "l1_ratio": 1.0},
        {"loss": "kullback-leibler", "solver": "mu", "normalize": "components"},
    ],
    ids=lambda case: "-".join(map(str, case)),
)
def test_serial_and_cluster_agree_on_sparse_data(
    client: Any, counts: np.ndarray, case: dict[str, Any], tmp_path: Path
) -> None:
    V = counts.astype(np.float64)
    V[V < 1] = 0
    write_compressed(tmp_path / "V.zarr", sp.csr_array(V), 200)
    options = {**OPTIONS, "slab_size": 8 * 4 * 80, "max_passes": 3, "block_size": 2000, **case}
    fits = [
        dnmf.fit(tmp_path / "V.zarr", out=tmp_path / name, client=where, **options)
        for name, where in (("serial", None), ("cluster", client))
    ]
    assert decisions(fits[1].history) == decisions(fits[0].history)
    assert len(fits[0].history) == 3
    np.testing.assert_array_equal(np.asarray(fits[1].W), np.asarray(fits[0].W))
    np.testing.assert_array_equal(np.asarray(fits[1].H), np.asarray(fits[0].H))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_pass_reads_every_chunk_once(stored: str, case: dict[str, Any]) -> None:
    store = CountingStore(zarr.storage.LocalStore(stored))
    V = zarr.open_array(store, mode="r")
    store.reset()
    result = dnmf.fit(V, **{**OPTIONS, "max_passes": 3, **case, "sample": 0})
    reads = store.chunk_reads()
    assert len(reads) == 24
    assert set(reads.values()) == {1 + len(result.history)}


@pytest.mark.parametrize("case", [case for case in CASES if case["loss"] != "itakura-saito"])
def test_sparse_and_dense_agree(counts: np.ndarray, case: dict[str, Any]) -> None:
    V = counts.astype(np.float64)
    V[V < 1] = 0
    options = {**OPTIONS, "max_passes": 5, **case, "sample": 0}
    dense, sparse = (dnmf.fit(X, **options).objective for X in (V, sp.csr_array(V)))
    assert dense == pytest.approx(sparse, rel=1e-10)


class _StopError(Exception):
    """The listener's way out of a fit."""


@pytest.mark.parametrize("case", [CASES[4], *slow(*CASES[:4], *CASES[5:])], ids=str)
def test_an_interrupted_fit_resumes_to_the_same_bits(
    stored: str, case: dict[str, Any], tmp_path: Path
) -> None:
    options = {**OPTIONS, **case}
    whole = dnmf.fit(stored, out=tmp_path / "whole", **options)

    def interrupt(event: Any) -> None:
        committed = isinstance(event, Committed) and event.kind == "pass"  # not the sample's
        if committed and event.rows[-1]["pass"] == 2:
            raise _StopError

    with pytest.raises(_StopError):
        dnmf.fit(stored, out=tmp_path / "out", on_event=interrupt, **options)
    resumed = dnmf.resume(tmp_path / "out")
    assert decisions(resumed.history) == decisions(whole.history)
    np.testing.assert_array_equal(np.asarray(resumed.W), np.asarray(whole.W))
    np.testing.assert_array_equal(np.asarray(resumed.H), np.asarray(whole.H))
