"""W of new rows, with what there is to say of it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from dnmf.launch.begin import begin
from dnmf.launch.columns import components_for
from dnmf.launch.learned import as_learned
from dnmf.launch.request import Request
from dnmf.options import asked
from dnmf.results.result import Result
from dnmf.steps.events import Listener, ignore
from dnmf.steps.work import Executor

__all__ = ["NEW_ROWS", "transformed", "warn_of_open_rows"]

NEW_ROWS = (
    *("dtype", "block_size", "max_block", "missing_chunks", "loss", "beta", "alpha_W"),
    *("l1_ratio", "missing", "clip", "weights"),
)
"""Arguments of `dnmf.transform` that are options of a fit, too."""


def transformed(
    V: Any,
    fit: Any,
    executor: Executor,
    options: Mapping[str, Any],
    out: Any = None,
    overwrite: bool = False,
    on_event: Listener | None = None,
) -> Result:
    """Do what `dnmf.transform` does, and return the whole result.

    Parameters
    ----------
    V : as for `dnmf.fit`
    fit : Result, or (k, d) array H
    executor : Executor
    options : mapping
        `NEW_ROWS` by name; others are passed over.
    out, overwrite, on_event
        As for `dnmf.transform`.
    """
    options = {name: options.get(name) for name in NEW_ROWS}
    V, H = components_for(V, fit, executor.dask_client, options["missing_chunks"])
    learned, kept = (fit.config, fit.path) if isinstance(fit, Result) else ({}, None)
    config, given = asked({**as_learned(options, learned), "seed": 0, "init": H})
    request = Request(
        V, options["weights"], config, given, "transform", out, overwrite,
        protected=(kept,) if kept else (), on_event=on_event or ignore,
    )  # fmt: skip
    result: Result = begin(request, executor)
    return result


def warn_of_open_rows(
    result: Any, category: type[Warning], stacklevel: int, on_event: Listener | None = None
) -> None:
    """Warn where rows of W are not solved.

    Parameters
    ----------
    result : Result, or of another run
    category : type
        `OpenRowsWarning`, or what users of another interface expect.
    stacklevel : int
        How many calls above this one the caller's line is.
    on_event : callable, optional
        Who was told by a `Notice` already.
    """
    remark = getattr(result, "open_rows_remark", None)
    if remark and on_event is None:
        warnings.warn(remark, category, stacklevel=stacklevel + 1)
