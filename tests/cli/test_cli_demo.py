"""The demo itself: recognisable topics, and a matrix larger than the memory limit."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
import zarr

import dnmf

SIZE = 300_000_000


def test_topics_of_the_standard_library(run, tmp_path):
    printed = run("demo", "--workers", 0, "--folder", tmp_path / "demo", "--max-passes", 12)
    assert printed.exit_code == 0, printed.output
    assert f"folder  {tmp_path / 'demo'}" in printed.stdout
    assert "warning" not in printed.output
    text = " ".join(printed.stdout.split())
    for word, name in (("decimal", "_pydecimal."), ("widget", "tkinter."), ("codec", "encodings.")):
        assert word in text
        assert name in text
    fit = dnmf.open(tmp_path / "demo" / "topics.zarr")
    assert fit.H.shape[0] == 16
    assert fit.details["layout"]["segments"] >= 8  # something for every worker
    again = run("demo", "--workers", 0, "--folder", tmp_path / "demo")
    assert again.exit_code == 2
    assert "docstrings.zarr exists" in again.stderr


def test_the_time_is_that_of_the_whole_command(run, tmp_path, monkeypatch):
    """As `dnmf fit` has it, not the seconds of passes alone; a finished run takes none."""
    said = []
    monkeypatch.setattr("dnmf.cli.report.summary", lambda *told: said.append(told[2]) or "")
    small = ("--large", "1MB", "--columns", 20, "-k", 2, "--max-passes", 1)
    began = time.monotonic()
    assert run("demo", *small, "--workers", 0, "--folder", tmp_path / "demo").exit_code == 0
    took = time.monotonic() - began
    assert run("resume", tmp_path / "demo" / "fit.zarr", "--workers", 0).exit_code == 0
    passes = sum(row["seconds"] for row in dnmf.open(tmp_path / "demo" / "fit.zarr").history)
    assert passes < said[0] <= took
    assert said[1] > 0


def test_a_refused_demo_leaves_no_folder(run, tmp_path):
    refused = run("demo", "--large", "900000TB", "--workers", 0, "--folder", tmp_path / "demo")
    assert refused.exit_code == 2
    assert "GB are free" in refused.stderr
    assert not (tmp_path / "demo").exists()


def megabytes(text: str) -> float:
    number, unit = re.match(r"([\d.]+) (MB|GB|kB|B)", text).groups()
    return float(number) * {"B": 1e-6, "kB": 1e-3, "MB": 1, "GB": 1e3}[unit]


@pytest.mark.slow
@pytest.mark.cluster
def test_large_stays_within_its_memory(program, tmp_path):
    """V is more than a worker may plan with beside its imports; it gathers nowhere."""
    folder = tmp_path / "demo"
    printed = program(
        *("demo", "--large", SIZE, "--columns", 100, "-k", 8, "--folder", folder),
        *("--workers", 2, "--threads", 1, "--memory", "700MB", "--max-passes", 3),
    )
    assert printed.returncode == 0, printed.stderr
    pairs = (re.split(r"\s{2,}", line, maxsplit=1) for line in printed.stdout.splitlines())
    said = dict(pair for pair in pairs if len(pair) == 2)
    assert "workers lost" not in said
    assert megabytes(said["largest worker"]) < 700
    assert megabytes(said["client's growth"]) < 200
    V = zarr.open_array(folder / "V.zarr", mode="r")
    assert V.nbytes == SIZE
    fit = dnmf.open(folder / "fit.zarr")
    assert len(fit.history) == 3
    passes = [row["bytes_read"] for row in fit.history]  # less where a worker kept some of V
    assert all(0 <= nbytes <= SIZE for nbytes in passes)
    reads = SIZE + sum(passes)
    assert megabytes(said["bytes read"]) == pytest.approx(reads / 1e6, rel=5e-3)
    found, planted = float(said["relative error"]), float(said["planted error"].split()[0])
    assert planted == pytest.approx(0.1 / np.sqrt(3), rel=0.15)
    assert 0.8 * planted < found < 1.5 * planted
