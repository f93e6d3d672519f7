"""fit, plan, inspect and transform, serially, on real arrays."""

from __future__ import annotations

import functools
import json
import re

import numpy as np
import pytest
import zarr
from cli_tools import planted

import dnmf
from dnmf.executors import local
from dnmf.executors.watch import workers_of


@pytest.fixture
def fit(run, V, tmp_path):
    """Fit V serially; returns the path of the result and what was printed."""

    def start(*options, name="fit.zarr", expect=0):
        result = run("fit", V, "-k", 4, "--out", tmp_path / name, "--workers", 0, *options)
        assert result.exit_code == expect, result.output
        return tmp_path / name, result

    return start


def facts(text: str) -> dict[str, str]:
    """Lines of label and value as a dict."""
    pairs = (re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in text.splitlines())
    return dict(pair for pair in pairs if len(pair) == 2)


def test_fit_prints_plan_and_summary_and_writes_the_result(fit, V):
    path, printed = fit()
    fit_ = dnmf.open(path)
    W, H = np.asarray(fit_.W), np.asarray(fit_.H)
    assert W.shape == (240, 4)
    assert H.shape == (4, 30)
    residual = zarr.open_array(V, mode="r")[:] - W @ H
    assert fit_.objective == pytest.approx(0.5 * np.sum(residual.astype(float) ** 2), rel=1e-3)

    said = facts(printed.stdout)
    size = float(np.linalg.norm(zarr.open_array(V, mode="r")[:]))
    assert float(said["objective"]) == pytest.approx(fit_.objective, rel=1e-5)
    error = np.linalg.norm(residual) / size
    assert float(said["relative error"]) == pytest.approx(error, rel=1e-3)
    assert said["passes"] == str(len(fit_.history))
    assert said["stopped"] == fit_.stop_reason
    assert said["result"] == str(path)
    assert printed.stderr == ""


def test_the_snippet_that_is_printed_runs(fit):
    _, printed = fit("--max-passes", 3)
    code = "\n".join(line.strip() for line in printed.stdout.splitlines() if line.startswith("  "))
    scope: dict = {}
    exec(code, scope)
    assert scope["fit"].W.shape == (240, 4)


def test_bytes_read_are_scan_and_passes(run, tmp_path):
    np.save(tmp_path / "V.npy", planted(30_000, 10))  # more rows than a sample holds
    options = ("-k", 3, "--tol", 0, "--max-passes", 3, "--workers", 0)
    printed = run("fit", tmp_path / "V.npy", "--out", tmp_path / "fit.zarr", *options)
    passes = [row["bytes_read"] for row in dnmf.open(tmp_path / "fit.zarr").history]
    assert set(passes) <= {0, 1_200_000}  # none where V was kept in memory
    assert facts(printed.stdout)["bytes read"] == f"{1.2 + sum(passes) / 1e6:.3g} MB"


def test_data_that_the_sample_holds_are_read_once(fit, V):
    _, printed = fit("--max-passes", 3)
    assert facts(printed.stdout)["bytes read"] == "28.8 kB"
    assert zarr.open_array(V, mode="r").nbytes == 28_800


def test_max_passes_and_tol(fit):
    path, printed = fit("--max-passes", 3, "--tol", 0)
    assert len(dnmf.open(path).history) == 3
    assert "max_passes = 3" in printed.stdout
    loose = dnmf.open(fit("--tol", 0.5, name="loose.zarr")[0])
    tight = dnmf.open(fit("--tol", 1e-10, name="tight.zarr")[0])
    assert len(loose.history) < len(tight.history)
    assert loose.objective > tight.objective


def test_max_time_ends_after_the_first_pass_that_it_allows(fit):
    path, printed = fit("--max-time", "1e-9", "--tol", 0, "--max-passes", 50)
    assert len(dnmf.open(path).history) == 1
    assert "max_time" in printed.stdout


def test_seed(fit):
    runs = [fit("--seed", s, "--max-passes", 3, name=f"{i}.zarr")[0] for i, s in enumerate("001")]
    H = [np.asarray(dnmf.open(path).H) for path in runs]
    np.testing.assert_array_equal(H[0], H[1])
    assert not np.array_equal(H[0], H[2])


