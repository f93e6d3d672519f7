"""Write the committed pair as the result: components ordered, factors where they belong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dnmf.faultpoints import reach
from dnmf.fitting.data.context import Context, cached_work, refs
from dnmf.fitting.models.factors import read_H
from dnmf.fitting.state import ModelState, Pair
from dnmf.planning.plan import Plan, chunk_rows, loss_shape
from dnmf.results.opening import component_order as order_of
from dnmf.results.published import write_H, write_W
from dnmf.runs.base import Reader, ReadOnce
from dnmf.steps.work import Step

__all__ = ["PublishWork", "assemble", "component_order", "published"]


def published(plan: Plan) -> list[tuple[int, str]]:
    """The models whose factors the result has, each with its group; those with a fold have none."""
    if not plan.config.batch:
        return [(0, "")]
    models = enumerate(plan.config.models)
    return [(m, f"models/{m}") for m, spec in models if spec.fold is None]


def component_order(pair: Pair, placed: int = 0) -> np.ndarray:
    """Components by falling share of V, ties by the column where their H is largest.

    The first ``placed`` stay where they are.
    """
    return order_of(pair.share, pair.peak, placed)


def _tall_scale(store: Reader, plan: Plan, pair: Pair) -> np.ndarray:
    """What the columns of the tall factor are divided by, and rows of the wide one multiplied.

    Rows of H have unit norm unless the options ask otherwise; by columns the tall factor is H.
    """
    norms, asked = np.array(pair.W_norms), plan.config.normalize
    if asked is None:
        if plan.axis == "rows" or plan.config.penalized:
            return np.ones_like(norms)
        return np.where(norms > 0, norms, 1.0)
    by_norm = loss_shape(plan.config).unit_norm or pair.W_sums is None
    if (asked == "weights") == (plan.axis == "rows"):  # the tall factor is to have unit size
        sizes = norms if by_norm else np.array(pair.W_sums)
        return np.where(sizes > 0, sizes, 1.0)
    rows = (row.astype(np.float64) for row in read_H(store, pair.H))  # no second k x d
    # not the norm of a row, which is a product of BLAS: its bits depend on threads
    sizes = np.array([np.sqrt(np.sum(row * row)) if by_norm else row.sum() for row in rows])
    return 1.0 / np.where(sizes > 0, sizes, 1.0)


def _tall_rows(store: Reader, plan: Plan, pair: Pair, start: int, stop: int) -> np.ndarray:
    """Rows of the tall factor in the result's order and gauge."""
    order, scale = component_order(pair, plan.config.placed), _tall_scale(store, plan, pair)
    first = int(np.searchsorted(pair.W_starts, start, side="right")) - 1
    rows, plain = np.empty((stop - start, len(order)), plan.dtype), bool((scale == 1).all())
    while first < len(pair.W) and pair.W_starts[first] < stop:  # one segment at a time in float64
        offset = pair.W_starts[first]
        part = store.get(refs([pair.W[first]])[0])[max(start - offset, 0) : stop - offset, order]
        above = max(offset - start, 0)
        rows[above : above + len(part)] = part if plain else part / scale[order]
        first += 1
    return rows


def _wide(store: Reader, plan: Plan, pair: Pair) -> np.ndarray:
    """The k x d factor in the result's order and gauge."""
    order, scale = component_order(pair, plan.config.placed), _tall_scale(store, plan, pair)
    H = read_H(store, pair.H)[order]
    if not (scale == 1).all():
        for row, by in zip(H, scale[order], strict=True):
            row[:] = row * by
    return H


def assemble(store: Reader, plan: Plan, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """W (n, k) and H (k, d) of V as arrays in memory."""
    tall = _tall_rows(store, plan, pair, 0, plan.shape[0])
    wide = _wide(store, plan, pair)
    return (tall, wide) if plan.axis == "rows" else (wide.T.copy(), tall.T.copy())


class PublishWork:
    """A leaf per chunk of the tall factor; the small factor is written by the first one."""

    parts = 1

    def __init__(self, context: Context, step: Step) -> None:
        self.context = context
        self.step = step
        plan = context.plan
        self.rows = chunk_rows(plan)
        self.segments = -(-plan.shape[0] // self.rows)
        self.fan_in = 64
        models = context.state(step.index - 1)["models"]
        self.models: list[tuple[str, Pair]] = []
        for m, group in published(plan):
            pair = ModelState.from_json(models[m]).pair
            assert pair is not None
            self.models.append((group, pair))

    def __reduce__(self) -> tuple[Any, ...]:
        path = self.context.store.path
        return cached_work, (PublishWork, path, self.context.plan.run_id, self.step)

    def leaf(self, segment: int) -> list[Any]:
        """Write rows of the tall factor (and, once, the other factor)."""
        plan = self.context.plan
        store = ReadOnce(self.context.store)  # objects that models share
        for group, pair in self.models:
            self._write(segment, plan, store, group, pair)
        reach("published", segment=segment)
        return [0]

    def _write(self, segment: int, plan: Plan, store: Reader, group: str, pair: Pair) -> None:
        path = self.context.store.path
        assert path is not None
        start = segment * self.rows
        stop = min(start + self.rows, plan.shape[0])
        tall = _tall_rows(store, plan, pair, start, stop)
        if plan.axis == "rows":
            write_W(path, start, tall, group=group)
        else:
            write_H(path, start, np.ascontiguousarray(tall.T), group=group)
        if segment == 0 and plan.mode == "fit":
            wide = _wide(store, plan, pair)
            if plan.axis == "rows":
                write_H(path, 0, wide, group=group)
            else:
                write_W(path, 0, np.ascontiguousarray(wide.T), group=group)

    def combine(self, part: int, values: Sequence[Any]) -> Any:
        return 0

    def finish(self, part: int, reduced: Any, small: Any) -> Any:
        return {}
