"""No circle among the modules of dnmf: whoever reads one can begin at what it imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

BY_NAME = {
    "dnmf.fitting.kinds.base": "dnmf.fitting.kinds.race",
}
"""Arrows that no import shows, from who looks a module up by its name: a race runs whole fits in
memory by the loop, which runs races."""

ALLOWED = {frozenset({"dnmf.fitting.kinds.base", "dnmf.fitting.kinds.race", "dnmf.fitting.loop"})}
"""The recursion of `BY_NAME` is real: the only circle there may be."""


def modules() -> dict[str, Path]:
    """Every module of the package by its name."""
    found = {}
    for path in sorted((ROOT / "dnmf").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports at any depth, late ones inside functions too, but for those that only types need."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        yield from _statements(child)


def arrows(known: dict[str, Path]) -> dict[str, set[str]]:
    """What every module imports of the package."""
    graph: dict[str, set[str]] = {name: set() for name in known}
    for name, path in known.items():
        for statement in _statements(ast.parse(path.read_text())):
            if isinstance(statement, ast.Import):
                graph[name] |= {alias.name for alias in statement.names} & set(known)
                continue
            base = statement.module or ""
            inside = {f"{base}.{alias.name}" for alias in statement.names} & set(known)
            graph[name] |= inside or ({base} & set(known))
        graph[name].discard(name)
    for name, target in BY_NAME.items():
        assert target in known
        graph[name].add(target)
    return graph


def circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Sets of modules that reach each other (Tarjan 1972, strongly connected components)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: set[frozenset[str]] = set()

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            position = stack.index(name)
            members = frozenset(stack[position:])
            del stack[position:]
            if len(members) > 1:
                found.add(members)

    for name in sorted(graph):
        if name not in order:
            visit(name)
    return found


def test_no_circle_but_the_listed_one() -> None:
    assert circles(arrows(modules())) == ALLOWED


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set[str](), "e": {"a"}}
    assert circles(graph) == {frozenset({"b", "c"})}


def test_late_imports_count_and_those_for_types_do_not(tmp_path: Path) -> None:
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("def f():\n    from dnmf.two import x\n")
    two.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from dnmf.one import f\n"
    )
    (tmp_path / "three.py").write_text("import dnmf.one\nfrom dnmf import two\n")
    known = {"dnmf.one": one, "dnmf.two": two, "dnmf.three": tmp_path / "three.py"}
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        found: set[str] = set()
        for statement in _statements(ast.parse(path.read_text())):
            names = [alias.name for alias in statement.names]
            module = getattr(statement, "module", None)
            found |= (
                {module, *(f"{module}.{one_name}" for one_name in names)} if module else {*names}
            )
        graph[name] = found & set(known)
    assert graph == {
        "dnmf.one": {"dnmf.two"},
        "dnmf.two": set(),
        "dnmf.three": {"dnmf.one", "dnmf.two"},
    }
