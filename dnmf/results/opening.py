"""Open a run folder: the published result, or what is committed so far."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from dnmf.errors import RunError
from dnmf.names import is_url
from dnmf.results.result import Result
from dnmf.results.stored_rows import StoredRows
from dnmf.runs.base import ObjectRef, RunStore
from dnmf.runs.folder import FolderStore
from dnmf.runs.layout import (
    STATE,
    examine,
    local_path,
    path_text,
    published_attributes,
    record_history,
)
from dnmf.runs.lock import holder

__all__ = ["component_order", "in_progress", "open_result", "remote_attributes"]


def open_result(path: str | os.PathLike[str], model: int = 0) -> Result:
    """See ``Result.open``."""
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
    """One model of a result at a URL."""
    whole = remote_attributes(url)
    group = f"models/{model}" if (whole.get("config") or {}).get("batch") else ""
    known = {line["model"] for line in whole["models"] if line["fold"] is None} if group else {0}
    if model not in known:
        raise RunError(f"{url} has no model {model}")
    return _finished(url, group, remote_attributes(url, group) if group else whole)


def remote_attributes(url: str, group: str = "") -> dict[str, Any]:
    """The ``dnmf`` attributes of a finished result (one group of it) at a URL."""
    import zarr

    try:
        found = dict(zarr.open_group(url, path=group, mode="r").attrs).get("dnmf")
    except Exception as error:  # whatever the storage's own package raises
        raise RunError(f"cannot open {url}: {type(error).__name__}: {error}") from error
    if not isinstance(found, dict):
        raise RunError(f"{url} is a Zarr group, but not a result of dnmf")
    return found


def in_progress(store: RunStore, model: int = 0) -> Result:
    """The committed pair of a run in progress, in the order of the final result.

    The scale is the final one too, unless ``normalize``, or a penalty where V is read by columns,
    asks for another in the end: the product W H is the same.
    """
    plan = store.plan()
    latest = store.latest()
    index, record = (-1, {}) if latest is None else latest
    state = record.get("state") or {}
    models = state.get("models") or []
    specs = plan.get("config", {}).get("models", [])
    if model >= max(len(models), len(specs), 1) or model < 0:
        raise RunError(f"{store.path} has no model {model}; it fits {max(len(models), len(specs))}")
    mine = models[model] if models else {}
    pair = mine.get("pair")
    history = [row for row in record_history(record) if row.get("model", 0) == model]
    accepted = [row for row in history if row.get("accepted", True)]
    k = specs[model]["k"] if specs else None
    scan = state.get("scan") or {}
    return Result(
        path=store.path,
        done=False,
        stop_reason=mine.get("stop_reason"),
        objective=pair["objective"] if pair else None,
        relative_error=accepted[-1].get("relative_error") if accepted else None,
        history=history,
        config=plan.get("config", {}),
        fingerprint=scan.get("digest"),
        versions=plan.get("versions") or state.get("versions") or {},
        details=_details(store, plan, index, record, k),
        _factors=_pair_factors(store, plan, pair) if pair else {},
    )


def _details(
    store: RunStore, plan: Mapping[str, Any], index: int, record: Mapping[str, Any], k: int | None
) -> dict[str, Any]:
    """What else is worth knowing, without the long lists of the plan."""
    short = {
        name: value
        for name, value in plan.items()
        if name != "config" and not (isinstance(value, list) and len(value) > 8)
    }
    living = holder(store.path) if store.path is not None else None
    shape = plan.get("shape")
    swapped = shape is not None and plan.get("axis") == "columns"
    return {
        "k": k,
        "shape": shape[::-1] if swapped and shape else shape,
        "plan": short,
        "record": index,
        "executed": record.get("executed", []),
        "damaged": list(getattr(store, "damaged", [])),
        "worked_on_by": None if living is None else str(living),
    }


def component_order(share: Any, peak: Any, placed: int = 0) -> np.ndarray:
    """Components by falling share of V, ties by the column where their H is largest.

    The first ``placed`` stay where they are.
    """
    falling, ties = -np.array(share, dtype=float), np.array(peak)
    falling[:placed], ties[:placed] = -np.inf, np.arange(placed)
    return np.lexsort((ties, falling))


def _pair_factors(
    store: RunStore, plan: Mapping[str, Any], pair: Mapping[str, Any]
) -> dict[str, Any]:
    """W and H of V: W in pieces, H put together when it is asked for.

    Blocks of rows: the tall factor is W and stays as it is. Blocks of columns: the tall factor
    is H', whose rows get unit norm, and W takes the scale.
    """
    config, share = plan.get("config", {}), pair.get("share")
    placed = int((config.get("fixed_H") or "0").partition(" ")[0])
    if config.get("keep_order"):
        placed = len(share or ())
    order = component_order(share, pair["peak"], placed) if share else None
    tall = [ObjectRef.from_json(value) for value in pair["W"]]
    wide = [ObjectRef.from_json(value) for value in pair["H"]]
    if plan.get("axis") != "columns":
        W = StoredRows(store, tall, pair["W_starts"], *_width(store, tall), order=order)

        def whole_H() -> np.ndarray:
            H = np.concatenate([store.get(ref) for ref in wide], axis=1)
            return H if order is None else H[order]

        return {"W": W, "H": whole_H} if wide else {"W": W}
    k, dtype = _width(store, tall)
    norms = np.asarray(pair.get("W_norms", [1.0] * k), dtype=float)
    scale = np.where(norms > 0, norms, 1.0)

    def whole_tall() -> np.ndarray:
        stored = StoredRows(store, tall, pair["W_starts"], k, dtype, order=order)[:]
        norm = scale if order is None else scale[order]
        return np.ascontiguousarray((stored / norm).astype(stored.dtype).T)

    factors: dict[str, Any] = {"H": whole_tall}
    if wide:
        starts = plan.get("slab_starts") or _starts(store, wide)
        factors["W"] = StoredRows(
            store, wide, starts, k, dtype, by_columns=True, order=order, scale=scale
        )
    return factors


def _width(store: RunStore, refs: list[ObjectRef]) -> tuple[int, np.dtype]:
    """Number of components and dtype, as the first piece has them."""
    first = store.get(refs[0])
    return first.shape[1], first.dtype


def _starts(store: RunStore, slabs: list[ObjectRef]) -> list[int]:
    return [0, *np.cumsum([store.get(ref).shape[1] for ref in slabs]).tolist()]
