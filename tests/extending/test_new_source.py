"""What CONTRIBUTING.md prints runs as it is printed: one file, one line of a registry, one test."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import dnmf
from dnmf.sources import SOURCES, open_source
from dnmf.testing.source_contract import sample_matrix

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"


def printed(section: str) -> list[str]:
    """The blocks of Python code of a section of CONTRIBUTING.md."""
    text = CONTRIBUTING.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def module_of(code: str) -> ModuleType:
    """The module that a block of code is, by the path in its first line."""
    path = re.match(r"# (\S+)\.py\n", code)
    assert path is not None
    module = ModuleType(path[1].replace("/", "."))
    sys.modules[module.__name__] = module  # of printed code alone: nothing else has these names
    exec(compile(code, f"{CONTRIBUTING.name}: {path[1]}", "exec"), vars(module))
    return module


def registry_line(code: str) -> dict[str, str]:
    """The one entry that a block of code adds to a registry."""
    line = ast.literal_eval(f"{{{code}}}")
    assert len(line) == 1
    return line


SOURCE_CODE, SOURCE_LINE, SOURCE_TEST = printed("A source")
NpyFolder = module_of(SOURCE_CODE).NpyFolder
NEW_SOURCE = registry_line(SOURCE_LINE)


@pytest.fixture
def new_source(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, name in NEW_SOURCE.items():
        assert kind not in SOURCES
        monkeypatch.setitem(SOURCES, kind, name)


@pytest.mark.usefixtures("new_source")
class TestPrintedSource(module_of(SOURCE_TEST).TestNpyFolder):  # type: ignore[misc]
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
