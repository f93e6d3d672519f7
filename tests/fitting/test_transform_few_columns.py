"""A transform at an H that is 0 in most columns goes over the others, and a block's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from memory_tools import traced_peak

import dnmf
from dnmf.config import FitConfig, ModelSpec
from dnmf.errors import InputError
from dnmf.fitting.starts.given import Given
from dnmf.launch.data import lay_out
from dnmf.launch.request import Request
from dnmf.planning import limits
from dnmf.planning.memory import BASELINE
from dnmf.sources import open_source
from dnmf.steps.serial import Serial
from dnmf.testing.layouts import write_compressed

N, D, USED, K = 60, 3000, 50, 3
PLACE = np.sort(np.random.default_rng(1).choice(D, USED, replace=False))


def new_rows(beside: int = 0, dtype: str = "f8") -> sp.csr_array:
    """Rows with entries in the columns of H, and so many in others."""
    rng = np.random.default_rng(0)
    V = np.zeros((N, D))
    V[:, PLACE] = rng.poisson(rng.gamma(0.5, 1, (N, K)) @ H()[:, PLACE] * 3)
    others = np.setdiff1d(np.arange(D), PLACE)
    V[rng.integers(0, N, beside), rng.choice(others, beside)] = 2
    V[4] = 0
    return sp.csr_array(V.astype(dtype))


def H() -> np.ndarray:
    found = np.zeros((K, D))
    found[:, PLACE] = np.random.default_rng(3).gamma(0.5, 1, (K, USED))
    return found


LOSSES: dict[str, dict[str, Any]] = {
    "least squares": {"loss": "frobenius"},
    "Kullback-Leibler": {"loss": "kullback-leibler"},
    "beta 0.5": {"beta": 0.5},
    "beta 3": {"beta": 3.0},
    "penalized": {"loss": "frobenius", "alpha_W": 1e-3, "l1_ratio": 0.5},
    "missing": {"loss": "frobenius", "missing": "zeros"},
    "missing, Kullback-Leibler": {"loss": "kullback-leibler", "missing": "zeros"},
}


@pytest.mark.parametrize("beside", [0, 30])
@pytest.mark.parametrize("name", LOSSES)
def test_a_transform_is_that_over_all_columns(tmp_path: Path, name: str, beside: int) -> None:
    V = new_rows(beside)
    dnmf.transform(V, H(), out=tmp_path / "found", **LOSSES[name])
    with limits.using(times_used=0):
        dnmf.transform(V, H(), out=tmp_path / "wanted", **LOSSES[name])
    found, wanted = (dnmf.open(tmp_path / one) for one in ("found", "wanted"))
    np.testing.assert_allclose(np.asarray(found.W), np.asarray(wanted.W), rtol=1e-6, atol=1e-9)
    assert found.objective == pytest.approx(wanted.objective, rel=1e-9)
    assert found.relative_error == pytest.approx(wanted.relative_error, rel=1e-9)


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
def test_weights_come_along(loss: str) -> None:
    V = new_rows(20)
    weights = V.copy()
    weights.data = np.random.default_rng(2).uniform(0.5, 2, V.nnz)
    found = dnmf.transform(V, H(), weights=weights, loss=loss)
    with limits.using(times_used=0):
        wanted = dnmf.transform(V, H(), weights=weights, loss=loss)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "zarr", "out", "float32", "blocks"])
def test_wherever_rows_come_from(tmp_path: Path, kind: str) -> None:
    V = new_rows(20)
    wanted, rtol = dnmf.transform(V, H()), 1e-9
    given: Any = V
    options: dict[str, Any] = {}
    if kind in ("csc", "coo"):
        given = V.asformat(kind)
    elif kind == "zarr":
        write_compressed(tmp_path / "V", V, 100)
        given = tmp_path / "V"
    elif kind == "out":
        options = {"out": tmp_path / "out"}
    elif kind == "blocks":
        options = {"block_size": 2000}
    else:
        given, rtol = V.astype(kind) if kind == "float32" else V, 1e-3
    found = dnmf.transform(given, H(), **options)
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=rtol, atol=rtol)


def test_blocks_with_entries_everywhere_take_all_columns() -> None:
    """Whether a block's columns are few is decided for each."""
    rng = np.random.default_rng(5)
    V = sp.csr_array(sp.vstack([new_rows(), sp.random_array((4, D), density=0.9, rng=rng)]))
    found = dnmf.transform(V, H(), block_size=20_000)
    with limits.using(times_used=0):
        wanted = dnmf.transform(V, H(), block_size=20_000)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-9)


def test_bad_entries_are_named_by_their_own_column() -> None:
    V = new_rows(10)
    V.data[9] = np.nan
    row, column = int(np.searchsorted(V.indptr, 9, side="right")) - 1, V.indices[9]
    with pytest.raises(InputError, match=rf"V\[{row}, {column}\] is NaN"):
        dnmf.transform(V, H())


def test_an_H_of_zeros_has_no_columns() -> None:
    with limits.using(times_used=0):
        wanted = dnmf.transform(new_rows(), np.zeros((K, D)))
    found = dnmf.transform(new_rows(), np.zeros((K, D)))
    np.testing.assert_array_equal(found, wanted)


def test_memory_is_that_of_the_plan(tmp_path: Path) -> None:
    n, d, k, entries, used = 300, 1_000_000, 12, 20_000, 4000
    rng = np.random.default_rng(0)
    places = rng.choice(d, used, replace=False)
    where = rng.integers(0, n, entries), places[rng.integers(0, used, entries)]
    write_compressed(tmp_path / "V", sp.csr_array((np.ones(entries, "f4"), where), (n, d)), 5000)
    given = np.zeros((k, d), "f4")
    given[:, places] = rng.gamma(0.5, 1, (k, used))
    config = FitConfig((ModelSpec(k, 0),), init="custom")
    request = Request(tmp_path / "V", None, config, Given(given), "transform")
    plan, _, need = lay_out(open_source(tmp_path / "V"), request, Serial())
    assert plan.support == used
    predicted = need.total - BASELINE

    def act() -> None:
        dnmf.transform(tmp_path / "V", given, executor=Serial())

    act()  # compiles
    measured = traced_peak(act)
    text = f"{measured / 1e6:.1f} MB, predicted {predicted / 1e6:.1f} MB"
    assert predicted / 2 < measured <= predicted, text
    assert measured < 1.5 * given.nbytes, text
