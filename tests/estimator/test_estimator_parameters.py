"""Parameters of NMF: each does what it says, or is refused by name."""

from __future__ import annotations

import logging
import re
import sys
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dnmf
from dnmf import NMF
from dnmf.errors import InputError, OptionError, OutputExistsError
from dnmf.estimator.parameters import LATER
from dnmf.testing.problems import planted_poisson


def counts(n: int = 60) -> np.ndarray:
    return planted_poisson(n, 20, 3, dtype="float64").V.copy()


REFUSED_FOR_NOW: list[tuple[dict[str, Any], str]] = [
    ({"shuffle": True}, "shuffle=True is not in this version of dnmf"),
]


@pytest.mark.parametrize(("parameters", "message"), REFUSED_FOR_NOW)
def test_what_later_versions_bring_is_refused_by_name(
    parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        NMF(3, **parameters).fit(counts())


def test_every_refusal_is_tested() -> None:
    assert {name for name, _, _ in LATER} == {name for case, _ in REFUSED_FOR_NOW for name in case}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"solver": "newton"}, "solver is 'newton'; it must be one of 'cd'"),
        ({"beta_loss": 1.0}, "solver 'cd' does not handle beta_loss = 1.0"),
        ({"beta_loss": "itakura-saito"}, "does not handle beta_loss = 'itakura-saito'"),
        ({"beta_loss": "other", "solver": "mu"}, "loss is 'other'; it must be one of frobenius"),
        ({"init": "zeros"}, "init is 'zeros'; it must be one of None, 'random', 'nndsvd'"),
        ({"tol": -1e-4}, "tol is -0.0001; it must be a finite number"),
        ({"tol": "small"}, "tol is 'small'"),
        ({"tol": np.nan}, "tol is nan"),
        ({"max_iter": 0}, "max_iter is 0; it must be at least 1"),
        ({"max_iter": 2.5}, "max_iter is 2.5; it must be a whole number"),
        ({"n_components": 0}, "n_components is 0; it must be at least 1"),
        ({"n_components": "all"}, "n_components is 'all'; it must be a whole number"),
        ({"n_components": 2.5}, "n_components is 2.5"),
        ({"alpha_W": -1}, "alpha_W is -1"),
        ({"alpha_H": "other"}, "alpha_H is 'other'"),
        ({"l1_ratio": 1.5}, "l1_ratio is 1.5; it must be between 0 and 1"),
        ({"verbose": -1}, "verbose is -1"),
        ({"random_state": -3}, "seed is -3"),
        ({"dtype": "int32"}, "dtype is 'int32'"),
        ({"block_size": "much"}, "block_size is 'much'"),
        ({"n_init": 0}, "n_init is 0; it must be at least 1"),
        ({"missing": "none"}, "missing is 'none'; it must be one of None, 'nan', 'zeros'"),
    ],
)
def test_impossible_values_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        NMF(**{"n_components": 3, **parameters}).fit(counts())


@pytest.mark.parametrize("parameters", [{"beta_loss": 2}, {"beta_loss": 2.0}, {"alpha_H": 0.0}])
def test_other_names_of_least_squares_change_nothing(parameters: dict[str, Any]) -> None:
    plain = NMF(3, random_state=0).fit_transform(counts())
    other = NMF(3, random_state=0, **parameters).fit_transform(counts())
    np.testing.assert_array_equal(other, plain)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("n_components", ["auto", None])
def test_without_n_components_there_are_as_many_as_columns(n_components: Any) -> None:
    model = NMF(n_components, random_state=0, max_iter=3).fit(counts())
    assert model.n_components_ == 20
    assert model.components_.shape == (20, 20)


def custom(n: int = 60, d: int = 20, k: int = 2, dtype: str = "float64") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"W": rng.random((n, k)).astype(dtype), "H": rng.random((k, d)).astype(dtype)}


def test_auto_takes_the_number_of_rows_of_a_given_H() -> None:
    model = NMF("auto", init="custom", tol=1e-6)
    assert model.fit_transform(counts(), **custom()).shape == (60, 2)
    assert model.n_components_ == 2


def test_a_fit_starts_from_the_given_factors() -> None:
    """One pass from the true factors is as good as a whole fit; W alone changes the result too."""
    problem = planted_poisson(60, 20, 3, dtype="float64")
    start = {"W": problem.W, "H": problem.H}
    whole = NMF(3, random_state=0).fit(problem.V)
    kwargs = {"init": "custom", "max_iter": 1, "tol": 0}
    once = NMF(3, **kwargs).fit(problem.V, **start)
    assert once.n_iter_ == 1
    assert once.reconstruction_err_ < 1.1 * whole.reconstruction_err_
    cold = NMF(3, **kwargs).fit_transform(problem.V, H=problem.H)
    far = NMF(3, **kwargs).fit_transform(problem.V, W=100 * problem.W[::-1], H=problem.H)
    assert np.abs(cold - far).max() > 1e-9


def test_a_fit_goes_on_from_its_own_result() -> None:
    """The objective falls from fit to fit when each begins where the last one ended."""
    X, start, errors = counts(), custom(k=3), []
    for _ in range(15):
        model = NMF(3, init="custom", max_iter=1, tol=0)
        start = {"W": model.fit_transform(X, **start), "H": model.components_}
        errors.append(model.reconstruction_err_)
    assert all(b <= a * (1 + 1e-12) for a, b in pairwise(errors))


