"""Rounds between two reads: the same bits wherever they run, and after whatever dies in them."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from executor_tools import decisions, faulty, fit_elsewhere

import dnmf
from dnmf.errors import ResumableError
from dnmf.executors.threads import Threads
from dnmf.steps.serial import Serial
from dnmf.testing import faults
from dnmf.testing.faults import Fault
from dnmf.testing.layouts import write_compressed

OPTIONS: dict[str, Any] = {
    "k": 5,
    "seed": 1,
    "tol": 0,
    "max_passes": 6,
    "sample": 0.0,
    "dtype": "float32",
    "block_size": 20 * 80 * 4,
    "segments": 6,
    "fan_in": 3,
    "slab_size": 8 * 5 * 40,
}
LAYOUTS = ("dense", "csr", "columns", "missing")


def _spectra(n: int = 240, d: int = 80, k: int = 5) -> np.ndarray:
    rng = np.random.default_rng(3)
    peaks = np.exp(-0.5 * ((np.arange(d) - np.linspace(12, d - 12, k)[:, None]) / 10) ** 2) + 0.3
    V = rng.gamma(1.0, size=(n, k)) @ peaks
    return (V * (1 + 0.02 * rng.normal(size=V.shape))).clip(0).astype("f4")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """V by chunk-rows, as CSR, in chunks that only columns can be read by, and with gaps."""
    folder, V = tmp_path_factory.mktemp("rounds"), _spectra()
    paths = {name: str(folder / f"{name}.zarr") for name in LAYOUTS}
    zarr.create_array(paths["dense"], data=V, chunks=(20, 80))
    write_compressed(paths["csr"], sp.csr_array(V), 1600)
    zarr.create_array(paths["columns"], data=np.ascontiguousarray(V.T), chunks=(80, 20))
    gaps = np.random.default_rng(4).random(V.shape) < 0.04
    zarr.create_array(paths["missing"], data=np.where(gaps, np.float32("nan"), V), chunks=(20, 80))
    return paths


def _options(layout: str) -> dict[str, Any]:
    own = {"columns": {"max_block": 20 * 80 * 4}, "missing": {"missing": "nan"}}
    return {**OPTIONS, **own.get(layout, {})}


@pytest.fixture(scope="module")
def serially(stored: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("serially")
    found = {
        name: dnmf.fit(stored[name], out=folder / name, executor=Serial(), **_options(name))
        for name in LAYOUTS
    }
    assert found["columns"].details["layout"]["shape"] == [240, 80]  # of what is read by columns
    for result in found.values():
        assert sum(row.get("rounds", 0) for row in result.history) > 10
    return found


def _same(result: Any, expected: Any) -> None:
    assert result.done
    np.testing.assert_array_equal(result.W[:], expected.W[:])
    np.testing.assert_array_equal(result.H[:], expected.H[:])
    assert decisions(result.history) == decisions(expected.history)
    rounds = [[row.get(name) for row in one.history] for one in (result, expected)
              for name in ("rounds", "predicted")]  # fmt: skip
    assert rounds[:2] == rounds[2:]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_threads_and_memory(stored: dict[str, str], serially: Any, tmp_path: Path, layout: str):
    expected, options = serially[layout], _options(layout)
    _same(dnmf.fit(stored[layout], out=tmp_path / "out", executor=Threads(3), **options), expected)
    found = dnmf.fit(stored[layout], executor=Serial(), **options)
    np.testing.assert_array_equal(found.W, expected.W[:])
    np.testing.assert_array_equal(found.H, expected.H[:])


@pytest.fixture(params=["streaming", "client"])
def workers(request: pytest.FixtureRequest) -> Any:
    """Workers that keep nothing of V, and workers that keep all of it."""
    return request.getfixturevalue(request.param)


@pytest.mark.cluster
@pytest.mark.parametrize("layout", LAYOUTS)
def test_workers(
    workers: Any, stored: dict[str, str], serially: Any, tmp_path: Path, layout: str
) -> None:
    found = dnmf.fit(stored[layout], out=tmp_path / "out", client=workers, **_options(layout))
    _same(found, serially[layout])


KILLS = {
    "the first round": Fault("round", "kill", {"step": 4}),
    "a later round": Fault("round", "kill", {"step": 4}, after=3),
    "writing H": Fault("object-staged", "kill", {"kind": "rounds"}),
    "H is written": Fault("rounds-written", "kill", {"step": 6}),
    "writing the compressed V": Fault("object-staged", "kill", {"kind": "Y"}, after=2),
}


@pytest.mark.cluster
@pytest.mark.parametrize("name", KILLS)
def test_a_worker_dies(
    streaming: Any, stored: dict[str, str], serially: Any, tmp_path: Path, name: str
) -> None:
    """Dask runs the rounds again, and reads nothing of V again for them."""
    with faulty(streaming, tmp_path / "faults", [KILLS[name]]) as counts:
        found = dnmf.fit(stored["dense"], out=tmp_path / "out", client=streaming, **OPTIONS)
        assert faults.struck(counts) == 1
        if name != "writing the compressed V":
            assert faults.count(counts, "block-read") == (1 + OPTIONS["max_passes"]) * 12
    _same(found, serially["dense"])


@pytest.mark.cluster
@pytest.mark.parametrize("point", ["record-staged", "record-committed"])
def test_the_client_dies(
    streaming: Any, stored: dict[str, str], serially: Any, tmp_path: Path, point: str
) -> None:
    """Around the commit of the first rounds: what is done again costs no read."""
    kill, out = Fault(point, "kill", {"index": 4}), tmp_path / "out"
    with faulty(streaming, tmp_path / "faults", [kill]) as counts:
        address = streaming.scheduler.address
        process = fit_elsewhere(stored["dense"], out, address, OPTIONS, DNMF_FAULTS=counts)
        _, said = process.communicate(timeout=100)
        assert process.returncode == -signal.SIGKILL, said
        found = dnmf.resume(out, client=streaming)
        assert faults.count(counts, "block-read") == (1 + OPTIONS["max_passes"]) * 12
    _same(found, serially["dense"])


@pytest.mark.parametrize("point", ["round", "rounds-written"])
def test_an_error_in_rounds_leaves_a_run_that_goes_on(
    stored: dict[str, str], serially: Any, tmp_path: Path, point: str
) -> None:
    fault = Fault(point, "transient", {"step": 4}, times=100)
    with faults.active(tmp_path / "faults", [fault]), pytest.raises(ResumableError):
        dnmf.fit(stored["dense"], out=tmp_path / "out", executor=Serial(), **OPTIONS)
    _same(dnmf.resume(tmp_path / "out", executor=Serial()), serially["dense"])
