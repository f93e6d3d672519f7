"""Options that are impossible, alone or together: refused in one sentence, wherever they are given.

Each row is given to ``dnmf.fit``, and to `dnmf.NMF` and the command ``dnmf fit`` where they have
such an option. The texts must be in the message: what cannot be asked for together is named both.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from click.testing import CliRunner

import dnmf
from dnmf.cli.main import cli
from dnmf.errors import DnmfError
from dnmf.testing.layouts import write_compressed

V = np.random.default_rng(0).random((40, 10)) + 0.1
H = np.random.default_rng(1).random((3, 10))
ONES = np.ones(V.shape)
SPARSE = sp.csr_array(V)
KL = {"loss": "kullback-leibler"}

Row = tuple[Any, dict[str, Any], tuple[str, ...]]

TOGETHER: list[Row] = [
    (V, {**KL, "solver": "hals"}, ("solver is 'hals'", "kullback-leibler")),
    (V, {"loss": "itakura-saito", "solver": "hals"}, ("solver is 'hals'", "itakura-saito")),
    (V, {"loss": 0.5, "solver": "hals"}, ("solver is 'hals'", "beta = 0.5")),
    (V, {**KL, "beta": 2.0}, ("kullback-leibler", "beta is 2.0")),
    (V, {"loss": "frobenius", "beta": 1}, ("frobenius", "beta is 1")),
    (V, {"loss": 0.5, "beta": 1.5}, ("loss is 0.5", "beta is 1.5")),
    (SPARSE, {"loss": "itakura-saito"}, ("itakura-saito", "is sparse")),
    (SPARSE, {"loss": -0.5}, ("beta = -0.5", "is sparse")),
    (SPARSE, {"missing": "nan"}, ("missing is 'nan'", "is sparse")),
    (V, {"missing": "zeros"}, ("missing is 'zeros'", "is dense")),
    (V, {"missing": "nan", "loss": 0.5}, ("missing entries (missing=)", "beta = 0.5")),
    (V, {"missing": "nan", "solver": "mu"}, ("solver is 'mu'", "with missing entries")),
    (V, {"missing": "nan", **KL, "solver": "mu"}, ("'mu'", "with missing entries")),
    (SPARSE, {"missing": "zeros", **KL, "solver": "mu"}, ("'mu'", "with missing entries")),
    (V, {"weights": ONES, **KL, "solver": "mu"}, ("'mu'", "with missing entries")),
    (V, {"weights": ONES, "solver": "mu"}, ("solver is 'mu'", "or weights")),
    (V, {"weights": ONES, "loss": "itakura-saito"}, ("(weights=)", "'itakura-saito'")),
    (V, {"weights": ONES, "loss": 0.5}, ("(weights=)", "known to", "not to 'beta (beta = 0.5)'")),
    (V, {"weights": ONES, "missing": "zeros"}, ("missing is 'zeros'", "is dense")),
    (V, {"weights": ONES[:5]}, ("V is 40 x 10", "weights are 5 x 10")),
    (SPARSE, {"weights": ONES}, ("V is sparse", "are dense")),
    (V, {"init": H, "k": 4}, ("k is 4", "init has 3 rows")),
    (V, {"init": H[:, :9]}, ("H is 3 x 9", "V has 10 columns: H must be 3 x 10")),
    (V, {"init_W": np.ones((40, 3))}, ("init_W", "give init")),
    (V, {"init": H, "init_W": np.ones((39, 3))}, ("W is 39 x 3", "V has 40 rows", "be 40 x 3")),
    (V, {"init": H, "init_W": np.ones((40, 2))}, ("W is 40 x 2",)),
    (V, {"init": H, "init_W": np.ones(40)}, ("init_W has shape (40,)",)),
    (V, {"init": H, "init_W": -np.ones((40, 3))}, ("negative or not finite",)),
    (V, {"init": H, "init_W": np.full((40, 3), np.inf)}, ("negative or not finite",)),
    (V, {"init": "nndsvd", "sample": 0}, ("init is 'nndsvd'", "sample is empty")),
    (V, {"init": "nndsvd", "n_init": 5}, ("n_init is 5", "init is 'nndsvd'")),
    (V, {"init": H, "n_init": 5}, ("n_init is 5", "init is 'custom'")),
    (V, {"sample": 0, "n_init": 5}, ("n_init is 5", "sample is 0")),
    (V, {"sample_bytes": 0, "n_init": 4}, ("n_init is 4", "sample_bytes")),
    (V, {"fixed_H": H}, ("fixed_H has 3 rows", "k is 3", "none is left")),
    (V, {"fixed_H": H[:1, :9]}, ("fixed_H is 1 x 9", "V has 10 columns")),
    (V, {"fixed_H": H[:1], "normalize": "components"}, ("normalize is 'components'", "fixed_H")),
    (V, {"fixed_H": H[:1], "normalize": "weights"}, ("normalize is 'weights'", "fixed_H keeps")),
]
NO_NUMBER = "it must be a finite number, 0 or more"
OPTIONS = {
    "k": [0, -1, 2.5, "3", "many", None, True, np.nan],
    "seed": [(-1, "must be at least 0"), (1.5, "must be a whole number")],
    "tol": [(-1e-3, NO_NUMBER), (np.nan, NO_NUMBER), ("small", NO_NUMBER)],
    "max_passes": [(0, "must be at least 1"), (1.5, "must be a whole number")],
    "max_time": [(0, "must be more than 0"), ("long", "more than 0")],
    "dtype": [
        ("int8", "float32, float64"),
        ("float33", "float32, float64"),
        (complex, "float32, float64"),
    ],
    "block_size": [("12 parsecs", "give bytes, as in 600MB"), (0, "must be at least one byte")],
    "max_block": [(-5, "must be at least one byte")],
    "slab_size": [("x", "give bytes, as in 600MB")],
    "segments": [(0, "must be at least 1")],
    "fan_in": [(1, "must be at least 2")],
    "sample": [(1.5, "must be a share between 0 and 1")],
    "sample_bytes": [(-1, "must be")],
    "alpha_W": [(-1, NO_NUMBER)],
    "alpha_H": [("other", "must be 'same' or a number")],
    "l1_ratio": [(1.5, "between 0 and 1")],
    "n_init": [(0, "must be at least 1")],
    "missing": [("some", "must be one of None, ")],
    "missing_chunks": [("ignore", "must be one of auto, fill")],
    "normalize": [("both", "must be one of None, components")],
    "loss": [("beta", "beta was not given")],
    "init": [
        ("magic", "must be"),
        (np.ones((2, 10)), "k is 3, but init has 2 rows"),
        (np.ones((3, 2, 10)), "init has shape (3, 2, 10)"),
        (-H, "negative or not finite"),
        (np.full((3, 10), np.nan), "negative or not finite"),
    ],
    "weights": [([[1, 2]], "is of type list")],
    "fixed_H": [
        (np.ones(10), "shape (10,)"),
        (-np.ones((1, 10)), "entries that are negative"),
        (np.eye(2, 10) * [[1], [0]], "row 1 of fixed_H is all zeros"),
    ],
}


def _alone(name: str, value: Any) -> Row:
    value, text = value if isinstance(value, tuple) else (value, "")
    if np.ndim(value) or isinstance(value, type):
        return V, {name: value}, (text,)
    return V, {name: value}, (name if value is None else f"{name} is {value!r}", text)


ALONE = [_alone(name, value) for name, values in OPTIONS.items() for value in values]
ROWS = TOGETHER + ALONE


def _names(row: Row) -> str:
    return "-".join(
        f"{name} {value if np.ndim(value) == 0 else np.shape(value)}"
        for name, value in row[1].items()
    )


@pytest.mark.parametrize("row", ROWS, ids=_names)
def test_from_python(tmp_path: Path, row: Row) -> None:
    """With a run folder, of which nothing is left, and without."""
    matrix, options, texts = row
    for where in ({"out": tmp_path / "out" / "run"}, {}):
        with pytest.raises(DnmfError) as caught:
            dnmf.fit(matrix, **{"k": 3, **options}, **where)
        assert not any(tmp_path.iterdir())
        assert isinstance(caught.value, ValueError)
        assert caught.value.exit_code == 2
        message = str(caught.value)
        assert "\n" not in message
        assert [text for text in texts if text not in message] == []


ESTIMATOR = {"k": "n_components", "max_passes": "max_iter", "loss": "beta_loss"}
ESTIMATOR |= {"seed": "random_state"}
ESTIMATOR |= {
    name: name
    for name in ("solver", "tol", "alpha_W", "alpha_H", "l1_ratio", "n_init", "init", "dtype",
                 "block_size", "fixed_H", "missing")
}  # fmt: skip


def _of_scikit_learn(options: dict[str, Any]) -> bool:
    """What scikit-learn refuses too is refused in its words (tests/estimator/)."""
    return (
        options.get("solver") == "hals"
        or isinstance(options.get("weights"), list)
        or "init_W" in options
        or "alpha_H" in options
        or options.get("loss") == "beta"
        or options.get("k", 3) is None
        or options.get("dtype") == "float33"
        or ("init" in options and (np.ndim(options["init"]) > 0 or options["init"] == "magic"))
    )


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in ROWS
        if row[1].keys() <= {*ESTIMATOR, "weights"} and not _of_scikit_learn(row[1])
    ],
    ids=_names,
)
def test_from_the_estimator(row: Row) -> None:
    matrix, options, texts = row
    given = {ESTIMATOR[name]: value for name, value in options.items() if name in ESTIMATOR}
    model = dnmf.NMF(**{"n_components": 3, "solver": "auto", **given})
    weights = {"weights": options["weights"]} if "weights" in options else {}
    with pytest.raises((DnmfError, ValueError)) as caught:
        model.fit(matrix, **weights)
    message = str(caught.value)
    for name in ("k", "max_passes"):
        message = re.sub(rf"\b{ESTIMATOR[name]} is ", f"{name} is ", message)
    assert [text for text in texts if text not in message] == []


COMMAND = {param.name for param in cli.get_command(None, "fit").params}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in ROWS
        if row[1].keys() <= COMMAND
        and not any(value is None or isinstance(value, type | list) for value in row[1].values())
        and not (row[1].keys() & {"init"} and np.ndim(row[1]["init"]))
        and row[1].get("k") != "3"
    ],
    ids=_names,
)
def test_from_the_command_line(tmp_path: Path, row: Row) -> None:
    """The sentence, or the option by its name with what is wrong of its value."""
    matrix, options, texts = row
    path = tmp_path / ("V.zarr" if sp.issparse(matrix) else "V.npy")
    if sp.issparse(matrix):
        write_compressed(path, matrix, 50)
    else:
        np.save(path, matrix)
    arguments = ["fit", str(path), "-k", str(options.get("k", 3)), "--workers", "0"]
    for name, value in options.items():
        if np.ndim(value):
            np.save(tmp_path / f"{name}.npy", value)
            value = tmp_path / f"{name}.npy"
        arguments += [f"--{name.replace('_', '-')}", str(value)] if name != "k" else []
    done = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "out")])
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    ((name, value),) = options.items() if len(options) == 1 else [("", "")]
    option = "'-k'" if name == "k" else f"'--{name.replace('_', '-')}'"
    if f"Invalid value for {option}" in done.stderr:
        assert str(value) in done.stderr
    else:
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert [text for text in texts if text not in done.stderr] == []


def test_one_start_may_be_asked_for_everywhere() -> None:
    for options in ({"init": H}, {"init": "nndsvd"}, {"sample": 0}):
        one, none = (
            dnmf.fit(V, 3, max_passes=2, seed=0, **{**options, **n}) for n in ({"n_init": 1}, {})
        )
        np.testing.assert_array_equal(one.H, none.H)
