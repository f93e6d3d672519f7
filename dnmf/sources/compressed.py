"""The three arrays of a compressed sparse matrix in Zarr, as AnnData writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from dnmf.errors import CorruptDataError, InputError
from dnmf.sources.checks import check_shape, matrix_text
from dnmf.sources.csr import check_offsets, digest
from dnmf.sources.forward import ForwardReader
from dnmf.sources.missing import refusal
from dnmf.sources.store import Location, locate
from dnmf.sources.stored import StoredArray

__all__ = ["ENCODINGS", "CompressedArrays", "encoding_of"]

ENCODINGS = ("csr_matrix", "csc_matrix")

_STRETCH = 1 << 20
"""Offsets that are in memory at once while indptr is read from end to end."""


def encoding_of(group: zarr.Group) -> str | None:
    """Return ``"csr_matrix"``, ``"csc_matrix"`` or None."""
    name = str(group.attrs.get("encoding-type", group.attrs.get("h5sparse_format", "")))
    name = name if name.endswith("_matrix") else f"{name}_matrix"
    return name if name in ENCODINGS else None


@dataclass(frozen=True)
class CompressedArrays:
    """The arrays of a compressed sparse group.

    Attributes
    ----------
    location : Location
    note : str
        What a person should know about how it was found.
    encoding : str
        ``"csr_matrix"`` (lines are rows) or ``"csc_matrix"`` (lines are columns).
    shape : (int, int)
        Lines, and entries of a line.
    data, indices, indptr : StoredArray
    """

    location: Location
    note: str
    encoding: str
    shape: tuple[int, int]
    data: StoredArray
    indices: StoredArray
    indptr: StoredArray

    @classmethod
    def open(cls, location: Location, group: zarr.Group, note: str = "") -> CompressedArrays:
        """Open and compare the arrays of a group.

        Raises
        ------
        InputError, CorruptDataError
            The group is not complete, or its arrays contradict each other.
        """
        encoding, where = encoding_of(group), location.name
        if encoding is None:
            raise InputError(f"{where} is not a sparse matrix (no encoding-type csr_matrix)")
        arrays = [_part(location, name) for name in ("data", "indices", "indptr")]
        data, indices, indptr = arrays
        n, d = _shape_of(group, where)
        lines, entries = (n, d) if encoding == "csr_matrix" else (d, n)
        if indptr.shape[0] != lines + 1:
            raise CorruptDataError(
                f"{where}: indptr has {indptr.shape[0]} entries, but shape {n} x {d} needs "
                f"{lines + 1}"
            )
        if data.shape != indices.shape:
            raise CorruptDataError(
                f"{where}: data has {data.shape[0]} entries, but indices has {indices.shape[0]}"
            )
        return cls(location, note, encoding, (lines, entries), data, indices, indptr)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> CompressedArrays:
        location = locate(spec["location"])
        try:
            node = location.open()
        except FileNotFoundError as error:
            raise InputError(f"{location.name} is no longer there") from error
        if not isinstance(node, zarr.Group):
            raise InputError(f"{location.name} was a group and is now an array")
        return cls.open(location, node)

    @property
    def names(self) -> tuple[str, str]:
        """Names of a line, and of an index in it, for people."""
        return ("row", "column") if self.encoding == "csr_matrix" else ("column", "row")

    @property
    def nonzeros(self) -> int:
        """Stored entries."""
        return self.data.shape[0]

    def stretches(self) -> Iterator[np.ndarray]:
        """Yield all of indptr, in order and checked."""
        lines, where = self.shape[0], self.location.name
        before = np.zeros(0, np.int64)
        for begin, stretch in self._offsets():
            joined = np.concatenate([before, stretch.astype(np.int64, copy=False)])
            first = begin - len(before)
            try:
                check_offsets(joined, first, lines, self.nonzeros, where, self.names[0])
            except CorruptDataError as error:
                self.refuse_lost_offsets(first, first + len(joined) - 1, error)
                raise
            yield joined[len(before) :]
            before = joined[-1:].copy()

    def _offsets(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield all of indptr in order, as it is stored, each part with its first line.

        Every chunk is decoded once. Parts of a large one are handed out one after the other, so
        that whoever works on them has no second copy of all of it.
        """
        step, size = self._step, self.shape[0] + 1
        reader = ForwardReader(self.indptr)
        for begin in range(0, size, step):
            chunks = reader.take(begin, min(begin + step, size))
            for start in range(0, len(chunks), _STRETCH):
                yield begin + start, chunks[start : start + _STRETCH]

    @property
    def _step(self) -> int:
        """Offsets that are decoded at once: those of whole chunks."""
        unit = self.indptr.chunks[0]
        return -(-_STRETCH // unit) * unit

    @property
    def stretch_bytes(self) -> int:
        """Bytes that `stretches` takes at its peak, with what is made of a part."""
        count = min(self._step, self.shape[0] + 1)
        decoding = self.indptr.overhead(((0, count),))
        return decoding + count * self.indptr.dtype.itemsize + 3 * 8 * min(count, _STRETCH)

    def refuse_lost_offsets(self, start: int, stop: int, error: CorruptDataError) -> None:
        """Say of offsets that contradict each other that they are not stored, if that is why.

        Raises
        ------
        CorruptDataError
            Chunks of indptr are missing: they were read as zeros.
        """
        lost = self.indptr.not_stored(((start, stop + 1),))
        if not lost:
            return
        parts = (self.indptr, self.data, self.indices)
        names = [n for part in parts for n in part.not_stored(((0, part.shape[0]),))]
        line = self.names[0]
        raise refusal(
            parts,
            (self.location.name,),
            len(names),
            names,
            f"{', '.join(lost[:5])} {'are' if len(lost) > 1 else 'is'} needed for {line}s "
            f"{start} to {stop - 1}, which are not empty: restore them from a copy, or write the "
            f"store again",
        ) from error

    def metadata(self) -> dict[str, Any]:
        """Return JSON with a checksum of indptr, since blocks are cut by it."""
        return {
            "encoding": self.encoding,
            "shape": list(self.shape),
            "data": self.data.layout,
            "indices": self.indices.layout,
            "indptr": digest(self.stretches()),
        }

    def describe(self, shape: tuple[int, int]) -> str:
        name = self.encoding[:3].upper()
        layout = f"{name} with {self.nonzeros} stored entries, {self.data.layout_text}"
        nbytes = sum(a.shape[0] * a.dtype.itemsize for a in (self.data, self.indices, self.indptr))
        where = self.location.name + self.note
        return matrix_text(where, shape, self.data.dtype, layout, nbytes)


def _shape_of(group: zarr.Group, where: str) -> tuple[int, int]:
    found: Any = group.attrs.get("shape", group.attrs.get("h5sparse_shape"))
    try:
        shape = [int(size) for size in found]
    except (TypeError, ValueError):
        raise InputError(
            f"{where} is a sparse matrix whose attribute 'shape' is {found!r}; it must be [n, d]"
        ) from None
    return check_shape(shape, where)


def _part(location: Location, name: str) -> StoredArray:
    child = location.child(name)
    try:
        array = child.open()
    except FileNotFoundError:
        array = None
    if not isinstance(array, zarr.Array):
        raise InputError(f"{location.name} is a sparse matrix without its array {name!r}")
    if array.ndim != 1:
        raise InputError(f"{child.name} has {array.ndim} dimensions; it must have 1")
    stored = StoredArray(child, array)
    if name != "data" and stored.dtype.kind not in "iu":
        raise InputError(f"{child.name} has dtype {stored.dtype}; it must have integers")
    return stored
