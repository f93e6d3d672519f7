"""An HDF5 file as a read-only Zarr store (format 2): keys are made when they are asked for."""

from __future__ import annotations

import asyncio
import json
import math
import re
import threading
from collections.abc import AsyncIterator, Iterable
from itertools import product
from typing import Any

import numpy as np
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest

from dnmf.errors import CorruptDataError
from dnmf.sources.hdf5.files import Identity, identity_of, opened
from dnmf.sources.hdf5.layout import Layout, Position, layout_of
from dnmf.sources.hdf5.nodes import Node, find

__all__ = ["Hdf5Store"]

CHUNK = re.compile(r"\d+(\.\d+)*")

METADATA = (".zarray", ".zattrs", ".zgroup")


class Hdf5Store(Store):
    """A file of which nothing stays open. Picklable, thread-safe.

    Parameters
    ----------
    file : str
        Its absolute path.

    Raises
    ------
    MissingDependencyError
        On reading: h5py is not installed.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    copies = 2
    """How often a chunk is in memory while it is decoded: as stored, and by each filter."""

    def __init__(self, file: str) -> None:
        super().__init__(read_only=True)
        self.file = file
        self._begin()

    def _begin(self) -> None:
        self._known: dict[str, tuple[Node | None, Layout | None]] = {}
        self._identity: Identity | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"file": self.file}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__init__(read_only=True)
        self.file = state["file"]
        self._begin()

    def __eq__(self, value: object) -> bool:
        return isinstance(value, Hdf5Store) and self.file == value.file

    def __hash__(self) -> int:
        return hash(self.file)

    def __str__(self) -> str:
        return self.file

    def with_read_only(self, read_only: bool = False) -> Store:
        if not read_only:
            raise NotImplementedError("HDF5 files are only read")
        return self

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        return await asyncio.to_thread(self._get, key, prototype, byte_range)

    async def get_partial_values(
        self, prototype: Any, key_ranges: Iterable[tuple[str, Any]]
    ) -> Any:
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        return await asyncio.to_thread(self._exists, key)

    async def list(self) -> AsyncIterator[str]:
        async for key in self.list_prefix(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        for key in await asyncio.to_thread(self._keys, prefix.strip("/")):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        node, layout = await asyncio.to_thread(self._at, prefix.strip("/"))
        if node is None:
            return
        for name in (*self._metadata_names(node), *node.members):
            yield name
        for key in self._chunk_names(node, layout):
            yield key

    async def set(self, key: str, value: Any) -> None:
        self._check_writable()

    async def delete(self, key: str) -> None:
        self._check_writable()

    def _get(self, key: str, prototype: Any, byte_range: Any) -> Any:
        path, _, name = key.rpartition("/")
        if name in METADATA:
            node, layout = self._at(path)
            text = self._metadata(name, node, layout)
            return None if text is None else prototype.buffer.from_bytes(_part(text, byte_range))
        found = self._chunk(path, name)
        if found is None:
            return None
        flat = np.ascontiguousarray(found).reshape(-1).view(np.uint8)
        return prototype.buffer.from_array_like(_part(flat, byte_range))

    def _exists(self, key: str) -> bool:
        path, _, name = key.rpartition("/")
        node, layout = self._at(path)
        if name in METADATA:
            return node is not None and name in self._metadata_names(node)
        position = _position(name)
        if node is None or position is None or not node.is_array:
            return False
        if layout is None:
            return not any(position)
        return len(position) == max(1, len(layout.shape)) and layout.is_stored(position)

    def _keys(self, prefix: str) -> tuple[str, ...]:
        node, layout = self._at(prefix)
        if node is None:
            return ()
        within = f"{prefix}/" if prefix else ""
        names = (*self._metadata_names(node), *self._chunk_names(node, layout))
        keys = [f"{within}{name}" for name in names]
        for member in node.members:
            keys += self._keys(f"{within}{member}")
        return tuple(keys)

    def _chunk(self, path: str, name: str) -> np.ndarray | None:
        """Return a chunk's entries, or None where it is not stored."""
        position = _position(name)
        if position is None:
            return None
        node, layout = self._at(path)
        if node is None or not node.is_array:
            return None
        if layout is None:
            return None if any(position) else _encoded(node.values)
        if len(position) != max(1, len(layout.shape)) or not layout.is_stored(position):
            return None
        if identity_of(self.file) != layout.identity:
            raise _changed(self.file)
        return layout.read(position)

    def _at(self, path: str) -> tuple[Node | None, Layout | None]:
        """Return what lies at a path; it is looked for once."""
        with self._lock:
            if path not in self._known:
                try:
                    before = identity_of(self.file)
                except FileNotFoundError:
                    return None, None
                if self._identity not in (None, before):
                    raise _changed(self.file)
                self._identity = before
                with opened(self.file) as file:
                    node = find(file, path)
                    layout = None
                    if node is not None and node.dataset is not None:
                        layout = layout_of(node.dataset, before)
                        node = Node(node.attrs, node.members, dataset=True)
                self._known[path] = node, layout
            return self._known[path]

    def _metadata(self, name: str, node: Node | None, layout: Layout | None) -> bytes | None:
        if node is None or name not in self._metadata_names(node):
            return None
        if name == ".zattrs":
            return json.dumps(node.attrs).encode()
        if name == ".zgroup":
            return b'{"zarr_format": 2}'
        return json.dumps(_array_metadata(node, layout)).encode()

    def _metadata_names(self, node: Node) -> tuple[str, ...]:
        return (".zarray" if node.is_array else ".zgroup", ".zattrs")

    def _chunk_names(self, node: Node, layout: Layout | None) -> tuple[str, ...]:
        if not node.is_array:
            return ()
        if layout is None:
            assert node.values is not None
            return (".".join("0" * node.values.ndim),)
        if not layout.shape:
            return ("0",)
        places = product(*map(range, layout.counts))
        return tuple(".".join(map(str, at)) for at in places if layout.is_stored(at))


