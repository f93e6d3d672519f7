"""The fit that nothing disturbs: what all disturbed ones are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from executor_tools import (
    OPTIONS,
    PASSES,
    SEGMENTS,
    Undisturbed,
    cluster_of,
    once_per_pass,
    write_V,
)

import dnmf
from dnmf.steps.serial import Serial
from dnmf.testing import faults


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """A serial fit; 24 segments, a tree of 3 levels, 2 slabs, every segment once per pass."""
    folder: Path = tmp_path_factory.mktemp("undisturbed")
    V = write_V(folder)
    with faults.active(folder / "faults") as counts:
        result = dnmf.fit(V, out=folder / "out", executor=Serial(), **OPTIONS)
    layout = result.details["layout"]
    assert (layout["segments"], layout["slabs"], len(result.history)) == (SEGMENTS, 2, PASSES)
    assert faults.count(counts, "block-read") == (PASSES + 1) * SEGMENTS
    once_per_pass(counts)
    return Undisturbed(V, result.W[:], result.H[:], result.history)


@pytest.fixture(scope="session")
def streaming() -> Iterator[Any]:
    """A client of 2 processes of 2 threads without a memory limit: no segment stays in memory."""
    with cluster_of(2, 2, memory_limit=0) as client:
        yield client
