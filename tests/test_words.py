"""The words of the house: docstrings stand alone, and identifiers avoid words of many meanings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FILES = sorted((ROOT / "dnmf").rglob("*.py"))

RETIRED = {
    "abreast",
    "bold",
    "held",
    "kept",
    "piece",
    "pieces",
    "rowset",
    "rowsets",
    "settle",
    "warm",
}
"""Words that had several meanings each; the glossary in CONTRIBUTING.md has the words instead.

"held" is allowed in ``held_out`` and ``HeldOut`` alone: entries that a fit does not see.
"""

ALLOWED = {
    "_held": "the locks that this process holds",
    "held_entries": "a column of the history of finished results",
    "kept": "a public property of PlanReport",
    "segments_kept": "a public property of PlanReport, printed by dnmf plan --json",
}

NAMES = re.compile(r"(dnmf|scikit-learn)\b")
"""What a docstring may begin with although it is lower case."""

REFERENCE = re.compile(r"^\.\.\.|^The same\b|\bSee `|\b[Aa]s (there|above)\b|\bthe same with\b")
"""What sends the reader of a docstring to another one."""

NOT_A_VERB = re.compile(
    r"(A|All|An|And|As|At|Between|By|For|From|How|In|Of|Or|Some|Also|The|These|Those|What|Where"
    r"|Whether|Which|Whichever|Whose|With)\b"
)
"""Words that the docstring of a function does not begin with: it is an imperative."""


def _docstrings() -> Iterator[tuple[ast.AST, str, str]]:
    """Yield what each docstring belongs to, its text, and a line that says where it is."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            body = getattr(node, "body", None)
            for above, each in pairwise([node, *body] if isinstance(body, list) else []):
                match each:
                    case ast.Expr(ast.Constant(str(text))):
                        where = f"{path.relative_to(ROOT)}:{each.lineno}"
                        yield above, text, f"{where}: {text.splitlines()[0]}"


def _is_function(node: ast.AST) -> bool:
    """Tests say what they test, and properties what they are, by a noun."""
    if not isinstance(node, ast.FunctionDef) or node.name.startswith("test_"):
        return False
    return not any(ast.unparse(each).endswith("property") for each in node.decorator_list)


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        for field in ("id", "attr", "arg", "name", "asname"):
            name = getattr(node, field, None)
            if isinstance(name, str):
                yield name


def _is_retired(name: str) -> bool:
    words = re.sub(r"([a-z])([A-Z])", r"\1_\2", name.rpartition(".")[2]).lower()
    return bool(RETIRED & set(words.replace("held_out", "").split("_")))


def test_docstrings_stand_alone() -> None:
    wrong = [
        line
        for _, text, line in _docstrings()
        if REFERENCE.search(text) or (text[0].islower() and not NAMES.match(text))
    ]
    assert not wrong, "\n".join(wrong)


def test_docstrings_of_functions_are_imperatives() -> None:
    wrong = [
        line for node, text, line in _docstrings() if _is_function(node) and NOT_A_VERB.match(text)
    ]
    assert not wrong, "\n".join(wrong)


def test_identifiers_have_one_meaning() -> None:
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in FILES
        for name in _names(ast.parse(path.read_text(encoding="utf-8")))
        if name not in ALLOWED and _is_retired(name)
    }
    assert not wrong, "\n".join(sorted(wrong))


@pytest.mark.parametrize("name", ALLOWED)
def test_exceptions_are_used(name: str) -> None:
    assert any(re.search(rf"\b{name}\b", path.read_text(encoding="utf-8")) for path in FILES)
