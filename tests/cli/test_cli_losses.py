"""`dnmf fit` passes on what is minimised and where it starts."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import zarr
from cli_tools import command
from click.testing import CliRunner

import dnmf
from dnmf.cli.main import cli
from dnmf.testing.problems import planted_poisson


@pytest.fixture
def counts(tmp_path: Path) -> str:
    path = str(tmp_path / "V.npy")
    np.save(path, planted_poisson(60, 20, 3).V)
    return path


def run(*arguments: str) -> str:
    program = command("fit", *arguments, "--workers", "0")
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    return f"{done.returncode} {done.stdout}{done.stderr}"


def test_options_reach_the_fit(counts: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    given = ["--loss", "kullback-leibler", "--alpha-W", "0.01", "--alpha-H", "0.02"]
    given += ["--l1-ratio", "0.5", "--n-init", "2", "--sample", "0.5", "--sample-bytes", "1MiB"]
    assert run(counts, "-k", "3", "--out", out, *given).startswith("0 ")
    config = dnmf.open(out).config
    expected = {"loss": "kullback-leibler", "alpha_W": 0.01, "alpha_H": 0.02, "l1_ratio": 0.5}
    expected |= {"n_init": 2, "sample": 0.5, "sample_bytes": 1 << 20}
    assert {name: config[name] for name in expected} == expected


def test_where_it_starts_and_what_is_missing_reach_the_fit(counts: str, tmp_path: Path) -> None:
    V = np.load(counts)
    V[3, 4] = np.nan
    np.save(counts, V)
    out = str(tmp_path / "out")
    refused = run(counts, "-k", "3", "--out", out, "--init", "nndsvda")
    assert "V[3, 4] is NaN" in refused
    given = ["--init", "nndsvda", "--missing", "nan", "--normalize", "components"]
    assert run(counts, "-k", "3", "--out", out, *given).startswith("0 ")
    config = dnmf.open(out).config
    expected = {"init": "nndsvda", "missing": "nan", "normalize": "components"}
    assert {name: config[name] for name in expected} == expected


def test_a_number_is_beta(counts: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert run(counts, "-k", "2", "--out", out, "--loss", "0.5").startswith("0 ")
    assert dnmf.open(out).config["beta"] == 0.5


def test_a_wrong_loss_is_refused_with_the_names(counts: str, tmp_path: Path) -> None:
    text = run(counts, "-k", "2", "--out", str(tmp_path / "out"), "--loss", "poisson")
    assert text.startswith("2 ")
    assert "kullback-leibler" in text


def test_a_solver_that_the_loss_has_not_is_refused(counts: str, tmp_path: Path) -> None:
    given = ["--loss", "kullback-leibler", "--solver", "hals"]
    text = run(counts, "-k", "2", "--out", str(tmp_path / "out"), *given)
    assert not text.startswith("0 ")


def test_weights_reach_fit_plan_and_transform(counts: str, tmp_path: Path) -> None:
    V = np.load(counts)
    M = np.random.default_rng(0).gamma(1.0, size=V.shape)
    M[np.random.default_rng(1).random(V.shape) < 0.2] = 0
    np.save(counts, np.where(M > 0, V, np.nan))
    weights, out = str(tmp_path / "M.npy"), str(tmp_path / "out")
    np.save(weights, M)
    text = run(counts, "-k", "2", "--out", out, "--weights", weights, "--max-passes", "5")
    assert text.startswith("0 "), text
    W, new = np.asarray(dnmf.open(out).W), str(tmp_path / "W")
    given = ["--weights", weights, "--workers", "0"]
    arguments = ["transform", counts, out, "--out", new, *given]
    CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert zarr.open_group(new, mode="r")["W"].shape == W.shape
    arguments = ["plan", counts, "-k", "2", "--json", *given]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert json.loads(done.stdout)["bytes_per_read"] == V.nbytes + M.nbytes


def test_fixed_rows_reach_the_fit(counts: str, tmp_path: Path) -> None:
    F, out = np.load(counts)[:2] + np.float32(1), str(tmp_path / "out")
    np.save(tmp_path / "F.npy", F)
    text = run(counts, "-k", "3", "--out", out, "--fixed-H", str(tmp_path / "F.npy"))
    assert text.startswith("0 "), text
    np.testing.assert_array_equal(np.asarray(dnmf.open(out).H)[:2], F)


def plan_of(counts: str, *arguments: str) -> dict:
    done = CliRunner().invoke(
        cli, ["plan", counts, "-k", "3", "--workers", "0", "--json", *arguments]
    )
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_a_plan_takes_what_a_fit_takes(counts: str, tmp_path: Path) -> None:
    H = tmp_path / "H.npy"
    np.save(H, np.ones((1, 20)))
    plain = plan_of(counts)
    for given in (["--loss", "0.5"], ["--loss", "kullback-leibler"], ["--sample", "0"]):
        assert plan_of(counts, *given) != plain
    none = [
        plan_of(counts, *given)["sample"] for given in (["--sample", "0"], ["--sample-bytes", "0"])
    ]
    assert none[0] == none[1] != plain["sample"]
    plan_of(counts, "--fixed-H", str(H), "--n-init", "1", "--init", "random", "--alpha-W", "0.1")
    np.save(H, np.ones(20))
    refused = CliRunner().invoke(cli, ["plan", counts, "-k", "3", "--fixed-H", str(H)])
    assert refused.exit_code == 2
    assert "--fixed-H: " in refused.output
    assert "has 1 dimension" in refused.output
    both = ["--loss", "itakura-saito", "--missing", "nan"]
    planned = CliRunner().invoke(cli, ["plan", counts, "-k", "3", "--workers", "0", *both])
    fitted = run(counts, "-k", "3", "--out", str(tmp_path / "out"), *both)
    assert planned.exit_code == 2
    assert planned.output.strip() in fitted


def test_a_transform_that_is_done_has_no_H(counts: str, tmp_path: Path) -> None:
    out = str(tmp_path / "W.zarr")
    dnmf.transform(np.load(counts), np.ones((2, 20)), out=out)
    done = CliRunner().invoke(cli, ["resume", out])
    assert f"W = dnmf.open({out!r}).W" in done.output
    assert "fit.H" not in done.output
