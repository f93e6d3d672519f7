"""Chunks that are not stored: Zarr reads them as the fill value, but they may be lost.

Whatever reads a stored matrix to its end counts them, block by block (`Source.missing_chunks`),
and at the end asks `check_missing` whether that may be.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from dnmf.errors import CorruptDataError, DnmfError, OptionError

if TYPE_CHECKING:
    from dnmf.sources.base import Source
    from dnmf.sources.stored import Region, StoredArray

__all__ = [
    "NONE",
    "Missing",
    "check_missing",
    "check_stored",
    "check_whole",
    "read_given",
    "refusal",
]

MOST_NAMES = 20
SHOWN = 5

SUSPICIOUS = 1e-3
"""Least probability of so many empty chunks at which they are taken for empty."""

TOLERANCE = 3.0
"""Chunks are more unlike than any estimate knows: so many times as many are no surprise."""

TRIED, LOOKED_AT, BYTES = 4096, 256, 32 << 20
"""Chunks that storage is asked about, and those, with their bytes, that are read to judge."""


@dataclass(frozen=True)
class Missing:
    """The chunks of a source that are not stored, for each of its parts (V, weights).

    Attributes
    ----------
    counts : tuple of int
    names : tuple of tuple of str
        Keys of the first of them.
    """

    counts: tuple[int, ...] = ()
    names: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of(cls, *parts: Sequence[str]) -> Missing:
        """Count the names of each part."""
        if not any(parts):
            return NONE
        return cls(tuple(map(len, parts)), tuple(tuple(part[:MOST_NAMES]) for part in parts))

    def __add__(self, other: Missing) -> Missing:
        """Join with what stands behind in index order; each chunk may be in one of them only."""
        if not (self.counts and other.counts):
            return self if self.counts else other
        counts = zip_longest(self.counts, other.counts, fillvalue=0)
        names = zip_longest(self.names, other.names, fillvalue=())
        return Missing(
            tuple(map(sum, counts)), tuple((one + two)[:MOST_NAMES] for one, two in names)
        )


NONE = Missing()


def check_missing(source: Source, missing: Missing, how: str) -> list[str]:
    """Refuse chunks that are not stored, unless they hold nothing but the fill value.

    Parameters
    ----------
    source : Source
    missing : Missing
        What all of its blocks together miss.
    how : {"auto", "fill", "error"}
        ``"fill"``: the caller says so; ``"auto"``: the stored chunks make it likely.

    Returns
    -------
    list of str
        Remarks about those that were accepted.

    Raises
    ------
    CorruptDataError
        How many of how many chunks, the first names, and what to do.
    """
    notes = []
    for part, count, names in zip(source.parts, missing.counts, missing.names, strict=False):
        if count:
            notes.append(check_stored(part.stored_arrays, part.paths(), count, names, how))
    return notes


def check_whole(source: Source, how: str) -> list[str]:
    """Ask the storage for all chunks of a source that is about to be read, as `check_missing`.

    For readers whose blocks nothing else looks at: conversions, and matrices read in one piece.

    Parameters
    ----------
    source : Source
    how : {"auto", "fill", "error"}
    """
    readable = source if source.by_rows else source.transposed()
    assert readable is not None  # whatever is not read by rows is read by columns
    if how == "fill" or not any(part.stored_arrays for part in readable.parts):
        return []
    missing = NONE
    for start, stop in pairwise(_stretches(readable)):
        missing += readable.missing_chunks(start, stop, None)
    return check_missing(readable, missing, how)


def _stretches(source: Source) -> list[int]:
    """Cut the rows so that storage is asked about a bounded number of chunks at once."""
    n = source.shape[0]
    most = max(sum(array.objects for array in part.stored_arrays) for part in source.parts)
    step = -(-n // -(-most // TRIED))
    return [*range(0, n, step), n]


def check_stored(
    arrays: Sequence[StoredArray],
    where: Sequence[str],
    count: int,
    names: Sequence[str],
    how: str,
    total: int | None = None,
) -> str:
    """Refuse or remark on missing chunks of one matrix, as `check_missing` does.

    Parameters
    ----------
    arrays : sequence of StoredArray
        One for a dense matrix, three for a compressed one.
    where : sequence of str
        Paths of the matrix, for people; the first one is shown.
    count, names
        Of its missing chunks.
    how : str
        As for `check_missing`.
    total : int, optional
        How many were looked for, if not all.
    """
    total = sum(array.objects for array in arrays) if total is None else total
    text = _counted(arrays, where, count, total)
    if how == "fill" or (how == "auto" and _likely_empty(arrays, total, count)):
        return f"{text}; they count as filled with {arrays[0].fill:g}"
    raise refusal(
        arrays,
        where,
        count,
        names,
        "If they were never written because they hold only the fill value, say so with "
        "missing_chunks='fill' (--missing-chunks fill); else restore them",
        total,
    )


def refusal(
    arrays: Sequence[StoredArray],
    where: Sequence[str],
    count: int,
    names: Sequence[str],
    then: str,
    total: int | None = None,
) -> CorruptDataError:
    """Return the error about missing chunks of one matrix; ``then`` says what to do."""
    location = arrays[0].location
    total = sum(array.objects for array in arrays) if total is None else total
    root = location.name.removesuffix(location.path).rstrip("/")
    more = ", ..." if count > SHOWN else ""
    nothing = (
        ". Nothing of it is stored: perhaps it was not copied, or its chunks lie under other names"
        if count == total
        else ""
    )
    return CorruptDataError(
        f"{_counted(arrays, where, count, total)}: {', '.join(names[:SHOWN])}{more}. The first one "
        f"that was looked for is {root}/{names[0]}{nothing}. {then}"
    )


def _counted(arrays: Sequence[StoredArray], where: Sequence[str], count: int, total: int) -> str:
    place = next(iter(where), arrays[0].location.name)
    return f"{count:,} of {total:,} chunks of {place} are missing"


def read_given(value: Any, name: str, how: str | None = None) -> np.ndarray:
    """Return a matrix that was given for W or H as an array; of a Zarr array all must be there.

    Parameters
    ----------
    value : array-like
    name : str
        For errors.
    how : {"auto", "fill", "error"} or None
        None is "auto".

    Raises
    ------
    CorruptDataError
        As for `check_missing`.
    InputError
        Its attributes say that its numbers are packed.
    OptionError
        It is a masked array, whose mask would be lost, or cannot be read.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise OptionError(
            f"{name} is a masked array, whose mask would be lost; fill it with the numbers that "
            f"it is to have, as in {name}.filled(0)"
        )
    try:
        if hasattr(value, "attrs"):
            from dnmf.sources.packing import refuse_packed  # what needs Zarr

            refuse_packed(value, name)
        read = np.asarray(value)
    except DnmfError:
        raise
    except Exception as error:  # such as that of an HDF5 dataset whose file is closed
        kind = type(value).__name__
        raise OptionError(f"{name} ({kind}) cannot be read as an array: {error}") from error
    zarr = sys.modules.get("zarr")
    # results check their own chunks: their arrays are of a subclass
    if zarr is not None and type(value) is zarr.Array and read.ndim and read.size:
        from dnmf.sources.store import location_of  # what needs Zarr
        from dnmf.sources.stored import StoredArray

        array = StoredArray(location_of(value), value)
        names = array.unstored(tuple((0, size) for size in array.shape), read)
        if names:
            check_stored([array], [array.location.name], len(names), names, how or "auto")
    return read


