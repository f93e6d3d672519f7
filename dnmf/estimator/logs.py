"""What a fit tells: events as lines of a log, for ``verbose``, and scikit-learn's warning."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sklearn.exceptions import ConvergenceWarning

from dnmf.launch.transform import warn_of_open_rows
from dnmf.results.result import Result
from dnmf.steps.events import Committed, Event, Listener, Notice, Planned, Stopped, ignore

__all__ = ["shown", "warn_if_open", "warn_if_unfinished"]

log = logging.getLogger("dnmf")


@contextmanager
def shown(verbose: int) -> Iterator[Listener]:
    """Give a listener that logs the fit's events while the block runs, if any are to be shown."""
    if not verbose:
        yield ignore
        return
    handler = None if log.hasHandlers() else logging.StreamHandler()
    level = log.level
    if handler is not None:
        log.addHandler(handler)
    if not log.isEnabledFor(logging.INFO):
        log.setLevel(logging.INFO)
    try:
        yield lambda event: _log(event, int(verbose))
    finally:
        log.setLevel(level)
        if handler is not None:
            log.removeHandler(handler)


def _log(event: Event, verbose: int) -> None:
    if isinstance(event, Planned) and verbose > 1:
        for label, value in event.lines:
            log.info("%s: %s", label, value)
    elif isinstance(event, Committed):
        for row in event.rows:
            log.info("%s", _row_text(event, row))
    elif isinstance(event, Notice):
        log.info("%s", event.text)
    elif isinstance(event, Stopped):
        log.info("%s", event.reason)


def _row_text(event: Committed, row: dict[str, Any]) -> str:
    """Tell one row of the history: of a pass over X or over a sample of it, or of a start."""
    if "pass" not in row:
        return f"start {row['start']}: objective {row['objective']:.6g} on a part of the sample"
    rounds = ""
    if row.get("rounds"):
        rounds = f" after {row['rounds']} rounds that predicted {row['predicted']:.3g} less"
    return (
        f"{event.kind} {row['pass']}{rounds}: objective {row['objective']:.6g}, "
        f"relative error {row['relative_error']:.6g}, {row['seconds']:.3g} s"
    )


def warn_if_unfinished(model: Any) -> None:
    """Warn as scikit-learn does: whenever the last pass allowed was needed, unless tol is 0."""
    if model.n_iter_ >= model.max_iter and model.tol > 0:
        warnings.warn(
            f"Maximum number of iterations {model.max_iter} reached. Increase it to improve "
            f"convergence.",
            ConvergenceWarning,
            stacklevel=4,
        )


def warn_if_open(result: Result) -> None:
    """Warn where rows of W are not solved, at the line that called a method of `NMF`."""
    warn_of_open_rows(result, ConvergenceWarning, 4)  # above scikit-learn's wrapper of it
