"""The factors of a result from a committed pair: their order, their scale, and which is W.

`publish` writes them, a fit in memory returns them, and ``dnmf.open`` shows them of a run that
still goes on: all by this code, so that none of them can differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from dnmf.fitting.model_state import Pair
from dnmf.fitting.models.factors import read_H, read_rows
from dnmf.fitting.record import Scan
from dnmf.planning.plan import Plan, loss_shape
from dnmf.runs.base import Reader

__all__ = ["FinalFactors", "component_order"]


def component_order(pair: Pair, in_order: int = 0) -> np.ndarray:
    """Order components by falling share of V, ties by the column where their H is largest.

    The first ``in_order`` are not sorted.
    """
    falling, ties = -np.array(pair.share, dtype=float), np.array(pair.peak)
    falling[:in_order], ties[:in_order] = -np.inf, np.arange(in_order)
    return np.lexsort((ties, falling))


class FinalFactors:
    """The tall (rows, k) and the wide (k, columns) factor of a pair as a result has them.

    The tall factor belongs to the rows of the plan's blocks: it is W, or H' where V is read by
    columns.

    Parameters
    ----------
    store : Reader
    plan : Plan
        Of the run: a narrow one has no place here.
    pair : Pair
    scan : Scan
        Where it says which columns have entries, the wide factor is 0 in the others; so is the
        tall one in other rows.
    """

    def __init__(self, store: Reader, plan: Plan, pair: Pair, scan: Scan) -> None:
        self.store = store
        self.scan = scan
        self.plan = plan
        self.pair = pair
        self.order = component_order(pair, plan.config.in_order)

    @cached_property
    def scale(self) -> np.ndarray:
        """Norms that divide the columns of the tall factor and multiply the rows of the wide one.

        Rows of H have unit norm unless the options ask otherwise; by columns the tall factor is H.
        """
        plan, pair = self.plan, self.pair
        norms, asked = np.array(pair.W_norms), plan.config.normalize
        if asked is None:
            if plan.axis == "rows" or plan.config.penalized:
                return np.ones_like(norms)
            return np.where(norms > 0, norms, 1.0)
        by_norm = loss_shape(plan.config).unit_norm or pair.W_sums is None
        if (asked == "weights") == (plan.axis == "rows"):  # the tall factor is to have unit size
            sizes = norms if by_norm else np.array(pair.W_sums)
            return np.where(sizes > 0, sizes, 1.0)
        rows = (row.astype(np.float64) for row in read_H(self.store, pair.H))  # no second k x d
        # not the norm of a row, which is a product of BLAS: its bits depend on threads
        sizes = np.array([np.sqrt(np.sum(row * row)) if by_norm else row.sum() for row in rows])
        return 1.0 / np.where(sizes > 0, sizes, 1.0)

    @cached_property
    def _scaled(self) -> bool:
        return not bool((self.scale == 1).all())

    def of_tall(self, rows: np.ndarray) -> np.ndarray:
        """Bring stored rows of the tall factor, (m, k), into the final order and scale."""
        rows = rows[:, self.order]
        return (rows / self.scale[self.order]).astype(rows.dtype) if self._scaled else rows

    def of_wide(self, columns: np.ndarray) -> np.ndarray:
        """Bring stored columns of the wide factor, (k, m), into the final order and scale."""
        found = columns[self.order]
        if self._scaled:
            for row, by in zip(found, self.scale[self.order], strict=True):
                row[:] = row * by
        return found

    def of_wide_as_rows(self, columns: np.ndarray) -> np.ndarray:
        """Bring stored columns of the wide factor, (k, m), into final rows of it, (m, k)."""
        return self.of_wide(columns).T

    def tall_rows(self, start: int, stop: int) -> np.ndarray:
        """Read rows of the tall factor, a segment at a time."""
        found = np.empty((stop - start, len(self.order)), self.plan.dtype)
        self._fill(found, start, stop)
        return found

    def tall_as_columns(self) -> np.ndarray:
        """Read the tall factor, (k, rows)."""
        found = np.empty((len(self.order), self.plan.all_rows), self.plan.dtype)
        self._fill(found.T, 0, self.plan.all_rows)
        return found

    def _fill(self, found: np.ndarray, start: int, stop: int) -> None:
        """Read rows of the tall factor into an array."""
        stored = self.pair.W, self.pair.W_starts
        if self.scan.filled is None:
            for above, rows in read_rows(self.store, *stored, start, stop):
                found[above : above + len(rows)] = self.of_tall(rows)
            return
        filled = self.store.get(self.scan.filled)
        a, b = np.searchsorted(filled, [start, stop]).tolist()
        found[:] = 0
        for above, rows in read_rows(self.store, *stored, a, b):
            found[filled[a + above : a + above + len(rows)] - start] = self.of_tall(rows)

    def wide(self) -> np.ndarray:
        """Read the wide factor, (k, columns)."""
        found = self.of_wide(read_H(self.store, self.pair.H))
        return found if self.scan.used is None else self._placed(found, 0, self.plan.shape[1])

    def wide_parts(self, width: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the wide factor in parts of so many columns, each with its first column.

        It is one part where every column was fitted: its arrays are in memory anyway.
        """
        if self.scan.used is None:
            yield 0, self.wide()
            return
        found, d = self.of_wide(read_H(self.store, self.pair.H)), self.plan.shape[1]
        for start in range(0, d, width):
            yield start, self._placed(found, start, min(start + width, d))

    def _placed(self, found: np.ndarray, start: int, stop: int) -> np.ndarray:
        """Return these columns of the wide factor, of which ``found`` has those with entries."""
        assert self.scan.used is not None
        used = self.store.get(self.scan.used)
        a, b = np.searchsorted(used, [start, stop])
        whole = np.zeros((len(found), stop - start), found.dtype)
        whole[:, used[a:b] - start] = found[:, a:b]
        return whole

    def assemble(self) -> tuple[np.ndarray, np.ndarray]:
        """Read W (n, k) and H (k, d) of V as arrays in memory."""
        if self.plan.axis == "rows":
            return self.tall_rows(0, self.plan.all_rows), self.wide()
        return self.wide().T.copy(), self.tall_as_columns()
