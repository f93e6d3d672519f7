"""``report``: the lines of a JSON file as the tables of the README."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.figures import Figure, read_lines

__all__ = ["markdown"]


def markdown(text: str) -> str:
    """Tables in Markdown: one per machine, the last line of each figure and size."""
    lines = read_lines(text)
    machines: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        machines.setdefault(_machine(line), []).append(line)
    return "\n\n".join(f"{name}\n\n{_table(found)}" for name, found in machines.items())


def _machine(line: dict[str, Any]) -> str:
    facts = line["machine"]
    kernels = ", ".join(sorted({str(pool["architecture"]) for pool in facts["blas"]}))
    versions = ", ".join(f"{k} {v}" for k, v in facts["versions"].items() if v)
    return (
        f"{facts['processor']}, {facts['cores']} cores, {facts['memory_bytes'] / 1e9:.0f} GB, "
        f"BLAS kernels {kernels}; Python {facts['python']}, {versions}; "
        f"commit {facts['commit'] or 'unknown'}; {line['when'][:10]}"
    )


def _table(lines: list[dict[str, Any]]) -> str:
    head = ("benchmark", "size", "case", "measured", "value", "goal", "met")
    rows = [head, tuple("---" for _ in head), *_rows(lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _rows(lines: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    for line in lines:
        figure = Figure.from_json(line)
        yield figure.benchmark, line["size"], *figure.cells()
