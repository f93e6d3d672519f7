"""Weights and missing entries: the same bits everywhere, after an interruption too."""

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
from dnmf.steps.events import Committed
from dnmf.testing.layouts import write_compressed
from dnmf.testing.problems import planted_poisson

pytestmark = pytest.mark.timeout(180)

CASES: list[dict[str, Any]] = [
    {"loss": "frobenius", "missing": "nan"},
    {"loss": "frobenius", "weights": True, "alpha_W": 0.01},
    {"loss": "frobenius", "missing": "zeros", "sample": 0.5},
    {"loss": "kullback-leibler", "missing": "zeros", "weights": True},
]
MORE: list[dict[str, Any]] = [
    {"loss": "kullback-leibler", "weights": True, "sample": 0.5},
    {"loss": "kullback-leibler", "missing": "nan"},
    {"loss": "kullback-leibler", "missing": "zeros"},
]


@pytest.fixture(scope="module")
def matrices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """V with holes and weights that are 0 there, on storage; the weights in other chunks."""
    folder = tmp_path_factory.mktemp("masked")
    V = planted_poisson(240, 30, 4).V + np.float32(0.25)
    M = np.random.default_rng(0).gamma(1.0, size=V.shape).astype("f4")
    M[np.random.default_rng(1).random(V.shape) < 0.3] = 0
    V = np.where(M > 0, V, np.nan)
    for name, array, chunks in (("V", V, (10, 30)), ("M", M, (5, 8))):
        path = folder / f"{name}.zarr"
        zarr.create_array(path, shape=V.shape, chunks=chunks, dtype=V.dtype)[:] = array
    observed = sp.csr_array(np.where(M > 0, V, 0))  # what was observed is not zero
    for name, kept in (("S", observed), ("MS", sp.csr_array(M))):
        write_compressed(folder / f"{name}.zarr", kept, 150, index_dtype="i4")
    paths = {name: str(folder / f"{name}.zarr") for name in ("V", "M", "S", "MS")}
    return {**paths, "weights": M, "array": V}


def data_of(case: dict[str, Any], matrices: dict[str, Any]) -> str:
    """Where V is stored: sparse, where what is not stored is unobserved."""
    return str(matrices["S" if case.get("missing") == "zeros" else "V"])


def options_of(case: dict[str, Any], matrices: dict[str, Any]) -> dict[str, Any]:
    given = {**OPTIONS, "slab_size": 8 * 4 * 80, "max_passes": 3, **case}
    if case.get("weights"):
        sparse = case.get("missing") == "zeros"
        given |= {"weights": matrices["MS" if sparse else "M"], "block_size": 10 * 30 * 12}
    return given


def same(one: Any, other: Any) -> None:
    assert decisions(one.history) == decisions(other.history)
    np.testing.assert_array_equal(np.asarray(one.W), np.asarray(other.W))
    np.testing.assert_array_equal(np.asarray(one.H), np.asarray(other.H))


@pytest.mark.cluster
@pytest.mark.parametrize("case", [*CASES, *slow(*MORE)], ids=str)
def test_serial_and_cluster_agree_bit_by_bit(
    client: Any, matrices: dict[str, Any], case: dict[str, Any], tmp_path: Path
) -> None:
    options, V = options_of(case, matrices), data_of(case, matrices)
    serial = dnmf.fit(V, out=tmp_path / "serial", **options)
    cluster = dnmf.fit(V, out=tmp_path / "cluster", client=client, **options)
    assert serial.details["layout"]["segments"] >= 24
    assert serial.details["layout"]["slabs"] > 1
    same(cluster, serial)


@pytest.mark.cluster
def test_data_in_memory_are_staged_with_their_weights(
    client: Any, matrices: dict[str, Any], tmp_path: Path
) -> None:
    options = options_of(CASES[1], matrices) | {"weights": sp.csr_array(matrices["weights"])}
    serial = dnmf.fit(matrices["V"], **options)
    V = matrices["array"]
    out = tmp_path / "out"
    with pytest.raises(_StopError):
        dnmf.fit(V, out=out, client=client, on_event=interrupt, **options)
    cluster = dnmf.fit(V, out=out, client=client, resume=True, **options)
    np.testing.assert_allclose(np.asarray(cluster.H), np.asarray(serial.H), rtol=1e-3, atol=1e-5)


class _StopError(Exception):
    """The listener's way out of a fit."""


def interrupt(event: Any) -> None:
    if isinstance(event, Committed) and event.kind == "pass" and event.rows[-1]["pass"] == 2:
        raise _StopError


@pytest.mark.parametrize("case", [CASES[-1], *slow(*CASES[:-1], *MORE)], ids=str)
def test_an_interrupted_fit_resumes_to_the_same_bits(
    matrices: dict[str, Any], case: dict[str, Any], tmp_path: Path
) -> None:
    options, V = options_of(case, matrices), data_of(case, matrices)
    whole = dnmf.fit(V, out=tmp_path / "whole", **options)
    with pytest.raises(_StopError):
        dnmf.fit(V, out=tmp_path / "out", on_event=interrupt, **options)
    same(dnmf.resume(tmp_path / "out"), whole)
