"""Reads along one axis, stretch by stretch, with every chunk decoded once."""

from __future__ import annotations

import numpy as np

from dnmf.sources.stored import Region, StoredArray

__all__ = ["ForwardReader"]

AHEAD = 2
"""Stretches for which the system is asked while one is read."""


class ForwardReader:
    """A reader of consecutive stretches along one axis, which decodes every chunk once.

    Parameters
    ----------
    stored : StoredArray
    axis : int
        With 1, rows of the result are columns of the array.
    """

    def __init__(self, stored: StoredArray, axis: int = 0) -> None:
        self._stored, self._axis = stored, axis
        self._length, self._unit = stored.shape[axis], stored.chunks[axis]
        self._rest = self._empty(0)  # decoded with the last stretch, wanted by the next one
        self._expected = 0  # up to where the system was asked to read ahead

    def take(self, start: int, stop: int, end: int | None = None) -> np.ndarray:
        """Return the stretch ``start`` to ``stop``, fresh and C-contiguous.

        Parameters
        ----------
        start, stop : int
            ``start`` is the ``stop`` of the call before.
        end : int, optional
            Where the last stretch of all will stop, if that is known: nothing after it is
            decoded.
        """
        if end is not None:  # else what lies behind may be for others to read
            self._expect(stop, min(end, stop + AHEAD * (stop - start)))
        end = self._length if end is None else end
        out = self._empty(stop - start)
        have = min(len(self._rest), stop - start)
        out[:have] = self._rest[:have]
        self._rest = self._rest[have:] if have < len(self._rest) else self._empty(0)
        whole = stop if stop == end else stop - stop % self._unit
        at = start + have
        if at < whole:
            self._read(at, whole, out[at - start : whole - start])
            at = whole
        if at < stop:  # the next stretch needs the rest of this chunk
            decoded = self._empty(min(end, whole + self._unit) - at)
            self._read(at, at + len(decoded), decoded)
            out[at - start :] = decoded[: stop - at]
            self._rest = decoded[stop - at :]
        return out

    def _empty(self, count: int) -> np.ndarray:
        shape = self._stored.shape
        return np.empty((count, *shape[: self._axis], *shape[self._axis + 1 :]), self._stored.dtype)

    def _expect(self, start: int, stop: int) -> None:
        start = max(start, self._expected)
        if start < stop:
            self._stored.expect(self._region(start, stop))
            self._expected = stop

    def _region(self, start: int, stop: int) -> Region:
        region = [(0, length) for length in self._stored.shape]
        region[self._axis] = (start, stop)
        return tuple(region)

    def _read(self, start: int, stop: int, out: np.ndarray) -> None:
        self._stored.read(self._region(start, stop), out.T if self._axis else out)
