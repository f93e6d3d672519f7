"""A given start of a V whose columns are mostly empty: CSC leaves them out with one, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from memory_tools import traced_peak

import dnmf
from dnmf.errors import OptionError, ResumableError
from dnmf.steps.serial import Serial
from dnmf.testing import faults
from dnmf.testing.faults import Fault
from dnmf.testing.layouts import write_compressed

N, D, USED, K = 90, 2500, 60, 3
RNG = np.random.default_rng(1)
PLACE = np.sort(RNG.choice(D, USED, replace=False))
START_W = RNG.random((N, K)).astype("f4")
START_H = RNG.random((K, D)).astype("f4")  # something everywhere
FIT: dict[str, Any] = {"k": K, "init": START_H, "init_W": START_W, "seed": 0, "max_passes": 12}


def compact() -> sp.csr_array:
    V = np.random.default_rng(0).poisson(1.0, (N, USED)).astype("f4")
    V[0] += 1
    return sp.csr_array(V)


def spread() -> sp.csr_array:
    V = compact()
    return sp.csr_array((V.data, PLACE[V.indices].astype(np.int32), V.indptr), shape=(N, D))


def stored(path: Path, V: sp.csr_array) -> Path:
    write_compressed(path, sp.csc_array(V), 100)
    return path


@pytest.mark.parametrize("options", [{}, {"loss": "kullback-leibler"}, {"solver": "mu"}])
def test_it_is_that_of_the_columns_with_entries(tmp_path: Path, options: dict[str, Any]) -> None:
    of_some = {**FIT, **options, "init": np.ascontiguousarray(START_H[:, PLACE])}
    want = dnmf.fit(stored(tmp_path / "compact", compact()), **of_some)
    path = stored(tmp_path / "V", spread())
    for where in ({}, {"out": tmp_path / "out"}):
        found = dnmf.fit(path, **{**FIT, **options}, **where)
        np.testing.assert_array_equal(np.asarray(found.H)[:, PLACE], want.H)
        assert np.count_nonzero(found.H) == np.count_nonzero(want.H)
        np.testing.assert_array_equal(np.asarray(found.W), want.W)
        assert found.objective == want.objective


def test_a_run_is_resumed_with_the_start_that_it_began_with(tmp_path: Path) -> None:
    path = stored(tmp_path / "V", spread())
    want = dnmf.fit(path, **FIT)
    out = {"out": tmp_path / "out"}
    where = {"run": str(tmp_path / "out"), "rows": "all", "part": 0}
    fault = Fault("finish", "no-memory", where, after=2)
    with faults.active(tmp_path / "faults", [fault]), pytest.raises(ResumableError):
        dnmf.fit(path, **FIT, **out)
    other = START_H.copy()
    other[0, PLACE[0]] += 1
    with pytest.raises(OptionError, match="begun with another array init"):
        dnmf.fit(path, **{**FIT, "init": other}, **out, resume=True)
    found = dnmf.fit(path, **FIT, **out, resume=True)
    np.testing.assert_array_equal(np.asarray(found.H), want.H)


@pytest.mark.parametrize("wrong", ["init", "init_W"])
def test_sizes_are_those_of_V(tmp_path: Path, wrong: str) -> None:
    path = stored(tmp_path / "V", spread())
    cut = {"init": START_H[:, :-1], "init_W": START_W[:-1]}[wrong]
    with pytest.raises(OptionError, match=f"must be {K} x {D}|must be {N} x {K}"):
        dnmf.fit(path, **{**FIT, wrong: cut})


def test_nothing_is_as_long_as_the_columns_that_nothing_uses(tmp_path: Path) -> None:
    """But for the result, and what the caller has."""
    d = 1_000_000
    V = sp.csr_array((compact().data, PLACE[compact().indices] * 400, compact().indptr), (N, d))
    path = stored(tmp_path / "V", V)
    given = {**FIT, "init": np.ones((K, d), "f4"), "max_passes": 2, "executor": Serial()}

    def act() -> None:
        dnmf.fit(path, **given, out=tmp_path / "out", overwrite=True)

    act()
    # indptr of V, as it is searched for entries, and H as it is checked
    assert traced_peak(act) < 8 * d + 1.75 * 4 * K * d