def _likely_empty(arrays: Sequence[StoredArray], total: int, count: int) -> bool:
    """Return whether the stored chunks have so few entries that so many others may have none.

    The number of missing chunks is compared with the number of empty ones that the stored ones
    predict. Of a compressed matrix none is ever likely: what it stores are entries, not zeros.
    """
    if len(arrays) != 1 or count >= total:
        return False
    expected = TOLERANCE * _expected_empty(arrays[0], total, total - count)
    return bool(scipy.special.gammainc(count, expected) > SUSPICIOUS)  # P(Poisson >= count)


def _expected_empty(array: StoredArray, total: int, stored: int) -> float:
    """Estimate how many chunks of an array are empty, from a sample of those that are stored.

    What is empty are entries, whole rows of a chunk, or whole columns of it: whichever predicts
    most. Two estimates serve each of them. If all chunks are alike, the share of empty ones is
    that of empty units to the power of units in a chunk. If they are not, as many chunks have no
    used unit as follows from those that have one and two (Chao 1987, Biometrics 43).
    """
    found = [_used(values, array) for values in _sample(array)]
    if not found:
        return 0.0
    used, units = (np.array(some, float) for some in zip(*found, strict=True))
    most = 0.0
    for kind in range(used.shape[1]):
        n = units[:, kind].max()
        empty = 1 - used[:, kind].sum() / units[:, kind].sum()
        one, two = (np.count_nonzero(used[:, kind] == m) for m in (1, 2))
        unseen = one**2 / (2 * two) if two else one * (one - 1) / 2
        others = (n - 1) / n * unseen * stored / len(used)
        most = max(most, total * empty**n, others)
    return most


def _used(values: np.ndarray, array: StoredArray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return used entries, rows and columns of a chunk, and how many it has of each."""
    used = ~array.same_as_fill(values)
    lines = tuple(
        int(np.count_nonzero(used.any(axis=tuple({*range(used.ndim)} - {axis}))))
        for axis in range(used.ndim)
    )
    return (int(np.count_nonzero(used)), *lines), (used.size, *used.shape)


def _sample(array: StoredArray) -> list[np.ndarray]:
    """Read some of the chunks that are stored, always the same ones."""
    size = int(np.prod(array.grid)) * array.dtype.itemsize
    if size > 8 * BYTES:
        return []
    order = np.random.default_rng(0).permutation(array.objects)[:TRIED]
    there: list[Region] = array.stored_regions(order.tolist())
    found = []
    for region in there[: max(1, min(LOOKED_AT, BYTES // size))]:
        found.append(np.empty([b - a for a, b in region], array.dtype))
        array.read(region, found[-1])
    return found
