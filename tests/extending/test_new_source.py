"""What CONTRIBUTING.md prints runs as it is printed: one file, one line of a registry, one test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from extending_tools import printed_module, register

import dnmf
from dnmf.sources import SOURCES, open_source
from dnmf.testing.source_contract import sample_matrix

printed_module("dnmf/sources/npy_folder.py")
printed = printed_module("tests/sources/test_npy_folder.py")


@pytest.fixture
def new_source(monkeypatch: pytest.MonkeyPatch) -> None:
    register(SOURCES, "npy_folder", monkeypatch)


@pytest.mark.usefixtures("new_source")
class TestPrintedSource(printed.TestNpyFolder):  # type: ignore[misc]
    """The contract, by the test as it is printed."""

    def test_a_fit_has_the_bits_of_a_fit_of_the_array(self, tmp_path: Path) -> None:
        V = sample_matrix("float32", 500, 40)
        (tmp_path / "V").mkdir()
        source = self.make(V, tmp_path / "V")
        assert open_source(source) is source
        options = {"seed": 0, "max_passes": 3, "block_size": "8kB", "sample": 0}
        wanted = dnmf.fit(V, 3, **options)
        for out in (None, tmp_path / "out"):
            found = dnmf.fit(source, 3, out=out, **options)
            np.testing.assert_array_equal(np.asarray(found.W[:]), wanted.W, strict=True)
            np.testing.assert_array_equal(np.asarray(found.H[:]), wanted.H, strict=True)
        assert source.paths() == [str(tmp_path / "V")]  # which no output may replace
