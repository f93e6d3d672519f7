"""What cannot be asked for together is refused in one sentence that names both sides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import dnmf
from dnmf.errors import DnmfError

V = np.random.default_rng(0).random((40, 10)) + 0.1
H = np.random.default_rng(1).random((3, 10))
ONES = np.ones(V.shape)
SPARSE = sp.csr_array(V)

COMBINATIONS: list[tuple[Any, dict[str, Any], tuple[str, str]]] = [
    (V, {"loss": "kullback-leibler", "solver": "hals"}, ("solver is 'hals'", "kullback-leibler")),
    (V, {"loss": "itakura-saito", "solver": "hals"}, ("solver is 'hals'", "itakura-saito")),
    (V, {"loss": "kullback-leibler", "beta": 2.0}, ("kullback-leibler", "beta is 2.0")),
    (V, {"loss": "frobenius", "beta": 1}, ("frobenius", "beta is 1")),
    (V, {"loss": 0.5, "beta": 1.5}, ("loss is 0.5", "beta is 1.5")),
    (V, {"loss": "beta"}, ("loss is 'beta'", "beta was not given")),
    (SPARSE, {"loss": "itakura-saito"}, ("itakura-saito", "is sparse")),
    (SPARSE, {"loss": -0.5}, ("beta = -0.5", "is sparse")),
    (SPARSE, {"missing": "nan"}, ("missing is 'nan'", "is sparse")),
    (V, {"missing": "zeros"}, ("missing is 'zeros'", "is dense")),
    (V, {"missing": "nan", "loss": 0.5}, ("missing entries (missing=)", "beta = 0.5")),
    (V, {"missing": "nan", "solver": "mu"}, ("solver is 'mu'", "with missing entries")),
    (V, {"weights": ONES, "loss": "itakura-saito"}, ("(weights=)", "'itakura-saito'")),
    (V, {"loss": 0.5, "solver": "hals"}, ("solver is 'hals'", "beta = 0.5")),
    *(
        (V, {**given, "loss": "kullback-leibler", "solver": "mu"}, ("'mu'", "with missing entries"))
        for given in ({"missing": "nan"}, {"weights": ONES})
    ),
    (
        SPARSE,
        {"missing": "zeros", "loss": "kullback-leibler", "solver": "mu"},
        ("'mu'", "with missing entries"),
    ),
    (V, {"weights": ONES, "solver": "mu"}, ("solver is 'mu'", "or weights")),
    (V, {"weights": ONES, "missing": "zeros"}, ("missing is 'zeros'", "is dense")),
    (V, {"weights": ONES[:5]}, ("V is 40 x 10", "weights are 5 x 10")),
    (SPARSE, {"weights": ONES}, ("V is sparse", "are dense")),
    (V, {"init": H, "k": 4}, ("k is 4", "init has 3 rows")),
    (V, {"init": H[:, :9]}, ("H is 3 x 9", "V has 10 columns")),
    (V, {"init_W": np.ones((40, 3))}, ("init_W", "give init")),
    (V, {"init": H, "init_W": np.ones((39, 3))}, ("W is 39 x 3", "V has 40 rows")),
    (V, {"init": "nndsvd", "sample": 0}, ("init is 'nndsvd'", "sample is empty")),
    (V, {"init": "nndsvd", "n_init": 5}, ("n_init is 5", "init is 'nndsvd'")),
    (V, {"init": H, "n_init": 5}, ("n_init is 5", "init is 'custom'")),
    (V, {"sample": 0, "n_init": 5}, ("n_init is 5", "sample is 0")),
    (V, {"fixed_H": H}, ("fixed_H has 3 rows", "k is 3")),
    (V, {"fixed_H": H[:1, :9]}, ("fixed_H is 1 x 9", "V has 10 columns")),
    (V, {"fixed_H": H[:1], "normalize": "components"}, ("normalize is", "fixed_H")),
]


@pytest.mark.parametrize(("matrix", "options", "sides"), COMBINATIONS)
def test_both_sides_are_named(matrix: Any, options: dict[str, Any], sides: tuple[str, str]) -> None:
    with pytest.raises(DnmfError) as caught:
        dnmf.fit(matrix, **{"k": 3, **options})
    assert isinstance(caught.value, ValueError)
    for side in sides:
        assert side in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_start_may_be_asked_for_everywhere() -> None:
    for options in ({"init": H}, {"init": "nndsvd"}, {"sample": 0}):
        one, none = (
            dnmf.fit(V, 3, max_passes=2, seed=0, **{**options, **n}) for n in ({"n_init": 1}, {})
        )
        np.testing.assert_array_equal(one.H, none.H)
