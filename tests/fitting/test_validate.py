"""What a scan must have found: each refusal says where, how many, and what to do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import zarr

import dnmf
from dnmf.config import FitConfig, ModelSpec
from dnmf.errors import InputError
from dnmf.fitting.checks import check_entries, check_scan, safe_range
from dnmf.fitting.data.scan_stats import ScanStats
from dnmf.planning.plan import make_plan
from dnmf.sources import open_source

GOOD = {
    "bad": 0,
    "first_bad": None,
    "bad_weights": 0,
    "first_bad_weight": None,
    "largest": 9.0,
    "nonzeros": 5000,
    "zero_rows": 0,
    "zero_columns": 0,
}


def checked(plan, facts):
    """Check a scan that found these facts."""
    stats = {name: value for name, value in facts.items() if name != "zero_columns"}
    return check_scan(plan, ScanStats(**stats), facts["zero_columns"])


def plan_of(shape=(100, 80), chunks=(10, 80), dtype="f4", **options):
    array = zarr.create_array(zarr.storage.MemoryStore(), shape=shape, chunks=chunks, dtype=dtype)
    return make_plan(open_source(array), FitConfig((ModelSpec(3, 0),), **options))[0]


def by_columns(**options):
    plan = plan_of((100, 80), (100, 8), max_block=4000, **options)
    assert plan.axis == "columns"
    return plan


def test_a_good_scan_has_no_remarks():
    assert checked(plan_of(), GOOD) == []


@pytest.mark.parametrize(
    ("value", "what"), [(math.nan, "is NaN"), (math.inf, "is infinite"), (-math.inf, "is infinite")]
)
def test_entries_that_are_not_finite(value, what):
    with pytest.raises(InputError) as caught:
        checked(plan_of(), {**GOOD, "bad": 1234, "first_bad": (7, 3, value)})
    text = str(caught.value)
    assert f"V[7, 3] {what}; 1,234 entries are such" in text
    assert "remove or impute" in text
    assert "float32" not in text
    assert ("missing='nan'" in text) == math.isnan(value)


def test_negative_entries_in_the_words_of_scikit_learn():
    with pytest.raises(InputError) as caught:
        check_entries(plan_of(), 1, (0, 79, -0.5))
    assert str(caught.value) == (
        "Negative values in data passed to NMF: V[0, 79] is -0.5; it is the only such entry. "
        "Entries must be 0 or more: clip, shift or remove them first; clip= (--clip) sets small "
        "ones, down to a bound of yours, to 0"
    )


def test_positions_are_those_of_v_where_columns_are_the_blocks():
    with pytest.raises(InputError, match=r"V\[3, 7\] is NaN"):
        check_entries(by_columns(), 2, (7, 3, math.nan))


def test_numbers_too_large_for_the_dtype_asked_for():
    narrow = FitConfig((ModelSpec(1, 0),), dtype="float32")
    plan, _ = make_plan(open_source(np.ones((4, 3))), narrow)
    with pytest.raises(InputError, match=r"computing in float32, whose largest number is 3.4e38"):
        check_entries(plan, 1, (0, 0, math.inf))


@pytest.mark.parametrize("make", [plan_of, by_columns])
def test_nothing_but_zeros(make):
    with pytest.raises(InputError, match=r"V \(100 x 80\) has nothing but zeros"):
        checked(make(), {**GOOD, "largest": 0.0, "nonzeros": 0})


@pytest.mark.parametrize(
    ("dtype", "largest"), [("f4", 2e15), ("f4", 5e-16), ("f8", 1e150), ("f8", 1e-150)]
)
def test_numbers_outside_the_safe_range(dtype, largest):
    with pytest.raises(InputError) as caught:
        checked(plan_of(dtype=dtype), {**GOOD, "largest": largest})
    text = str(caught.value)
    assert f"the largest entry of V is {largest:g}" in text
    assert {"f4": "1e-15 and 1e+15", "f8": "1e-140 and 1e+140"}[dtype] in text
    assert "Scale V" in text


@pytest.mark.parametrize("largest", [1e9, 1e-9])
def test_numbers_inside_the_safe_range(largest):
    assert checked(plan_of(), {**GOOD, "largest": largest}) == []


def test_zero_rows_and_columns_are_remarked():
    scan = {**GOOD, "zero_rows": 1200, "zero_columns": 3}
    expected = "V has 1,200 rows and 3 columns of zeros; their factors are zero"
    assert checked(plan_of(), scan) == [expected]
    swapped = {**GOOD, "zero_rows": 3, "zero_columns": 1200}
    assert checked(by_columns(), swapped) == [expected]


@pytest.mark.parametrize(
    ("beta", "low", "high"),
    [
        (None, 1e-140, 1e140),
        (0.0, 1e-90, 1e140),
        (0.5, 1e-90, 1e140),
        (-1.0, 1e-90, 10 ** (280 / 3)),
        (3.0, 10 ** (-140 / 3), 10 ** (140 / 3)),
        (6.0, 10 ** (-140 / 6), 10 ** (140 / 6)),
    ],
)
def test_powers_of_v_must_stay_in_float64(beta, low, high):
    """Beyond these an objective overflowed, or products were all taken for the floor."""
    how = {} if beta is None else {"loss": "beta", "beta": beta}
    plan = plan_of(dtype="f8", **how)
    np.testing.assert_allclose(safe_range(plan.config, plan.dtype), (low, high))
    for largest in (low * 1.01, high / 1.01):
        checked(plan, {**GOOD, "largest": largest, "nonzeros": 8000})
    for largest in (low / 1.01, high * 1.01):
        with pytest.raises(InputError) as refused:
            checked(plan, {**GOOD, "largest": largest, "nonzeros": 8000})
        assert f"the largest entry of V is {largest:g}; in float64" in str(refused.value)
        assert f"it must lie between {low:.3g} and {high:.3g}. Scale V" in str(refused.value)
        assert ("with beta" in str(refused.value)) == (beta is not None)


@pytest.mark.parametrize(("beta", "exponent"), [(6, 70), (6, -70), (0.5, -290), (-1, 300)])
def test_inside_that_range_scale_changes_nothing(beta, exponent):
    rng = np.random.default_rng(0)
    V = rng.gamma(0.5, size=(60, 3)) @ rng.gamma(0.5, size=(3, 20)) + 0.1
    options = {"seed": 0, "beta": beta, "max_passes": 5, "n_init": 1, "sample": 0}
    one = dnmf.fit(V, 3, **options)
    other = dnmf.fit(V * 2.0**exponent, 3, **options)
    assert other.objective == pytest.approx(one.objective * 2.0 ** (exponent * beta), rel=1e-6)
    np.testing.assert_allclose(other.H, one.H, rtol=1e-6)
    for too_far in (-500, 500):
        with pytest.raises(InputError, match=r"largest entry of V .* with beta = .*Scale V"):
            dnmf.fit(V * 2.0**too_far, 3, **options)