def test_dtype(fit):
    for dtype in ("float32", "float64"):
        path, _ = fit("--dtype", dtype, "--max-passes", 3, name=dtype)
        assert np.asarray(dnmf.open(path).H).dtype == dtype


def test_an_existing_output_is_kept_without_overwrite(fit):
    path, _ = fit("--seed", 0)
    before = np.asarray(dnmf.open(path).H)
    _, refused = fit("--seed", 1, expect=2)
    assert refused.stderr.startswith("error: ")
    assert str(path) in refused.stderr
    np.testing.assert_array_equal(np.asarray(dnmf.open(path).H), before)
    fit("--seed", 1, "--overwrite")
    assert not np.array_equal(np.asarray(dnmf.open(path).H), before)


def test_missing_chunks(fit, V):
    (V / "c" / "5" / "0").unlink()
    _, refused = fit("--missing-chunks", "error", expect=2)
    assert "c/5/0" in refused.stderr
    _, filled = fit("--missing-chunks", "fill", name="filled.zarr")
    path = filled.stdout.split("result")[1].split()[0]
    assert not np.asarray(dnmf.open(path).W)[50:60].any()


def test_block_size_and_strict_bits_are_recorded(fit):
    path, _ = fit("--block-size", 1200, "--strict-bits", "--max-passes", 3)
    options = json.dumps(dnmf.open(path).inspect())
    assert '"block_size": 1200' in options
    assert '"strict_bits": true' in options


def test_plan_shows_the_layout_and_leaves_nothing(run, V, tmp_path):
    before = sorted(tmp_path.iterdir())
    printed = run("plan", V, "-k", 4, "--block-size", 1200, "--workers", 0)
    assert printed.exit_code == 0, printed.output
    assert sorted(tmp_path.iterdir()) == before
    values = " ".join(facts(printed.stdout).values())
    assert "24" in values
    plan = json.loads(run("plan", V, "-k", 4, "--block-size", 1200, "--json").stdout)
    assert len(json.dumps(plan)) > 100


def test_plan_and_fit_show_the_same_lines(run, fit, V):
    plan = run("plan", V, "-k", 4, "--workers", 0).stdout
    assert fit("--max-passes", 3)[1].stdout.startswith(plan)


def test_plan_refuses_what_cannot_fit(run, V):
    for workers in (["--workers", 2, "--threads", 1], ["--workers", 0]):
        refused = run("plan", V, "-k", 4, *workers, "--memory", "100MB")
        assert refused.exit_code == 2
        assert "100 MB" in refused.stderr
        assert "--memory" in refused.stderr


def test_fit_refuses_what_cannot_fit(fit):
    path, refused = fit("--memory", "100MB", expect=2)
    assert "100 MB" in refused.stderr
    assert not path.exists()


def test_inspect_for_people_and_programs(run, fit):
    path, _ = fit("--max-passes", 3, "--tol", 0)
    text = run("inspect", path).stdout
    assert "max_passes = 3" in text
    assert re.search(r"^\s*3  ", text, re.MULTILINE)
    known = json.loads(run("inspect", path, "--json").stdout)
    assert known == json.loads(json.dumps(dnmf.open(path).inspect()))
    assert len(known["history"]) == 3


def test_transform_gives_the_fits_W_again(run, fit, V, tmp_path):
    path, _ = fit("--tol", 1e-8)
    out = tmp_path / "W.zarr"
    printed = run("transform", V, path, "--out", out, "--workers", 0)
    assert printed.exit_code == 0, printed.output
    scope: dict = {}
    exec("\n".join(x.strip() for x in printed.stdout.splitlines() if x[:1] == " "), scope)
    W = np.asarray(dnmf.open(path).W)
    np.testing.assert_allclose(scope["W"][:], W, atol=0.02 * W.max())
    told = dict(
        line.split(maxsplit=1) for line in run("inspect", out).stdout.splitlines() if line.strip()
    )
    assert told["matrix"].startswith("240 x 30, k = ")
    assert "options" not in told  # no seed and no rule to stop
    assert told["state"].startswith("done")
    assert run("transform", V, path, "--out", out, "--workers", 0).exit_code == 2
    assert run("transform", V, path, "--out", out, "--workers", 0, "--overwrite").exit_code == 0


