"""The shape of the house: what may import what, and how large anything may grow."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

ROOT = Path(__file__).parents[1]
MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 70
FOLDERS = ("dnmf", "tests", "benchmarks")

REGISTRIES = {
    "store": ("dnmf.runs", "STORES"),
    "source": ("dnmf.sources", "SOURCES"),
    "loss": ("dnmf.losses", "LOSSES"),
    "executor": ("dnmf.executors", "EXECUTORS"),
}
HEAVY = ("numpy", "scipy", "dask", "distributed", "zarr", "numba", "sklearn", "click", "rich")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def _python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def test_imports_run_one_way() -> None:
    program = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"
    done = _run(sys.executable, "-c", program)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("contract", "free"),
    [("testing", {"testing"}), ("dask", {"testing", "executors", "interop"})],
)
def test_contracts_name_everything_that_they_hold_for(contract: str, free: set[str]) -> None:
    """A package that is added later, too."""
    found = ConfigParser()
    found.read(ROOT / ".importlinter")
    listed = found[f"importlinter:contract:{contract}"]["source_modules"].split()
    there = {module.name for module in iter_modules([str(ROOT / "dnmf")])}
    assert {name.removeprefix("dnmf.") for name in listed} == there - free


WITHOUT_DASK = """
import importlib, pkgutil, sys
sys.modules["dask"] = sys.modules["distributed"] = None
names = ["dnmf.steps.serial"]
for package in ("fitting", "losses", "init", "sources", "runs", "linalg"):
    package = importlib.import_module("dnmf." + package)
    names += [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def test_core_needs_no_dask() -> None:
    done = _run(sys.executable, "-c", WITHOUT_DASK)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 15, "modules were not found, so nothing was tested"


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_stay_short(folder: str) -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in _python_files(folder)}
    long = {str(p.relative_to(ROOT)): n for p, n in lengths.items() if n > MOST_LINES_OF_A_FILE}
    assert not long


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


@pytest.mark.parametrize("folder", FOLDERS)
def test_functions_stay_short(folder: str) -> None:
    """Docstrings do not count: numpydoc is as long as a function has arguments."""
    long = {}
    for path in _python_files(folder):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = _lines(node) - (_lines(node.body[0]) if ast.get_docstring(node) else 0)
                if lines > MOST_LINES_OF_A_FUNCTION:
                    long[f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"] = lines
    assert not long


def test_the_library_never_prints() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in _python_files("dnmf")
        if "cli" not in path.relative_to(ROOT).parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id == "print"
    ]
    assert not found


def _contract_classes(kind: str) -> set[str]:
    """Names of the contract classes that ``dnmf/testing/<kind>_contract.py`` defines."""
    tree = ast.parse((ROOT / "dnmf" / "testing" / f"{kind}_contract.py").read_text())
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef)}


def _kinds_under_contract(kind: str) -> set[str]:
    """The ``kind = "..."`` of every test class that inherits the contract of ``kind``."""
    contracts, found = _contract_classes(kind), set()
    for path in _python_files("tests"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if not (isinstance(node, ast.ClassDef) and node.name.startswith("Test")):
                continue
            bases = {ast.unparse(base).split(".")[-1] for base in node.bases}
            if bases & contracts:
                found |= {_assigned_string(item) for item in node.body} - {""}
    return found


def _assigned_string(node: ast.stmt) -> str:
    if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["kind"]:
        return str(ast.literal_eval(node.value))
    return ""


@pytest.mark.parametrize("kind", REGISTRIES)
def test_whatever_is_registered_has_its_contract_test(kind: str) -> None:
    module, name = REGISTRIES[kind]
    registry = getattr(import_module(module), name)
    registered = {key[0] if isinstance(key, tuple) else key for key in registry}
    assert registered
    assert registered - _kinds_under_contract(kind) == set()


@pytest.mark.parametrize("kind", REGISTRIES)
def test_registries_name_classes_that_exist(kind: str) -> None:
    module, name = REGISTRIES[kind]
    for key, target in getattr(import_module(module), name).items():
        where, _, class_name = target.partition(":")
        found = getattr(import_module(where), class_name)
        assert isinstance(found, type), key


def test_import_loads_nothing_heavy() -> None:
    program = f"import sys, dnmf; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = _run(sys.executable, "-c", program)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def _fastest(*arguments: str) -> float:
    """Seconds of the fastest of five runs: other load only ever adds."""
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        done = _run(sys.executable, *arguments)
        seconds.append(time.perf_counter() - begin)
        assert done.returncode == 0, done.stderr
    return min(seconds)


def test_import_is_fast() -> None:
    assert _fastest("-c", "import dnmf") - _fastest("-c", "pass") < 0.3


def test_help_is_fast() -> None:
    program = "import sys; sys.argv[1:] = ['--help']; from dnmf.cli.main import main; main()"
    assert _fastest("-c", program) - _fastest("-c", "pass") < 0.5


def test_the_mark_of_clusters_leaves_out_what_starts_workers() -> None:
    """Cases that ask for a cluster by name are marked one by one, as no hook can see them."""
    files = ("executors/test_storage_faults.py", "executors/test_memory_death.py")
    paths = [f"tests/{name}" for name in (*files, "test_data_only.py")]
    chosen = "not cluster and not chaos and not slow"
    found = _run(sys.executable, "-m", "pytest", "--collect-only", "-m", chosen, *paths)
    assert found.returncode == 0, found.stdout
    cases = [line for line in found.stdout.splitlines() if "::" in line]
    assert any("[serial" in case for case in cases)
    words = ("cluster]", "[cluster", "[streaming", "in memory]", "on_a_cluster")
    assert [case for case in cases if any(word in case for word in words)] == []
