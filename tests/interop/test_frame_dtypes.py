"""Numbers of pandas' own dtypes are numbers; what is missing or is an object is said so."""

from __future__ import annotations

import decimal
from typing import Any

import numpy as np
import pytest

import dnmf
from dnmf.errors import InputError

pd = pytest.importorskip("pandas")

V = np.random.default_rng(0).poisson(2, (30, 6)) + 1.0
FRAME = pd.DataFrame(V, columns=list("abcdef")).astype("int64")
QUICK: dict[str, Any] = {"seed": 0, "max_passes": 5}
NUMBERS = ["Int64", "Float64", "int64[pyarrow]", "double[pyarrow]"]


def of(dtype: str) -> Any:
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    return FRAME.astype(dtype)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_numbers_of_pandas(dtype: str) -> None:
    np.testing.assert_array_equal(dnmf.fit(of(dtype), 2, **QUICK).H, dnmf.fit(V, 2, **QUICK).H)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_na_is_no_number(dtype: str) -> None:
    frame, holes = of(dtype), V.copy()
    frame.iloc[3, 2], holes[3, 2] = pd.NA, np.nan
    with pytest.raises(InputError, match=r"V\[3, 2\] is NaN; .*missing='nan'"):
        dnmf.fit(frame, 2, **QUICK)
    fit = dnmf.fit(frame, 2, missing="nan", **QUICK)
    np.testing.assert_array_equal(fit.H, dnmf.fit(holes, 2, missing="nan", **QUICK).H)
    assert frame.isna().to_numpy().sum() == 1


@pytest.mark.parametrize("dtype", ["string", "string[pyarrow]"])
def test_texts_are_refused(dtype: str) -> None:
    with pytest.raises(InputError, match=r"not real numbers: 'a' \(string\)"):
        dnmf.fit(of(dtype), 2)


def test_decimals_are_refused_with_what_converts_them() -> None:
    frame = FRAME.map(lambda value: decimal.Decimal(str(value)))
    with pytest.raises(InputError, match=r"Python objects.*V.astype\(float\)"):
        dnmf.fit(frame, 2, **QUICK)
    converted = dnmf.fit(frame.astype(float), 2, **QUICK)
    np.testing.assert_array_equal(converted.H, dnmf.fit(V, 2, **QUICK).H)
