"""A corpus of damaged stores: every kind of input, harmed in every way, from a seed.

One case is a matrix (or run, or result) that was written whole, a copy of it in which a few
bytes, files or fields were harmed, and what must then follow: a `DnmfError`, or the right answer
for what is still stored::

    text = damage(folder, random.Random(17))   # "c/3/0: bit 5 of byte 210 flipped"
"""

from __future__ import annotations

import json
import os
import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr

__all__ = ["damage", "damage_arrays", "files_in"]

_METADATA = (".json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
_ODD: tuple[Any, ...] = (
    *(0, 1, -1, 2, 7, 11, 2**31, 2**63, 10**30, -(10**9), 1e400, 0.5),
    *(None, True, False, "", "x", "NaN", "float32", "|O", "<U3", [], [0], [1, 2, 3], {}),
)
"""Values that a field of metadata may turn into."""

_EXTREME = (-1, 0, 1, 2**31 - 1, 2**31, 2**62, -(2**31), 2**63 - 1)


def files_in(folder: Path) -> list[Path]:
    """List all files below a folder, or the file that it is, in an order that never changes."""
    if folder.is_file():
        return [folder]
    return sorted(path for path in folder.rglob("*") if path.is_file())


def damage(folder: Path, rng: random.Random, skip: Callable[[Path], bool] | None = None) -> str:
    """Harm a stored input in one way (sometimes in two), and say how.

    Parameters
    ----------
    folder : Path
        A store, or one file.
    rng : random.Random
        Decides where and how.
    skip : callable, optional
        Files that stay as they are.
    """
    done = []
    for _ in range(1 if rng.random() < 0.8 else 2):
        files = [path for path in files_in(folder) if skip is None or not skip(path)]
        if not files:
            break
        path = _choose(files, rng)
        way = rng.choice(_WAYS if path.name.endswith(_METADATA) else _BYTE_WAYS)
        name = path.name if path == folder else str(path.relative_to(folder))
        how = way(path, rng) if way else _of_another(path, rng, files)
        done.append(f"{name}: {how}")
    return "; ".join(done)


def _choose(files: list[Path], rng: random.Random) -> Path:
    """Choose metadata as often as data, however few files it has."""
    metadata = [path for path in files if path.name.endswith(_METADATA)]
    if metadata and rng.random() < 0.5:
        return rng.choice(metadata)
    return rng.choice(files)


def _flip_bit(path: Path, rng: random.Random) -> str:
    data = bytearray(path.read_bytes())
    if not data:
        return _grow(path, rng)
    at, bit = rng.randrange(len(data)), rng.randrange(8)
    data[at] ^= 1 << bit
    path.write_bytes(data)
    return f"bit {bit} of byte {at} of {len(data)} flipped"


def _scramble(path: Path, rng: random.Random) -> str:
    data = bytearray(path.read_bytes())
    count = min(len(data), rng.randint(1, 16))
    at = rng.randrange(len(data) - count + 1)
    data[at : at + count] = rng.randbytes(count)
    path.write_bytes(data)
    return f"{count} random bytes at {at} of {len(data)}"


def _wipe(path: Path, rng: random.Random) -> str:
    data = bytearray(path.read_bytes())
    count = rng.randint(0, len(data))
    at = rng.randrange(len(data) - count + 1)
    data[at : at + count] = bytes([rng.choice((0, 255))]) * count
    path.write_bytes(data)
    return f"{count} bytes at {at} of {len(data)} wiped"


def _truncate(path: Path, rng: random.Random) -> str:
    size = path.stat().st_size
    to = rng.choice((0, max(0, size - 1), rng.randint(0, size)))
    os.truncate(path, to)
    return f"truncated from {size} to {to}"


def _grow(path: Path, rng: random.Random) -> str:
    extra = rng.randint(1, 40)
    path.write_bytes(path.read_bytes() + rng.randbytes(extra))
    return f"{extra} bytes too many"


def _delete(path: Path, rng: random.Random) -> str:
    path.unlink()
    return "deleted"


def _folder_instead(path: Path, rng: random.Random) -> str:
    path.unlink()
    path.mkdir()
    return "a folder instead"


def _of_another(path: Path, rng: random.Random, files: list[Path]) -> str:
    """Replace a file of the store by another one of its files."""
    others = [other for other in files if other != path]
    if not others:
        return _flip_bit(path, rng)
    other = rng.choice(others)
    shutil.copyfile(other, path)
    return f"a copy of {other.parent.name}/{other.name} instead"


def _field(path: Path, rng: random.Random) -> str:
    """Remove a field of JSON, or give it another value."""
    try:
        document = json.loads(path.read_bytes())
    except ValueError:
        return _flip_bit(path, rng)
    fields = _fields(document)
    if not fields:
        return _flip_bit(path, rng)
    holder, key = rng.choice(fields)
    old = holder[key]
    if rng.random() < 0.2:
        del holder[key]
        text = f"field {key!r} removed"
    else:
        numbers = isinstance(old, int) and not isinstance(old, bool)
        near = (old + 1, old - 1, 2 * old, 10 * old, -old) if numbers else ()
        holder[key] = rng.choice((*_ODD, *near, *near))
        text = f"field {key!r} was {str(old)[:40]}, is {holder[key]!r}"
    path.write_text(json.dumps(document))
    return text


def _fields(document: Any) -> list[tuple[Any, Any]]:
    """List every (container, key) of a JSON document."""
    if isinstance(document, dict):
        keys: Any = list(document)
    elif isinstance(document, list):
        keys = range(len(document))
    else:
        return []
    here = [(document, key) for key in keys]
    return here + [field for _, key in here for field in _fields(document[key])]


_BYTE_WAYS: tuple[Callable[[Path, random.Random], str] | None, ...] = (
    *(_flip_bit, _flip_bit, _flip_bit, _scramble, _wipe, _truncate, _truncate, _grow),
    *(_delete, _folder_instead, None),  # None: a copy of another file
)
_WAYS = (*_BYTE_WAYS, *(7 * (_field,)))


def damage_arrays(folder: Path, rng: random.Random) -> str:
    """Harm the arrays of a sparse group in Zarr by what they hold: values, lengths, dtypes."""
    group = zarr.open_group(folder, mode="r+")
    name = rng.choice(("data", "indices", "indices", "indptr", "indptr"))
    array = group[name]
    assert isinstance(array, zarr.Array)
    values = np.asarray(array[:])
    how = rng.choice(("value", "value", "value", "several", "length", "dtype", "order"))
    if how in ("value", "several"):
        at = [rng.randrange(len(values)) for _ in range(1 if how == "value" else 5)]
        new = [_odd_value(values.dtype, rng) for _ in at]
        for position, value in zip(at, new, strict=True):
            array[position] = value
        return f"{name}[{at}] = {new}"
    if how == "order":
        array[:] = rng.choice((values[::-1], np.roll(values, 1), np.sort(values)))
        return f"{name} in another order"
    if how == "length":
        size = max(0, len(values) + rng.choice((-len(values), -5, -1, 1, 5)))
        changed = np.resize(values, size)
    else:
        kind = rng.choice(("f8", "f2", "i1", "u1", "u8", "c8", "?", "S3", "M8[s]", "2d"))
        changed = values.reshape(1, -1) if kind == "2d" else _as(values, kind)
    del group[name]
    chunks = tuple(max(1, size) for size in changed.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of dtypes that other readers may not know
        made = group.create_array(name, shape=changed.shape, dtype=changed.dtype, chunks=chunks)
        if changed.size:
            made[:] = changed
    return f"{name} is {changed.dtype} {changed.shape}, was {values.dtype} {values.shape}"


def _as(values: np.ndarray, kind: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        whole = values.astype(np.int64) if kind.startswith("M8") else values
        return whole.astype(kind)


def _odd_value(dtype: np.dtype, rng: random.Random) -> Any:
    if dtype.kind == "f":
        odd = (np.nan, np.inf, -np.inf, -1.0, -0.0, 1e-30, 3e38, 1e300, 0.0, 5.0)
        with np.errstate(over="ignore"):
            return dtype.type(rng.choice(odd))
    value = rng.choice((*_EXTREME, rng.randint(0, 40)))
    limits = np.iinfo(dtype)
    return dtype.type(min(max(value, limits.min), limits.max))