def _array_metadata(node: Node, layout: Layout | None) -> dict[str, Any]:
    common = {"zarr_format": 2, "order": "C", "compressor": None, "dimension_separator": "."}
    if layout is None:
        assert node.values is not None
        shape = list(node.values.shape)
        texts = {"dtype": "|O", "fill_value": "", "filters": [{"id": "vlen-utf8"}]}
        return {**common, **texts, "shape": shape, "chunks": [max(1, size) for size in shape]}
    return {
        **common,
        "dtype": layout.dtype.str if layout.dtype.kind != "b" else "|b1",
        "fill_value": _fill(layout),
        "filters": None,
        "shape": list(layout.shape),
        "chunks": list(layout.chunks),
    }


def _fill(layout: Layout) -> Any:
    if layout.dtype.kind not in "buif":
        return None
    fill = np.asarray(layout.fill).astype(layout.dtype).item()
    if isinstance(fill, float) and not math.isfinite(fill):
        return "NaN" if math.isnan(fill) else "Infinity" if fill > 0 else "-Infinity"
    return fill


def _encoded(values: np.ndarray | None) -> np.ndarray:
    from numcodecs import VLenUTF8

    return np.frombuffer(VLenUTF8().encode(values), np.uint8)


def _position(name: str) -> Position | None:
    return tuple(map(int, name.split("."))) if CHUNK.fullmatch(name) else None


def _part(value: Any, byte_range: Any) -> Any:
    """Return the bytes that a request asks for."""
    match byte_range:
        case RangeByteRequest():
            return value[byte_range.start : byte_range.end]
        case OffsetByteRequest():
            return value[byte_range.offset :]
        case SuffixByteRequest():
            return value[max(0, len(value) - byte_range.suffix) :]
    return value


def _changed(file: str) -> CorruptDataError:
    return CorruptDataError(
        f"{file} was changed while it was read; wait until it is written, and begin again"
    )
