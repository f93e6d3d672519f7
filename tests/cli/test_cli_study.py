"""``dnmf study``: what it is asked, what it says, and what other commands say of a study."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import zarr
from click.testing import CliRunner

from dnmf.cli.main import cli
from dnmf.cli.study import _Numbers
from dnmf.config import FitConfig
from dnmf.testing.faults import Fault, active


@pytest.fixture(scope="module")
def V(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("cli-study") / "V.zarr"
    rng = np.random.default_rng(0)
    data = rng.poisson(5 * rng.gamma(0.4, size=(120, 3)) @ rng.gamma(0.4, size=(3, 20)))
    zarr.create_array(str(path), data=data.astype("f4"), chunks=(40, 20))
    return str(path)


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("8", [8]), ("2:5", [2, 3, 4, 5]), ("2:9:3", [2, 5, 8]), ("5,10,15", [5, 10, 15])],
)
def test_lists_of_numbers(text: str, numbers: list[int]) -> None:
    assert _Numbers().convert(text, None, None) == numbers


@pytest.mark.parametrize("text", ["", "a", "5:2", "2:9:0", "1:2:3:4", "2:", "1:999999999"])
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(click.BadParameter, match="no numbers"):
        _Numbers().convert(text, None, None)


def test_the_plan_runs_nothing(V: str, tmp_path: Path) -> None:
    found = run("study", V, "--ks", "2:4", "--seeds", 2, "--folds", 2, "--plan", "--workers", 0)
    assert found.exit_code == 0, found.output
    assert "6 of all of V, 6 that leave out a fold; 36 components in all" in found.output
    assert "all share every read" in found.output
    refused = run("study", V, "--ks", "2:4", "--workers", 0)
    assert refused.exit_code == 2
    assert "--out" in refused.output


def test_a_study_and_what_is_said_of_it(V: str, tmp_path: Path) -> None:
    out = tmp_path / "study.zarr"
    asked = ["study", V, "--ks", "2:4", "--seeds", 2, "--folds", 2, "--out", out, "--workers", 0]
    found = run(*asked)
    assert found.exit_code == 0, found.output
    lines = found.output.splitlines()
    table = [line.split() for line in lines if line.strip()[:2] in ("2 ", "3 ", "4 ")]
    assert [row[0] for row in table] == ["2", "3", "4"]
    assert "(1 reads of V)" in found.output
    assert "k = 3" in found.output
    assert f"dnmf report {out}" in found.output
    assert run(*asked).exit_code == 2  # it exists
    told = run("inspect", out)
    assert told.exit_code == 0
    assert "The error on entries that were left out" in told.output
    facts = json.loads(run("inspect", out, "--json").output)
    assert len(facts["models"]) == 12
    assert facts["done"]
    again = run("resume", out, "--workers", 0)
    assert again.exit_code == 0
    assert "nothing to do" in again.output


def test_one_hold_out_or_none(V: str, tmp_path: Path) -> None:
    asked = ["study", V, "--ks", "2,3", "--seeds", 1, "--max-passes", 3, "--workers", 0]
    found = run(*asked, "--holdout", "none", "--out", tmp_path / "a")
    assert "No k stands out" in found.output
    found = run(*asked, "--loss", "itakura-saito", "--out", tmp_path / "b")
    assert found.exit_code == 2
    assert "--holdout none" in found.output
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("shape", ["112", "0x3", "3x", "axb"])
def test_shapes_that_are_none(shape: str, tmp_path: Path) -> None:
    found = run("report", tmp_path, "-o", tmp_path / "x.html", "--shape", shape)
    assert found.exit_code == 2
    assert "no shape" in found.output


def test_its_help_has_only_what_it_takes() -> None:
    """Held rows would count as found again."""
    words = run("study", "--help").output.split()
    assert "--loss" in words
    assert "--fixed-H" not in words
    assert "besides --seeds [default: 2]" in " ".join(words)
    fit = run("fit", "--help").output
    assert {"--n-init", "--fixed-H"} <= set(fit.split())
    defaults = re.findall(r"--(tol|max-passes) .*?\[default: (.*?)\]", " ".join(fit.split()))
    assert {name: float(value) for name, value in defaults} == {
        "tol": FitConfig.tol,
        "max-passes": FitConfig.max_passes,
    }


def test_a_path_with_blanks_is_quoted(V: str, tmp_path: Path) -> None:
    out = tmp_path / "my study"
    stop = Fault("record-committed", "interrupt", {"index": 1})
    asked = ("study", V, "--ks", "2,3", "--seeds", 1, "--holdout", "none", "--workers", 0)
    with active(tmp_path / "faults", [stop]):
        assert run(*asked, "--out", out).exit_code == 3
    assert f"go on with: dnmf resume '{out}'" in run("inspect", out).output
    assert f"dnmf report '{out}' -o" in run("resume", out, "--workers", 0).output


def test_a_fit_in_a_path_with_blanks_is_quoted(V: str, tmp_path: Path) -> None:
    out = tmp_path / "my fit"
    with active(tmp_path / "faults", [Fault("record-committed", "interrupt", {"index": 1})]):
        assert run("fit", V, "-k", 2, "--out", out, "--workers", 0).exit_code == 3
    assert f"go on with: dnmf resume '{out}'" in run("inspect", out).output
