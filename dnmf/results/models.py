"""The result of a fit of many models: one result each, and the errors on left-out parts."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from dnmf.fitting.record import Record
from dnmf.fitting.summary import facts_of_models
from dnmf.names import is_url
from dnmf.planning.plan import Plan
from dnmf.results.opening import open_result, remote_attributes
from dnmf.results.result import Result
from dnmf.runs.folder import FolderStore
from dnmf.runs.layout import (
    STATE,
    local_path,
    path_text,
    published_attributes,
    read_plan,
)

__all__ = ["Models", "is_batch", "open_models", "open_run"]


@dataclass(frozen=True)
class Models:
    """Models that shared the reads of one V.

    Attributes
    ----------
    path : str or None
        The run folder; None for results in memory.
    done : bool
    results : list of Result
        Results of the models that saw all of V, in the order of ``facts["models"]``.
    facts : dict
        JSON: ``models`` has for each model its k, seed, fold, objective, passes, why it stopped
        and, with a fold, ``held_out``, its relative error on what it did not see.
    """

    path: str | None
    done: bool
    results: list[Result]
    facts: dict[str, Any] = field(default_factory=dict)


def is_batch(path: str | os.PathLike[str]) -> bool:
    """Return whether a folder holds a fit of many models, finished or not."""
    text = path_text(path)
    folder = text if is_url(text) else local_path(text)
    attributes = _attributes(folder)
    if attributes is not None:
        return bool((attributes.get("config") or {}).get("batch"))
    if not os.path.isdir(os.path.join(folder, STATE)):
        return False
    return bool(read_plan(folder).get("config", {}).get("batch"))


def _attributes(where: str) -> dict[str, Any] | None:
    """Return the attributes of a finished result in a folder or at a URL."""
    return remote_attributes(where) if is_url(where) else published_attributes(where)


def open_models(path: str | os.PathLike[str]) -> Models:
    """Open a fit of many models, finished or as far as it is committed."""
    text = path_text(path)
    folder = text if is_url(text) else local_path(text)
    attributes = _attributes(folder)
    if attributes is not None:
        facts = {name: value for name, value in attributes.items() if name != "history_columns"}
        whole = [line["model"] for line in facts["models"] if line["fold"] is None]
        return Models(folder, True, [open_result(folder, m) for m in whole], facts)
    store = FolderStore(folder)
    plan, latest = Plan.from_json(store.plan()), store.latest()
    record = Record() if latest is None else Record.from_json(latest[1])
    lines = facts_of_models(plan, record)
    facts = {"models": lines, "config": plan.config.to_json(), "source": plan.description}
    whole = [line["model"] for line in lines if line["fold"] is None]
    return Models(folder, False, [open_result(folder, m) for m in whole], facts)


def open_run(path: str | os.PathLike[str]) -> Result | Models:
    """Open whatever a run folder holds: one model, or a fit of many."""
    return open_models(path) if is_batch(path) else open_result(path)
