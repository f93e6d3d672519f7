"""Open a run folder: the published result, or what is committed so far."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from dnmf.errors import RunError
from dnmf.fitting.model_state import Pair
from dnmf.fitting.models.final import FinalFactors
from dnmf.fitting.record import Record
from dnmf.names import is_url
from dnmf.planning.plan import Plan
from dnmf.results.result import Result
from dnmf.results.stored_rows import StoredRows
from dnmf.runs.base import RunStore
from dnmf.runs.folder import FolderStore
from dnmf.runs.layout import (
    STATE,
    examine,
    local_path,
    path_text,
    published_attributes,
)
from dnmf.runs.lock import holder

__all__ = ["in_progress", "open_result", "remote_attributes"]


def open_result(path: str | os.PathLike[str], model: int = 0) -> Result:
    """Open the result in a run folder, or the committed pair of a run in progress.

    Parameters
    ----------
    path : str or path-like
        The run folder; a finished one may also be a URL that Zarr opens.
    model : int
        Which one, where the run fits several.

    Returns
    -------
    Result
        What is there, which loads W and H when they are asked for.

    Raises
    ------
    RunError
        There is no run of dnmf, it is damaged, or of another format.
    """
    text = path_text(path)
    if is_url(text):
        return _remote(text, model)
    folder = local_path(text)
    own_group = f"models/{model}"
    for group in (own_group, "") if model == 0 else (own_group,):
        complete = published_attributes(folder) is not None
        attributes = published_attributes(folder, group) if complete else None
        if attributes is not None:
            return _finished(folder, group, attributes)
    if os.path.isdir(os.path.join(folder, STATE)) and published_attributes(folder) is None:
        return in_progress(FolderStore(folder), model)
    existing = examine(folder)
    if existing.kind == "result":
        raise RunError(f"{folder} has no model {model}")
    raise RunError(
        f"{folder} {existing.text}; it is not a run or result of dnmf. Give the folder that out= "
        "(--out) named"
    )


def _finished(where: str, group: str, attributes: dict[str, Any]) -> Result:
    from dnmf.results.finished import open_finished  # Zarr, which a run in progress does not need

    return open_finished(where, group, attributes)


def _remote(url: str, model: int) -> Result:
    """Open one model of a result at a URL."""
    whole = remote_attributes(url)
    group = f"models/{model}" if (whole.get("config") or {}).get("batch") else ""
    known = {line["model"] for line in whole["models"] if line["fold"] is None} if group else {0}
    if model not in known:
        raise RunError(f"{url} has no model {model}")
    return _finished(url, group, remote_attributes(url, group) if group else whole)


def remote_attributes(url: str, group: str = "") -> dict[str, Any]:
    """Return the ``dnmf`` attributes of a finished result (a Zarr group of it) at a URL."""
    import zarr

    try:
        found = dict(zarr.open_group(url, path=group, mode="r").attrs).get("dnmf")
    except Exception as error:  # whatever the storage's own package raises
        raise RunError(f"cannot open {url}: {type(error).__name__}: {error}") from error
    if not isinstance(found, dict):
        raise RunError(f"{url} is a Zarr group, but not a result of dnmf")
    return found


def in_progress(store: RunStore, model: int = 0) -> Result:
    """Open the committed pair of a run in progress, in the order and scale of the final result."""
    plan, latest = Plan.from_json(store.plan()), store.latest()
    record = Record() if latest is None else Record.from_json(latest[1])
    specs = plan.config.models
    if not 0 <= model < len(specs):
        raise RunError(f"{store.path} has no model {model}; it fits {len(specs)}")
    state = record.state.models[model] if record.state.models else None
    pair = state.pair if state else None
    history = [row for row in record.history if row["model"] == model]
    accepted = [row for row in history if row["accepted"]]
    scan, solved, why = record.state.scan, record.state.solved, state.stop if state else None
    return Result(
        path=store.path,
        done=False,
        stop_reason=why.sentence if why else None,
        objective=pair.objective if pair else solved.objective if solved else None,
        relative_error=accepted[-1]["relative_error"] if accepted else None,
        history=history,
        config=plan.config.to_json(),
        fingerprint=scan.digest if scan else None,
        versions=plan.versions or {},
        details=_details(store, plan, record, specs[model].k),
        _factors=_factors(store, plan, pair, record),
        _columns=plan.columns,
    )


def _details(store: RunStore, plan: Plan, record: Record, k: int) -> dict[str, Any]:
    """Return what else is worth knowing, without the long lists of the plan."""
    short = {
        name: value
        for name, value in plan.to_json().items()
        if name not in ("config", "columns")
        and not (isinstance(value, (list, tuple)) and len(value) > 8)
    }
    living = holder(store.path) if store.path is not None else None
    return {
        "k": k,
        "shape": list(plan.shape_of_V),
        "plan": short,
        "record": record.index,
        "executed": record.executed,
        "damaged": list(store.damaged),
        "worked_on_by": None if living is None else str(living),
    }


def _factors(store: RunStore, plan: Plan, pair: Pair | None, record: Record) -> dict[str, Any]:
    """Return W and H of V, read on demand; a transform has no H of its own."""
    k, dtype, solved = plan.config.models[0].k, plan.dtype, record.state.solved
    if solved is not None:
        return {"W": StoredRows(store, solved.W, solved.W_starts, k, dtype, np.asarray)}
    if pair is None:
        return {}
    final = FinalFactors(store, plan, pair, record.state.scanned)
    k = len(final.order)
    if plan.axis == "rows":
        return {
            "W": StoredRows(store, pair.W, pair.W_starts, k, dtype, final.of_tall),
            "H": final.wide,
        }
    W: Any = lambda: np.ascontiguousarray(final.wide().T)  # noqa: E731
    if not final.scan.used:  # slabs are consecutive rows
        W = StoredRows(store, pair.H, plan.slab_starts, k, dtype, final.of_wide_as_rows)
    return {
        "W": W,
        "H": final.tall_as_columns,
    }
