"""Consecutive rows of a Dask array, each chunk of which is computed once."""

from __future__ import annotations

from collections.abc import Callable

from dnmf.interop.dask_blocks import locked
from dnmf.linalg.matrix import Matrix, join_rows

__all__ = ["ChunkReader"]


class ChunkReader:
    """A reader of consecutive stretches of rows, up to ``last``.

    Parameters
    ----------
    compute : callable
        Returns blocks of rows, of a list of where they begin and where the last one ends.
    whole_chunks : callable
        Returns up to where whole rows of chunks reach between two rows, and where those end that
        the second one cuts, at most ``last``.
    last : int
    """

    def __init__(
        self,
        compute: Callable[[list[int]], list[Matrix]],
        whole_chunks: Callable[[int, int, int], tuple[int, int]],
        last: int,
    ) -> None:
        self._compute, self._whole_chunks, self._last = compute, whole_chunks, last
        self._rest: Matrix | None = None  # rows of computed chunks that come next

    def take(self, start: int, stop: int) -> Matrix:
        """Return the stretch ``start`` to ``stop``, which begins where the one before ended."""
        parts, count = [], stop - start
        if self._rest is not None:
            parts.append(self._rest[:count])
            self._rest = self._rest[count:] if self._rest.shape[0] > count else None
        at = start + sum(part.shape[0] for part in parts)
        if at < stop:
            whole, end = self._whole_chunks(at, stop, self._last)
            parts += self._compute(sorted({at, whole, end}))
            if stop < end:
                tail = parts.pop()
                parts.append(tail[: stop - whole])
                self._rest = tail[stop - whole :]
        return locked(join_rows(parts))
