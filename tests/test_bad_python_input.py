"""Whatever Python object is given as V, k or a start: a dnmf error, or the right answer."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import dnmf
from dnmf.errors import DnmfError
from dnmf.steps.serial import Serial

COMMON = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": [
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,  # record_property, which counts
    ],
}
DTYPES = ("f2", "f4", "f8", ">f4", "g", "i1", "u1", "i2", "u4", "i8", "u8", "?", "c8", "O", "U3")
OTHERS = ("M8[s]", "m8[s]", "S2", "V4", "f4,i4")
SPECIAL = (np.nan, np.inf, -np.inf, -1.0, -1e-300, -0.0, 1e300, 1e-300, 5e-324, 1e38)


@st.composite
def numbers(draw: Any) -> np.ndarray:
    """Counts of any shape and dtype, perhaps with entries that do not belong there."""
    shape = draw(st.lists(st.integers(0, 7), min_size=0, max_size=3) | st.just([6, 5]))
    shape = shape if draw(st.booleans()) else [6, 5]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    V = rng.integers(0, 5, shape).astype(float)
    if V.size and draw(st.booleans()):
        for _ in range(draw(st.integers(1, 3))):
            V.flat[draw(st.integers(0, V.size - 1))] = draw(st.sampled_from(SPECIAL))
    dtype = draw(st.sampled_from(DTYPES) | st.sampled_from(OTHERS))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if np.dtype(dtype).kind in "MmV":
            return np.zeros(shape, dtype)
        return V.astype(dtype)


def _strided(V: np.ndarray) -> np.ndarray:
    return np.repeat(V, 2, axis=0)[::2] if V.ndim else V


def _frozen(V: np.ndarray) -> np.ndarray:
    V.flags.writeable = False
    return V


def _shuffled(V: np.ndarray) -> Any:
    """CSR whose rows are neither sorted nor free of duplicates, with 64-bit indices."""
    csr = sp.csr_array(V)
    twice = sp.csr_array(csr.shape, dtype=csr.dtype)
    data = np.repeat(csr.data, 2)
    data[::2] = 0
    twice.data, twice.indptr = data[::-1].copy(), 2 * csr.indptr.astype("i8")
    twice.indptr = twice.indptr[-1] - twice.indptr[::-1]
    twice.indices = np.repeat(csr.indices, 2)[::-1].astype("i8")
    return twice


def _broken(V: np.ndarray) -> Any:
    csr = sp.csr_array(V)
    csr.indices = csr.indices + V.shape[1]
    return csr


def _zarr(V: np.ndarray) -> Any:
    return zarr.create_array(zarr.storage.MemoryStore(), data=V, chunks=tuple(2 for _ in V.shape))


WRAPPERS = {
    "array": lambda V: V,
    "F order": np.asfortranarray,
    "strided": _strided,
    "backwards": lambda V: V[::-1] if V.ndim else V,
    "transposed": lambda V: V.T,
    "frozen": _frozen,
    "list": lambda V: V.tolist(),
    "masked": lambda V: np.ma.masked_equal(V, 1),
    "matrix": lambda V: np.asmatrix(V) if V.ndim <= 2 else V,
    "csr": sp.csr_array,
    "csr_matrix": sp.csr_matrix,
    "csc": sp.csc_array,
    "coo": sp.coo_array,
    "lil": sp.lil_array,
    "dia": sp.dia_array,
    "shuffled csr": _shuffled,
    "broken csr": _broken,
    "zarr": _zarr,
}
THINGS = st.sampled_from(
    [None, 3, 2.5, "", "no such place", b"x", {}, {"a": 1}, (), object(), len, Ellipsis, float]
)


@st.composite
def matrices(draw: Any) -> Any:
    """What somebody may give as V."""
    if draw(st.integers(0, 9)) == 0:
        return draw(THINGS)
    V = draw(numbers())
    name = draw(st.sampled_from(list(WRAPPERS)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return WRAPPERS[name](V)
        except Exception:  # NumPy, SciPy or Zarr refuse to make it
            return V


KS = (
    st.integers(1, 9)
    | st.integers(1, 4)
    | st.sampled_from(
        [
            0,
            -1,
            10**9,
            2**63,
            2.0,
            2.5,
            np.nan,
            np.int64(3),
            np.float32(2),
            True,
            None,
            "3",
            [2],
            "x",
        ]
    )
)
STARTS = st.sampled_from(["random", "nndsvd", "nndsvda", "magic", "", 3, None, np.nan]) | numbers()
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "seed": st.sampled_from([0, 7, -1, 1.5, "x", None, 2**70]),
    "tol": st.sampled_from([0, 1e-3, -1, np.nan, np.inf, "x", None]),
    "max_passes": st.sampled_from([1, 3, 0, -2, 1.5, "x", None, 2**70]),
    "dtype": st.sampled_from(["float32", "float64", "int8", "x", 3, None, object]),
    "block_size": st.sampled_from([1, 64, "1KiB", 0, -1, "x", 2**80, None, 1e3]),
    "max_block": st.sampled_from([1, 64, "1KiB", 0, -1, "x", 2**80, None, 1e3]),
    "slab_size": st.sampled_from([1, 64, "1KiB", 0, -1, "x", 2**80, None, 1e3]),
    "segments": st.sampled_from([1, 3, 0, "x", 2**70, None]),
    "fan_in": st.sampled_from([2, 3, 1, "x", None, 2**70]),
    "sample": st.sampled_from([0, 0.5, 1, -0.1, 2, np.nan, "x", None]),
    "sample_bytes": st.sampled_from([0, 100, "1KiB", -1, "x", None]),
    "n_init": st.sampled_from([1, 2, 0, "x", None]),
    "loss": st.sampled_from(["frobenius", "kullback-leibler", "itakura-saito", "x", 0.5, -1]),
    "solver": st.sampled_from(["hals", "mu", "x", 3]),
    "alpha_W": st.sampled_from([0, 0.1, 1e12, 1e300, -1, np.nan, np.inf, "x", None]),
    "alpha_H": st.sampled_from([0, 0.1, 1e12, 1e300, -1, np.nan, np.inf, "x", None]),
    "l1_ratio": st.sampled_from([0, 0.5, 2, -1, np.nan, "x", None]),
    "missing": st.sampled_from([None, "nan", "zeros", "x", 3]),
    "normalize": st.sampled_from([None, "components", "weights", "x"]),
    "init": STARTS,
    "init_W": numbers(),
}


@st.composite
def some_options(draw: Any) -> dict[str, Any]:
    """At most three: with more, one of them is nearly always impossible."""
    names = draw(st.lists(st.sampled_from(list(VALUES)), max_size=3, unique=True))
    return {name: draw(VALUES[name]) for name in names}


OPTIONS = some_options()


def check(V: Any, k: Any, options: dict[str, Any]) -> None:
    """A dnmf error of exit code 2, or finite W and H whose objective is what it says."""
    before = V.copy() if isinstance(V, np.ndarray) else None
    try:
        fit = dnmf.fit(V, k, executor=Serial(2 << 30), **{"max_passes": 3, "seed": 0, **options})
    except DnmfError as error:
        event(f"refused: {type(error).__name__}")
        if error.exit_code != 2 or len(str(error)) < 20:
            raise AssertionError(repr(error)) from error
        return
    event("fitted")
    W, H = np.asarray(fit.W, float), np.asarray(fit.H, float)
    dense = _dense(V)
    assert (W.shape[0], H.shape[1]) == dense.shape
    assert W.shape[1] == H.shape[0] == (H.shape[0] if k is None else int(k))
    assert np.isfinite(W).all()
    assert np.isfinite(H).all()
    assert min(W.min(), H.min()) >= 0
    if before is not None:
        np.testing.assert_array_equal(V, before)  # inputs are never modified
    plain = {"alpha_W": 0, "alpha_H": 0, "loss": "frobenius", "missing": None}
    if all(options.get(name, value) == value for name, value in plain.items()):
        true = 0.5 * float(np.sum((dense - W @ H) ** 2))
        unit = 1e-5 * float(np.sum(dense**2))
        assert abs(fit.objective - true) <= 1e-3 * true + unit


def _dense(V: Any) -> np.ndarray:
    if isinstance(V, zarr.Array):
        return np.asarray(V[:], float)
    return np.asarray(V.toarray() if sp.issparse(V) else V, float)


@given(matrices(), KS)
@settings(max_examples=150, **COMMON)
def test_any_object_as_v_and_k(record_property, V, k):
    record_property("cases", 1)
    check(V, k, {})


@given(st.sampled_from(["f4", "f8", "u1"]), KS, OPTIONS)
@settings(max_examples=150, **COMMON)
def test_any_options(record_property, dtype, k, options):
    record_property("cases", 1)
    V = np.random.default_rng(0).integers(1, 9, (12, 8)).astype(dtype)
    check(V, k, options)


@pytest.mark.chaos
@pytest.mark.timeout(1200)
@given(matrices(), KS)
@settings(max_examples=3000, **COMMON)
def test_many_objects_as_v_and_k(record_property, V, k):
    record_property("cases", 1)
    check(V, k, {})


@pytest.mark.chaos
@pytest.mark.timeout(1200)
@given(matrices(), KS, OPTIONS)
@settings(max_examples=3000, **COMMON)
def test_any_object_with_any_options(record_property, V, k, options):
    record_property("cases", 1)
    check(V, k, options)
