"""`report`: one self-contained HTML page of a result or a study."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dnmf.errors import InputError, OptionError, OutputExistsError
from dnmf.plots.canvas import matplotlib
from dnmf.plots.checks import check_names, check_shape
from dnmf.reporting.figures import Panel
from dnmf.reporting.fit import fit_facts, fit_panels
from dnmf.reporting.rows import row_errors
from dnmf.reporting.study import study_facts, study_panels
from dnmf.results.models import is_batch
from dnmf.results.result import Result
from dnmf.study.study import Study

__all__ = ["report"]

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.2rem }
table { border-collapse: collapse; font-size: .9rem }
th, td { text-align: left; padding: .15rem .9rem .15rem 0; vertical-align: top }
th { font-weight: 600; white-space: nowrap }
td { overflow-wrap: anywhere }
.numbers td, .numbers th { text-align: right }
figure { margin: 2rem 0 } figure svg { max-width: 100%; height: auto }
figcaption { color: #444; max-width: 46rem }
h3 { font-size: 1rem; margin: 0 0 .3rem }
.answer { border-left: 4px solid #1f77b4; padding: .2rem 1rem; background: #f4f8fb }
"""


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
    out : path
        Of the page.
    shape : (int, int), optional
        Rows and columns of pixels: rows of H are images.
    names : sequence of str, optional
        Of the columns of V.
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
        return Study.open(run) if is_batch(run) else Result.open(run)
    if not isinstance(run, (Result, Study)):
        raise OptionError(f"run is {run!r:.60}; give a result, a study, or the path of one")
    return run


def _fit(fit: Result, shape: tuple[int, int] | None, names: Sequence[str] | None) -> str:
    _check(fit, shape, names)
    title = f"NMF of {_name(fit.path)}: {fit.k} components"
    body = [_facts(fit_facts(fit)), *_model(fit, shape, names)]
    return _page(title, body)


def _study(
    study: Study, shape: tuple[int, int] | None, names: Sequence[str] | None, k: int | None
) -> str:
    answer = study.recommend()
    shown = k if k is not None else answer.k if answer.k is not None else study.ks[-1]
    fit = study.result(shown)
    _check(fit, shape, names)
    text = html.escape(str(answer))
    body = [
        f'<div class="answer"><p><strong>Recommendation.</strong> {text}</p></div>',
        _facts(study_facts(study)),
        "<h2>How many components</h2>",
        *_figures(study_panels(study)),
        _table(study),
        f"<h2>The best model with k = {shown}</h2>",
        _facts(fit_facts(fit)),
        *_model(fit, shape, names),
    ]
    return _page(f"NMF study of {_name(study.path)}", body)


def _model(fit: Result, shape: tuple[int, int] | None, names: Sequence[str] | None) -> list[str]:
    """Its figures, and which one is left out; rows of V are read once."""
    found = row_errors(fit)
    return [*_figures(fit_panels(fit, found, shape, names)), _left_out(found.reason)]


def _check(fit: Result, shape: tuple[int, int] | None, names: Sequence[str] | None) -> None:
    """Refuse a shape or names that are not those of V's columns."""
    d = int(fit.H.shape[1])
    if shape is not None:
        check_shape(shape, d)
    check_names(names, d)


def _name(path: str | None) -> str:
    return os.path.basename(path.rstrip("/")) if path else "data in memory"


def _facts(facts: list[tuple[str, str]]) -> str:
    rows = "\n".join(
        f'<tr><th scope="row">{html.escape(label)}</th><td>{html.escape(value)}</td></tr>'
        for label, value in facts
    )
    return f"<table>\n{rows}\n</table>"


def _table(study: Study) -> str:
    """The numbers behind the figures."""
    held, several = study.held_out, len(study.seeds) > 1
    errors = (
        dict(zip(held.ks, zip(held.mean, held.standard_error, strict=True), strict=True))
        if held
        else {}
    )
    names = ("k", "objective", "held-out error", "standard error", "matched cosine", "silhouette")
    head = (*names, "least", "cophenetic", "solutions")
    lines = []
    for k in study.ks:
        s, best = study.stability(k), study.result(k)
        mean, error = errors.get(k, (None, None))
        cells = [str(k), f"{best.objective:.6g}", _cell(mean, "{:.5g}"), _cell(error, "{:.2%}")]
        measures = (s.mean, s.silhouette, s.least, s.cophenetic)
        cells += [_cell(value if several else None, "{:.3f}") for value in measures]
        lines.append([*cells, f"{s.solutions} of {s.runs}"])
    top = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in head)
    rows = "\n".join("<tr>" + "".join(f"<td>{c}</td>" for c in line) + "</tr>" for line in lines)
    return f'<h3>In numbers</h3>\n<table class="numbers">\n<tr>{top}</tr>\n{rows}\n</table>'


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _figures(panels: list[Panel]) -> list[str]:
    return [
        f"<figure>\n<h3>{html.escape(p.title)}</h3>\n{p.svg}\n"
        f"<figcaption>{html.escape(p.reading)}</figcaption>\n</figure>"
        for p in panels
    ]


def _left_out(reason: str) -> str:
    if not reason:
        return ""
    return f"<p>Reconstruction error by rows is not shown: {html.escape(reason)}.</p>"


def _page(title: str, body: list[str]) -> str:
    name = html.escape(title)
    parts = "\n".join(part for part in body if part)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{name}</h1>\n"
        f"{parts}\n</body>\n</html>\n"
    )
