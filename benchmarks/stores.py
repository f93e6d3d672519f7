"""Matrices on the disk: written once, read raw, and forgotten by the page cache."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local
from time import perf_counter
from typing import Any

import numpy as np
import scipy.sparse as sp
import zarr
from zarr.codecs import BloscCodec, ZstdCodec

from benchmarks.planted import Planted

__all__ = ["CODECS", "can_drop", "drop_cache", "read_raw", "write_csr", "write_dense"]

CODECS: dict[str, Any] = {
    "uncompressed": None,
    "lz4": BloscCodec(cname="lz4"),
    "zstd": ZstdCodec(),
}
PIECE = 8 << 20
ENTRIES = 1 << 20


def write_dense(
    path: Path, V: np.ndarray | Planted, chunks: tuple[int, int], codec: str = "uncompressed"
) -> Path:
    """Write a dense matrix as Zarr, float32 or as an array has it, unless it is there."""
    if _there(path):
        return path
    n, d = V.shape if isinstance(V, np.ndarray) else (V.n, V.d)
    array = zarr.create_array(
        path,
        shape=(n, d),
        chunks=(min(chunks[0], n), min(chunks[1], d)),
        dtype=V.dtype if isinstance(V, np.ndarray) else "float32",
        compressors=CODECS[codec],
    )
    for start, rows in _whole_chunks(V, array.chunks[0]):
        array[start : start + len(rows)] = rows
    return _complete(path)


def _whole_chunks(V: np.ndarray | Planted, chunk: int) -> Iterator[tuple[int, np.ndarray]]:
    """Rows in portions that end where chunks end, so that every chunk is written once."""
    if isinstance(V, np.ndarray):
        for start in range(0, len(V), chunk):
            yield start, V[start : start + chunk]
        return
    start, rest = 0, np.empty((0, V.d), np.float32)
    for unit in V.all_units():
        rest = np.concatenate([rest, unit.V])
        whole = len(rest) // chunk * chunk
        if whole:
            yield start, rest[:whole]
        start, rest = start + whole, rest[whole:]
    if len(rest):
        yield start, rest


def write_csr(path: Path, V: sp.csr_array) -> Path:
    """Write CSR as AnnData does, unless it is there."""
    if _there(path):
        return path
    group = zarr.create_group(path)
    group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
    group.attrs["shape"] = [int(length) for length in V.shape]
    for name in ("data", "indices", "indptr"):
        group.create_array(name, data=getattr(V, name), chunks=(ENTRIES,), compressors=None)
    return _complete(path)


def _there(path: Path) -> bool:
    """Whether it was written to its end; what was not is deleted."""
    if path.with_suffix(".complete").exists():
        return True
    shutil.rmtree(path, ignore_errors=True)
    return False


def _complete(path: Path) -> Path:
    path.with_suffix(".complete").touch()
    return path


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def can_drop() -> bool:
    """Whether this system lets a process drop files from the page cache."""
    return hasattr(os, "posix_fadvise")


def drop_cache(folder: Path) -> None:
    """Drop all files of a folder from the page cache (they are written out first)."""
    for path in _files(folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def read_raw(folder: Path, threads: int) -> tuple[float, int]:
    """Read all files and do nothing with them: seconds, and stored bytes.

    Into one buffer a thread: with a new one for each of 100,000 files of 8 kB it took 18 s for 4.
    """
    files = _files(folder)
    buffers = local()

    def prepare() -> None:
        buffers.own = bytearray(PIECE)

    def read(path: Path) -> int:
        total = 0
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffers.own):
                total += count
        return total

    began = perf_counter()
    with ThreadPoolExecutor(threads, initializer=prepare) as pool:
        total = sum(pool.map(read, files))
    return perf_counter() - began, total
