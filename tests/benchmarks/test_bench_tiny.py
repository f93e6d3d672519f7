"""Every benchmark runs at a tiny size: it measures all that it should, and cannot rot."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

KEYS = {"benchmark", "case", "name", "value", "unit", "goal", "met", "skipped", "details"}
KEYS |= {"size", "when", "load", "machine"}
FACTS = {"processor", "cores", "memory_bytes", "blas", "core_type", "versions", "python", "commit"}
VERSIONS = {"dnmf", "numpy", "scipy", "numba", "zarr", "dask", "distributed", "scikit-learn"}


def _check(ran: Any, name: str) -> None:
    """Every line says what was measured where, and stands in the table."""
    assert ran.exit_code == 0, ran.output
    assert ran.lines
    for line in ran.lines:
        assert set(line) == KEYS
        assert line["benchmark"] == name
        assert line["size"] == "tiny"
        assert set(line["machine"]) >= FACTS
        assert set(line["machine"]["versions"]) >= VERSIONS
        assert {"architecture", "num_threads"} <= set(line["machine"]["blas"][0])
        assert line["value"] is not None or line["skipped"]
    assert f"{name} (tiny)" in ran.output


def test_pass(bench: Any) -> None:
    from benchmarks.stores import can_drop

    ran = bench("pass")
    _check(ran, "pass")
    for where in ("2 worker(s) x 1 thread(s)", "serial, 1 thread"):
        for which in ("first", "second"):
            ratio = ran.line(f"in memory, {where}", f"{which} full pass / products alone")
            assert ratio["value"] > 0
            assert ratio["goal"] in ("<= 1.5", "<= 1.3")
            assert len(ratio["details"]["floor_seconds"]) == len(ratio["details"]["pass_seconds"])
            assert ran.line(f"in memory, {where}", "products alone")["unit"] == "GFLOP/s"
    assert 0 < ran.line("in memory, serial", "W-step's share")["value"] < 1
    for codec in ("uncompressed", "zstd"):
        line = ran.line(f"out of core, {codec}, warm", "pass / floor")
        details = line["details"]
        ratio = details["pass_seconds"][0] / details["floor_seconds"][0]
        assert line["value"] == pytest.approx(ratio)
        assert details["cpu_seconds"][0]["read"] > 0
        assert details["cpu_seconds"][0]["compute"] > 0
        smaller = details["stored_bytes"] < 4 * math.prod(details["shape"])
        assert smaller == (codec != "uncompressed")
        cold = ran.line(f"out of core, {codec}, cold", "pass / floor")
        assert (cold["value"] is not None) == can_drop()


def test_both_parts_of_pass_can_be_left_out(bench: Any) -> None:
    ran = bench("pass", "--no-in-memory", "--no-out-of-core")
    assert (ran.exit_code, ran.lines) == (0, [])


def test_memory(bench: Any) -> None:
    ran = bench("memory")
    _check(ran, "memory")
    share = ran.line("out of core, zstd", "largest worker / limit")
    assert 0 < share["value"] < 1
    assert len(share["details"]["peaks"]) == 2
    assert max(share["details"]["baselines"]) <= max(share["details"]["peaks"])
    assert ran.line("out of core, zstd", "prediction / measured")["details"]["planned"] > 0
    assert ran.line("out of core, zstd", "prediction / measured, imports included")["value"] > 0
    for trouble in ("bytes spilled", "paused", "restarted", "workers lost"):
        assert ran.line("out of core, zstd", trouble)["value"] == 0


def test_reads(bench: Any) -> None:
    ran = bench("reads", "--seeds", "2")
    _check(ran, "reads")
    for case in ("planted Poisson", "planted Poisson, sorted", "planted sparse", "planted sparse,"):
        names = [line["name"] for line in ran.lines if line["case"].startswith(case)]
        assert len(names) >= 5
    near = "reads until within 0.1% of the reference, worst"
    line = ran.line("planted sparse, sorted", near)
    assert line["met"] == (line["value"] <= 6)
    assert len(line["details"]["reads_by_seed"]) == 2
    assert min(map(float, line["details"]["reads_by_seed"])) >= 2, "a scan and a pass at least"
    assert ran.line("standard-library documents", "reads until the default rule")["value"] == 1


def test_reads_of_kullback_leibler(bench: Any) -> None:
    ran = bench("reads", "--loss", "kullback-leibler", "--seeds", "1")
    _check(ran, "reads")
    names = {line["name"] for line in ran.lines}
    for way in ("threads of this process", "2 workers"):
        assert f"seconds of scikit-learn / dnmf, {way}, per iteration" in names
    part = ran.line("kullback-leibler, planted Poisson, a fifth", "reads until")
    assert float(part["value"]) >= 2


def test_peers(bench: Any) -> None:
    from benchmarks import machine

    ran = bench("peers", "--seeds", "1")
    _check(ran, "peers")
    for case, system in (("dense", "dnmf, 2 workers"), ("small", "dnmf, serial, one start")):
        ours = ran.line(case, f"{system}, seconds")["value"]
        others = [
            float(line["value"])
            for line in ran.lines
            if line["case"] == case and line["name"].startswith("scikit-learn")
        ]
        assert len(others) == (3 if case == "dense" else 2)
        ratio = ran.line(case, "seconds of the best peer")
        assert ratio["value"] == pytest.approx(min(others) / ours)
    gensim = ran.line("sparse", "gensim Nmf, seconds")
    if machine.installed("gensim") is None:
        assert gensim["value"] is None
        assert re.search(r"gensim Nmf.*skipped: gensim is not\s+installed", ran.output)
    else:
        assert float(gensim["value"]) > 0


def test_scale(bench: Any) -> None:
    ran = bench("scale")
    _check(ran, "scale")
    assert 0 < ran.line("40 blocks in 32 segments", "share of a pass")["value"] < 1
    assert ran.line("40 blocks", "seconds of 1 worker")["value"] > 0
    assert ran.line("100 chunks of 4,000 bytes", "pass / floor")["value"] > 0


def test_start(bench: Any) -> None:
    ran = bench("start")
    _check(ran, "start")
    seconds = {line["name"]: line["value"] for line in ran.lines}
    alone = seconds.pop("Python with NumPy, SciPy, numba, Zarr and rich alone")
    assert {"serial", "cluster"} <= set(seconds)
    # which takes longer depends on what else the machine does
    assert all(0 < value < 60 for value in (alone, *seconds.values()))


def test_study(bench: Any) -> None:
    ran = bench("study")
    _check(ran, "study")
    case = "k = 2 to 3 x 2 seeds"
    reads = ran.line(case, "reads of V / those of the longest single fit")
    assert reads["met"]
    assert reads["details"]["all_single"] > reads["details"]["reads"]
    assert ran.line(case, "largest relative difference of an objective")["met"]
    assert ran.line(case, "wall time one after the other / together")["value"] > 0
    peer = ran.line(case, "wall time of scikit-learn (5 fits, scaled to 4) / together")
    assert peer["details"]["scaled"]