def test_given_factors_are_never_modified() -> None:
    start, X = custom(), counts()
    before = {name: array.copy() for name, array in start.items()}
    NMF(2, init="custom").fit(X, **start)
    np.testing.assert_array_equal(X, counts())
    for name, array in before.items():
        np.testing.assert_array_equal(start[name], array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"W": np.ones((59, 2))}, r"wrong first dimension passed to NMF \(input W\). Expected 60"),
        ({"W": np.ones((60, 3))}, r"wrong second dimension passed to NMF \(input W\). Expected 2"),
        ({"H": np.ones((3, 20))}, r"wrong first dimension passed to NMF \(input H\). Expected 2"),
        ({"H": np.ones((2, 19))}, r"wrong second dimension passed to NMF \(input H\). Expected 20"),
        ({"H": -np.ones((2, 20))}, r"Negative values in data passed to NMF \(input H\)"),
        ({"W": -np.ones((60, 2))}, r"Negative values in data passed to NMF \(input W\)"),
        ({"H": np.zeros((2, 20))}, r"Array passed to NMF \(input H\) is full of zeros"),
        ({"W": np.zeros((60, 2))}, r"Array passed to NMF \(input W\) is full of zeros"),
        ({"H": np.full((2, 20), np.nan)}, "Input H contains NaN"),
        ({"H": None}, "H is missing"),
    ],
)
def test_given_factors_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NMF(2, init="custom").fit(counts(), **{**custom(), **change})


@pytest.mark.parametrize("name", ["W", "H"])
def test_given_factors_have_the_dtype_of_X(name: str) -> None:
    start = {**custom(), name: custom(dtype="float32")[name]}
    with pytest.raises(TypeError, match="should have the same dtype as X"):
        NMF(init="custom").fit(counts(), **start)


@pytest.mark.parametrize("name", ["W", "H"])
def test_factors_that_are_not_used_are_announced(name: str) -> None:
    with pytest.warns(RuntimeWarning, match="When init!='custom', provided W or H are ignored"):
        model = NMF(2, random_state=0).fit(counts(), **{name: custom()[name]})
    plain = NMF(2, random_state=0).fit(counts())
    np.testing.assert_array_equal(model.components_, plain.components_)


def test_negative_data_are_refused_where_they_are() -> None:
    X = counts()
    X[7, 11] = -2
    with pytest.raises(
        InputError, match=r"Negative values in data passed to NMF.*V\[7, 11\] is -2"
    ):
        NMF(3).fit(X)
    with pytest.raises(ValueError, match="Negative values in data passed to"):
        NMF(3).fit(counts()).transform(X)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_entries_must_be_finite(bad: float) -> None:
    X = counts()
    X[0, 0] = bad
    with pytest.raises(ValueError, match=r"contains NaN|contains infinity"):
        NMF(3).fit(X)


def test_verbose_logs_every_pass_and_prints_nothing(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    model = NMF(3, random_state=0, verbose=1).fit(counts())
    lines = [r.getMessage() for r in caplog.records if r.name == "dnmf"]
    passes = [line for line in lines if line.startswith("pass ")]
    assert len(passes) == model.n_iter_
    assert f"{model.history_[-1]['objective']:.6g}" in passes[-1]
    assert lines[-1] == model.stop_reason_
    caplog.clear()
    NMF(3, random_state=0, verbose=2).fit(counts())
    assert any("60 x 20" in record.getMessage() for record in caplog.records)
    caplog.clear()
    NMF(3, random_state=0).fit(counts())
    assert not caplog.records
    assert capsys.readouterr().out == ""


def test_verbose_is_seen_where_nobody_configured_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    logger, root = logging.getLogger("dnmf"), logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    stream = StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    NMF(3, random_state=0, verbose=True).fit(counts())
    assert "pass 1: objective" in stream.getvalue()
    assert logger.handlers == []
    assert logger.level == logging.NOTSET


def test_block_size_cuts_the_data(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dnmf")
    model = NMF(3, random_state=0, block_size="5120B", verbose=2).fit(counts())
    text = " ".join(record.getMessage() for record in caplog.records)
    assert "6 of at most 10 rows" in text
    whole = NMF(3, random_state=0).fit(counts())
    assert model.reconstruction_err_ == pytest.approx(whole.reconstruction_err_, rel=1e-6)


@pytest.mark.parametrize("n_init", [1, 3])
def test_n_init_starts_race(n_init: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dnmf")
    NMF(3, random_state=0, n_init=n_init, verbose=1).fit(counts(400))
    starts = [r for r in caplog.records if r.getMessage().startswith("start ")]
    # one alone has nobody to race with; one from the singular vectors joins several
    assert len(starts) == (n_init + 1 if n_init > 1 else 0)


def test_out_keeps_the_result_and_overwrite_replaces_it(tmp_path: Path) -> None:
    out = tmp_path / "result.zarr"
    model = NMF(3, random_state=0, out=out)
    W = model.fit_transform(counts())
    assert isinstance(W, np.ndarray)
    kept = dnmf.open(out)
    np.testing.assert_array_equal(np.asarray(kept.W), W)
    np.testing.assert_array_equal(kept.components_, model.components_)
    with pytest.raises(OutputExistsError):
        model.fit(counts())
    before = model.components_
    model.set_params(overwrite=True, random_state=1).fit(counts())
    assert np.abs(dnmf.open(out).components_ - before).max() > 0