def test_transform_refuses_other_columns(run, fit, tmp_path):
    path, _ = fit("--max-passes", 3)
    np.save(tmp_path / "other.npy", planted(5, 31))
    refused = run(
        "transform", tmp_path / "other.npy", path, "--out", tmp_path / "W", "--workers", 0
    )
    assert refused.exit_code == 2
    assert "31" in refused.stderr
    assert "30" in refused.stderr
    assert not (tmp_path / "W").exists()


@pytest.mark.parametrize("command", ["fit", "plan", "transform", "convert"])
def test_a_path_that_does_not_exist(run, fit, tmp_path, command):
    missing, out = tmp_path / "missing.zarr", tmp_path / "out"
    arguments = {
        "fit": ["-k", 2, "--out", out],
        "plan": ["-k", 2],
        "transform": [fit("--max-passes", 3)[0], "--out", out] if command == "transform" else [],
        "convert": [out],
    }[command]
    refused = run(command, missing, *arguments, "--workers", 0)
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: ")
    assert "missing.zarr" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize("command", ["resume", "inspect"])
def test_a_run_that_does_not_exist(run, tmp_path, command):
    refused = run(command, tmp_path / "missing.zarr")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: ")
    assert "missing.zarr" in refused.stderr


def test_nan_ends_a_fit_with_its_place(run, V, tmp_path):
    zarr.open_array(V, mode="r+")[57, 3] = np.nan
    refused = run("fit", V, "-k", 2, "--out", tmp_path / "out", "--workers", 0)
    assert refused.exit_code == 2
    assert "57" in refused.stderr
    assert "3" in refused.stderr
    assert not (tmp_path / "out").exists()


def test_no_cluster_starts_for_a_path_that_does_not_exist(run, tmp_path, monkeypatch):
    def start(*_, **__):
        raise AssertionError("a cluster was started")

    monkeypatch.setattr(local, "LocalCluster", start)
    refused = run("fit", tmp_path / "nothing", "-k", 2, "--out", tmp_path / "out", "--workers", 2)
    assert refused.exit_code == 2
    assert "nothing" in refused.stderr


@pytest.fixture
def impatient(monkeypatch):
    """Real attempts to connect, of one second."""
    monkeypatch.setattr(local, "connect", functools.partial(local.connect, timeout=1.0))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nowhere"])
def test_a_scheduler_that_does_not_answer(run, V, tmp_path, impatient, address):
    refused = run("fit", V, "-k", 2, "--out", tmp_path / "out", "--scheduler", address)
    assert refused.exit_code == 2
    assert f"no scheduler answers at {address}" in refused.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "does not exist"),
        ("not JSON", "Expecting value"),
        ("[]", "no address"),
        ('{"address": "tcp://127.0.0.1:9"}', "no scheduler answers"),
    ],
)
def test_a_scheduler_file_that_leads_nowhere(run, V, tmp_path, impatient, content, says):
    file = tmp_path / "scheduler.json"
    if content is not None:
        file.write_text(content)
    refused = run("fit", V, "-k", 2, "--out", tmp_path / "out", "--scheduler-file", file)
    assert refused.exit_code == 2
    assert str(file) in refused.stderr
    assert says in refused.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.cluster
def test_a_cluster_that_runs_is_used_and_left_running(run, V, tmp_path):
    with local.start_local(2, 1, 10**9) as client:
        client.write_scheduler_file(str(tmp_path / "scheduler.json"))
        address = client.scheduler.address
        options = ("-k", 3, "--max-passes", 3, "--block-size", 4800)
        for name, where in (
            ("a", ("--scheduler", address)),
            ("b", ("--scheduler-file", tmp_path / "scheduler.json")),
        ):
            done = run("fit", V, *options, "--out", tmp_path / name, *where)
            assert done.exit_code == 0, done.output
            assert "2 worker(s) x 1 thread(s)" in done.stdout
            assert len(workers_of(client)) == 2
        plan = run("plan", V, "-k", 3, "--scheduler", address, "--json")
        assert json.loads(plan.stdout)["resources"]["workers"] == 2
    results = [dnmf.open(tmp_path / name) for name in "ab"]
    np.testing.assert_array_equal(*(np.asarray(result.H) for result in results))
