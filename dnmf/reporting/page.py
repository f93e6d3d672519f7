"""`report`: one self-contained HTML page of a result or a study."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from dnmf.errors import InputError, OptionError, OutputExistsError
from dnmf.linalg.own_state import own_state
from dnmf.plots.canvas import matplotlib
from dnmf.plots.checks import check_names, check_shape
from dnmf.reporting.fit import fit_facts, fit_panels
from dnmf.reporting.rows import row_errors
from dnmf.reporting.study import study_facts, study_panels
from dnmf.results.models import is_batch
from dnmf.results.opening import open_result
from dnmf.results.result import Result
from dnmf.study.study import Study

__all__ = ["report"]

HEAD = (
    "k",
    "objective",
    "held-out error",
    "standard error",
    "matched cosine",
    "silhouette",
    "least",
    "cophenetic",
    "solutions",
)
"""Columns of the table of a study."""


@own_state()
def report(
    run: Any,
    out: str | os.PathLike[str],
    *,
    shape: tuple[int, int] | None = None,
    names: Sequence[str] | None = None,
    k: int | None = None,
    overwrite: bool = False,
) -> str:
    """Write one HTML page that shows a result or a study; it needs nothing else to be read.

    Parameters
    ----------
    run : Result, Study, or path of one
        What to show.
    out : path
        The file to write.
    shape : (int, int), optional
        Rows and columns of pixels of the images that rows of V are; rows of H are drawn so.
    names : sequence of str, optional
        Names of the columns of V, by default those that V had, if any.
    k : int, optional
        Which of a study's models are drawn; by default those of the recommended k.
    overwrite : bool
        Replace a file that exists.

    Returns
    -------
    str
        The page's path.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed; the message has the command that installs it.
    OptionError
        ``shape`` or ``names`` do not fit the columns of V.
    OutputExistsError
        There is a file at ``out``.
    """
    matplotlib("figure")  # before anything is read
    path = Path(out)
    if path.is_dir():
        raise OutputExistsError(f"{path} is a folder; give the name of a file for the page")
    if path.exists() and not overwrite:
        raise OutputExistsError(
            f"{path} exists; give another name, or overwrite=True (--overwrite)"
        )
    found = _opened(run)
    if isinstance(found, Result) and k not in (None, found.k):
        raise OptionError(f"k is {k}, but this is one fit of k = {found.k}, no study of several")
    page = _study(found, shape, names, k) if isinstance(found, Study) else _fit(found, shape, names)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    return str(path)


def _opened(run: Any) -> Any:
    if isinstance(run, (str, os.PathLike)):
        return Study.open(run) if is_batch(run) else open_result(run)
    if not isinstance(run, (Result, Study)):
        raise OptionError(f"run is {run!r:.60}; give a result, a study, or the path of one")
    return run


def _fit(fit: Result, shape: tuple[int, int] | None, names: Sequence[str] | None) -> str:
    return _page(f"NMF of {_name(fit.path)}: {fit.k} components", _model(fit, shape, names))


def _study(
    study: Study, shape: tuple[int, int] | None, names: Sequence[str] | None, k: int | None
) -> str:
    answer = study.recommend()
    shown = k if k is not None else answer.k if answer.k is not None else study.ks[-1]
    fit = _model(study.result(shown), shape, names)
    about = {
        "answer": answer,
        "facts": study_facts(study),
        "panels": study_panels(study),
        "head": HEAD,
        "rows": _numbers(study),
    }
    return _page(f"NMF study of {_name(study.path)}", fit, about)


def _model(
    fit: Result, shape: tuple[int, int] | None, names: Sequence[str] | None
) -> dict[str, Any]:
    """Collect what the page shows of one fit; rows of V are read once for it."""
    names = fit.column_names if names is None else names
    _check(fit, shape, names)
    found = row_errors(fit)
    return {
        "k": fit.k,
        "facts": fit_facts(fit),
        "panels": fit_panels(fit, found, shape, names),
        "left_out": found.reason,
    }


def _check(fit: Result, shape: tuple[int, int] | None, names: Sequence[str] | None) -> None:
    """Refuse a shape or names that are not those of V's columns."""
    d = int(fit.H.shape[1])
    if shape is not None:
        check_shape(shape, d)
    check_names(names, d)


def _name(path: str | None) -> str:
    return os.path.basename(path.rstrip("/")) if path else "data in memory"


def _numbers(study: Study) -> list[list[str]]:
    """List the numbers behind the figures, a row for every k."""
    held_out, several = study.held_out, len(study.seeds) > 1
    errors = (
        dict(
            zip(held_out.ks, zip(held_out.mean, held_out.standard_error, strict=True), strict=True)
        )
        if held_out
        else {}
    )
    lines = []
    for k in study.ks:
        s, best = study.stability(k), study.result(k)
        mean, error = errors.get(k, (None, None))
        cells = [str(k), f"{best.objective:.6g}", _cell(mean, "{:.5g}"), _cell(error, "{:.2%}")]
        measures = (s.mean, s.silhouette, s.least, s.cophenetic)
        cells += [_cell(value if several else None, "{:.3f}") for value in measures]
        lines.append([*cells, f"{s.solutions} of {s.runs}"])
    return lines


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _page(title: str, fit: dict[str, Any], study: dict[str, Any] | None = None) -> str:
    """Fill the template; all texts are escaped but the figures."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    text = files("dnmf.reporting").joinpath("page.html").read_text(encoding="utf-8")
    return environment.from_string(text).render(title=title, fit=fit, study=study)
