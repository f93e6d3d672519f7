"""Conversions hold what they planned, and a worker's limit, with data four times larger."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, sys, tracemalloc
from pathlib import Path

import numpy as np
import zarr

from dnmf.config import Resources
from dnmf.steps.serial import Serial
from dnmf.conversion.job import convert
from dnmf.conversion.plan import Budget

folder, limit = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(0)
tall = zarr.create_array(f"{folder}/tall", shape=(6000, 4000), chunks=(6000, 40), dtype="float32")
for p in range(0, 4000, 400):
    tall[:, p : p + 400] = rng.integers(0, 12, (6000, 400), "uint8") // 11

def run(source, target, **options):
    tracemalloc.start()
    done = convert(
        f"{folder}/{source}", f"{folder}/{target}", executor=Serial(), memory=limit, **options
    )
    traced = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return [traced, done.decodes]

steps = {
    "tall to rows": run("tall", "rows"),
    "tall to whole rows": run("tall", "whole", chunks=(100, 4000)),
    "rows to CSR": run("whole", "csr", to="csr"),
    "tall to CSR": run("tall", "csr2", to="csr"),
    "CSR to CSR": run("csr", "csr3", chunks=100_000),
    "CSR to rows": run("csr", "dense", to="dense"),
}
same = all(
    np.array_equal(zarr.open_array(f"{folder}/{name}")[:, :50], tall[:, :50])
    for name in ("rows", "whole", "dense")
)
peak = dict(line.split(":", 1) for line in open("/proc/self/status"))["VmHWM"]
budget = Budget.of(limit, Resources(1, 1, None, "")).task
print(json.dumps([steps, budget, int(peak.split()[0]) * 1024, same]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_memory_is_held_to(tmp_path: Path) -> None:
    """96 MB at a time under a limit of 430 MB, of which a task may plan with 28 MB."""
    limit = 430_000_000
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), str(limit)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    steps, budget, resident, same = json.loads(done.stdout)
    assert same
    assert budget < 96_000_000 / 3
    for name, (traced, _) in steps.items():
        assert traced < budget, name
    assert resident < 0.7 * limit
    decodes = {name: count for name, (_, count) in steps.items()}
    assert decodes["tall to rows"] == decodes["rows to CSR"] == 1
    assert decodes["tall to whole rows"] > 2
