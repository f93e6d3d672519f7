"""The docstrings of the public names are the reference of the API: numpydoc finds all in them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest
from numpydoc.validate import ERROR_MSGS, validate

import dnmf

NOT_ASKED_FOR = {"EX01", "SA01", "ES01", "PR08"}
"""An example, links to others, and more than the summary; that descriptions begin with a capital:
they may begin with a name."""

MADE_ELSEWHERE = {("dnmf.Result", "PR01")}
"""What nobody constructs describes attributes, not parameters."""

CHECKED = set(ERROR_MSGS) - NOT_ASKED_FOR


def _public_names() -> Iterator[str]:
    """Public functions and classes, and the methods and properties of these that are dnmf's."""
    for name in dnmf.__all__:
        found = getattr(dnmf, name)
        if inspect.isfunction(found) or inspect.isclass(found):
            yield f"dnmf.{name}"
        if inspect.isclass(found):
            for method, member in inspect.getmembers_static(found):
                function = getattr(member, "fget", None) or getattr(member, "__func__", member)
                of_dnmf = str(getattr(function, "__module__", "")).startswith("dnmf")
                if not method.startswith("_") and inspect.isfunction(function) and of_dnmf:
                    yield f"dnmf.{name}.{method}"


@pytest.mark.parametrize("name", list(_public_names()))
def test_numpydoc_finds_nothing_missing(name: str) -> None:
    errors = validate(name)["errors"]
    wrong = {code: text for code, text in errors if code in CHECKED}
    assert {c: text for c, text in wrong.items() if (name, c) not in MADE_ELSEWHERE} == {}


def test_names_and_checks_are_those_that_are_meant() -> None:
    names = set(_public_names())
    assert {"dnmf.fit", "dnmf.NMF.transform", "dnmf.Result.inspect", "dnmf.Study.ks"} <= names
    assert {"PR01", "PR02", "PR03", "PR04", "PR07", "RT01", "RT03", "SS03", "GL08"} <= CHECKED


def test_a_parameter_without_a_description_is_found() -> None:
    assert {code for code, _ in validate(f"{__name__}.undescribed")["errors"]} >= {"PR07", "RT01"}


def undescribed(x: int) -> int:
    """Return x.

    Parameters
    ----------
    x : int
    """
    return x
