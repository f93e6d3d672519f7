"""Reading along one axis, stretch by stretch, with every chunk decoded once."""

from __future__ import annotations

import numpy as np

from dnmf.sources.stored import StoredArray

__all__ = ["ForwardReader"]


class ForwardReader:
    """Reads stretches along one axis, one after the other; every chunk is decoded once.

    Parameters
    ----------
    stored : StoredArray
    axis : int
        With 1, rows of the result are columns of the array.
    """

    def __init__(self, stored: StoredArray, axis: int = 0) -> None:
        self._stored, self._axis = stored, axis
        self._length, self._unit = stored.shape[axis], stored.chunks[axis]
        self._held = self._empty(0)  # decoded with the last stretch, wanted by the next one

    def take(self, start: int, stop: int, end: int | None = None) -> np.ndarray:
        """The stretch ``start`` to ``stop``, fresh and C-contiguous.

        Parameters
        ----------
        start, stop : int
            ``start`` is the ``stop`` of the call before.
        end : int, optional
            Where the last stretch of all will stop, if that is known: nothing behind it is
            kept.
        """
        end = self._length if end is None else end
        out = self._empty(stop - start)
        have = min(len(self._held), stop - start)
        out[:have] = self._held[:have]
        self._held = self._held[have:] if have < len(self._held) else self._empty(0)
        whole = stop if stop == end else stop - stop % self._unit
        at = start + have
        if at < whole:
            self._read(at, whole, out[at - start : whole - start])
            at = whole
        if at < stop:  # the next stretch needs the rest of this chunk
            held = self._empty(min(end, whole + self._unit) - at)
            self._read(at, at + len(held), held)
            out[at - start :] = held[: stop - at]
            self._held = held[stop - at :]
        return out

    def _empty(self, count: int) -> np.ndarray:
        shape = self._stored.shape
        return np.empty((count, *shape[: self._axis], *shape[self._axis + 1 :]), self._stored.dtype)

    def _read(self, start: int, stop: int, out: np.ndarray) -> None:
        region = [(0, length) for length in self._stored.shape]
        region[self._axis] = (start, stop)
        self._stored.read(tuple(region), out.T if self._axis else out)
