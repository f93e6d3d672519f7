"""Whoever calls a transform learns how many rows of W are not solved, from any surface."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click.testing
import dask.array as da
import numpy as np
import pytest
import zarr
from sklearn.exceptions import ConvergenceWarning

import dnmf
from dnmf.cli.main import cli
from dnmf.errors import OpenRowsWarning
from dnmf.planning.limits import using
from dnmf.steps.events import Notice

FEW = {"exact_steps": 1, "kl_patient_steps": 1, "beta_patient_steps": 1}
"""Steps that leave rows open."""


def problem() -> tuple[np.ndarray, np.ndarray]:
    """Rows of H that are nearly one background; the fourth row of V has nothing to solve."""
    rng, x = np.random.default_rng(1), np.arange(40)
    H = np.exp(-0.5 * ((x - np.linspace(3, 36, 5)[:, None]) / 2.5) ** 2) + 1.5e5
    H /= np.linalg.norm(H, axis=1)[:, None]
    V = rng.poisson((rng.gamma(1.0, size=(8, 5)) * 300 + 1.0) @ H).astype(float)
    V[3] = 0
    return V, H


@pytest.fixture
def few() -> Iterator[None]:
    with using(losses=FEW):
        yield


def model(H: np.ndarray, beta: float = 1.0, **options: Any) -> dnmf.NMF:
    V = np.random.default_rng(0).random((12, H.shape[1])) + 0.1
    options = {"solver": "auto", "beta_loss": beta, "max_iter": 2, "tol": 0, **options}
    fitted = dnmf.NMF(len(H), random_state=0, **options).fit(V)
    fitted.components_ = H
    return fitted


def count(text: str) -> int:
    assert "of 8 rows of W are not solved, the first is row 0" in text
    return int(text.split()[0])


@pytest.mark.parametrize("beta", [0.5, 1.0, 1.5])
@pytest.mark.usefixtures("few")
def test_python_warns_where_nobody_listens(beta: float, tmp_path: Path) -> None:
    V, H = problem()
    with pytest.warns(OpenRowsWarning) as told:
        dnmf.transform(V, H, beta=beta)
    assert [warning.filename for warning in told] == [__file__]
    number = count(str(told[0].message))
    assert 0 < number < 8
    with pytest.warns(OpenRowsWarning):
        dnmf.transform(V, H, beta=beta, out=tmp_path / "W")
    found = dnmf.open(tmp_path / "W")
    assert found.open_rows == number
    assert found.stop_reason == str(told[0].message)
    with pytest.warns(OpenRowsWarning, match=f"{number} of 8 rows"):
        assert dnmf.resume(tmp_path / "W").open_rows == number


@pytest.mark.usefixtures("few")
def test_python_tells_a_listener_instead() -> None:
    told: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dnmf.transform(*problem(), loss="kullback-leibler", on_event=told.append)
    (notice,) = [event for event in told if isinstance(event, Notice)]
    assert count(notice.text)


@pytest.mark.usefixtures("few")
def test_a_warning_that_is_an_error_leaves_the_result(tmp_path: Path) -> None:
    V, H = problem()
    with pytest.raises(OpenRowsWarning):
        dnmf.transform(V, H, beta=1.0, out=tmp_path / "W")
    assert dnmf.open(tmp_path / "W").done


@pytest.mark.parametrize("kind", ["array", "frame", "dask", "zarr", "verbose"])
@pytest.mark.usefixtures("few")
def test_the_estimator_warns_as_scikit_learn(kind: str, tmp_path: Path, caplog: Any) -> None:
    V, H = problem()
    fitted, X = model(H, verbose=int(kind == "verbose")), V
    if kind == "frame":
        fitted.set_output(transform="pandas")
    if kind == "dask":
        X = da.from_array(V, chunks=(4, 40))
    if kind == "zarr":
        X = zarr.create_array(tmp_path / "V.zarr", data=V)
    with caplog.at_level(logging.INFO, "dnmf"), pytest.warns(ConvergenceWarning) as told:
        W = fitted.transform(X)
    assert [warning.filename for warning in told] == [__file__]
    assert W.shape == (8, 5)
    number = count(str(told[0].message))
    assert 0 < number < 8
    if kind == "verbose":
        assert any(f"{number} of 8 rows" in record.getMessage() for record in caplog.records)


@pytest.mark.usefixtures("few")
def test_the_command_line_notes_it(tmp_path: Path) -> None:
    V, H = problem()
    zarr.create_array(tmp_path / "V.zarr", data=V, chunks=(4, 40))
    fit = dnmf.fit(V, 5, init=H, loss="kullback-leibler", max_passes=1, out=tmp_path / "fit")
    assert fit.open_rows is None
    out = tmp_path / "W"

    def run(*arguments: object) -> click.testing.Result:
        return click.testing.CliRunner().invoke(cli, [str(part) for part in arguments])

    with using(losses=FEW):
        done = run("transform", tmp_path / "V.zarr", tmp_path / "fit", "--out", out, "--workers", 0)
    assert done.exit_code == 0, done.output
    (note,) = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    number = count(note.removeprefix("note: "))
    assert number == dnmf.open(out).open_rows
    assert f"{number} of 8 rows of W are not solved" in run("inspect", out).stdout
    assert f"{number} of 8 rows of W are not solved" in run("resume", out).stdout


def test_nobody_is_warned_of_rows_that_are_solved(tmp_path: Path) -> None:
    V, H = problem()
    for beta in (0.5, 1.0, 1.5, 2.0, 3.0):
        assert dnmf.transform(V, H, beta=beta).shape == (8, 5)
    model(H).transform(V)
    dnmf.transform(V, H, beta=1.0, out=tmp_path / "W")
    assert dnmf.open(tmp_path / "W").open_rows == 0


def in_float32() -> tuple[np.ndarray, np.ndarray]:
    """What sweeps do not solve, where float32 has too few digits to solve it exactly."""
    V, H = problem()
    return V.astype("f4"), H.astype("f4")


ONE_SWEEP = {"losses": {"W_sweeps": 1, "W_tau": 1e-12}}
FIT: dict[str, Any] = {"tol": 0.9, "seed": 0}
"""Options of fits that soon say that they have converged."""


def test_fits_count_them_too(tmp_path: Path) -> None:
    V, H = in_float32()
    with (
        using(**ONE_SWEEP),
        pytest.warns(OpenRowsWarning, match="not solved at H.*float64") as told,
    ):
        fit = dnmf.fit(V, 5, fixed_H=H[:4], out=tmp_path / "fit", **FIT)
    assert [warning.filename for warning in told] == [__file__]
    assert 0 < fit.open_rows < 8  # the row of zeros is solved
    assert f"{fit.open_rows} of 8 rows" in str(told[0].message)
    assert dnmf.open(tmp_path / "fit").open_rows == fit.open_rows
    run = click.testing.CliRunner().invoke
    assert f"{fit.open_rows} of 8 rows of W" in run(cli, ["inspect", f"{tmp_path}/fit"]).stdout
    report = run(cli, ["report", f"{tmp_path}/fit", "-o", f"{tmp_path}/report.html"])
    assert report.exit_code == 0, report.output
    assert f"{fit.open_rows} of 8 rows of W" in (tmp_path / "report.html").read_text()
    with (
        using(**ONE_SWEEP),
        pytest.warns(ConvergenceWarning, match="of 8 rows of W are not solved"),
    ):
        dnmf.NMF(5, fixed_H=H[:4], tol=0.9, random_state=0).fit(V)


def test_fits_tell_a_listener() -> None:
    V, H = in_float32()
    told: list[Any] = []
    with using(**ONE_SWEEP), warnings.catch_warnings():
        warnings.simplefilter("error")
        dnmf.fit(V, 5, fixed_H=H[:4], on_event=told.append, **FIT)
    notes = [event.text for event in told if isinstance(event, Notice)]
    assert sum("rows of W are not solved at H" in text for text in notes) == 1


def test_missing_entries_are_counted_alike() -> None:
    V, H = in_float32()
    V[:, ::7] = np.nan
    with using(**ONE_SWEEP), pytest.warns(OpenRowsWarning, match="not solved at H"):
        assert dnmf.fit(V, 5, fixed_H=H[:4], missing="nan", **FIT).open_rows


def test_what_float64_solves_exactly_is_not_open() -> None:
    V, H = problem()
    with using(**ONE_SWEEP):
        assert dnmf.fit(V, 5, init=H, **FIT).open_rows == 0


@pytest.mark.parametrize("options", [{"loss": "kullback-leibler"}, {"solver": "mu"}])
def test_passes_of_a_few_steps_count_none(options: dict[str, Any]) -> None:
    V, H = problem()
    assert dnmf.fit(V, 5, init=H, **FIT, **options).open_rows is None
