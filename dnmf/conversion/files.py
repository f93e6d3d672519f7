"""Files that cannot be read by rows as they are: ``.npz`` and Matrix Market.

They are unpacked: written once, in bounded memory, as ``.npy`` files that are read by memory map.
"""

from __future__ import annotations

import lzma
import os
import shutil
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import scipy

from dnmf.conversion.external_sort import Unpacking
from dnmf.conversion.matrix_market import unpack_matrix_market
from dnmf.errors import CorruptDataError, DnmfError, InputError, MemoryPlanError
from dnmf.names import local_name
from dnmf.npy_header import read_header
from dnmf.sources.base import Source
from dnmf.sources.checks import native_dtype
from dnmf.sources.csr import block_dtype
from dnmf.sources.formats import as_csr
from dnmf.sources.npy_csr import NpyCsr

__all__ = ["SUFFIXES", "needs_unpacking", "unpack", "unpack_columns"]

SUFFIXES = (".npz", ".mtx", ".mtx.gz", ".mtx.bz2")

_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError),
    *(NotImplementedError, RuntimeError, ValueError, LookupError, OverflowError),
)
"""What the readers of archives and of what is in them raise on damaged bytes."""


def needs_unpacking(path: str | os.PathLike[str]) -> bool:
    """Return whether ``path`` is a file that `unpack` reads."""
    return local_name(path).lower().endswith(SUFFIXES)


def unpack(path: str, to: Unpacking) -> Source:
    """Write a file's matrix as ``.npy`` files into an empty folder, and open those.

    Parameters
    ----------
    path : str
        ``.npz`` (a sparse matrix that ``scipy.sparse.save_npz`` wrote, or exactly one 2-d
        array), ``.mtx``, ``.mtx.gz`` or ``.mtx.bz2``.
    to : Unpacking

    Returns
    -------
    Source
        Good for as long as the folder is there.

    Raises
    ------
    InputError, CorruptDataError
        Not such a file, or damaged.
    MemoryPlanError
        The file can only be read as a whole, and that does not fit.
    """
    file = Path(local_name(path))
    if not file.is_file():
        raise InputError(f"{path} does not exist" if not file.exists() else f"{path} is no file")
    if file.suffix.lower() == ".npz":
        return _unpack_npz(file, to)
    header = unpack_matrix_market(file, to)
    if header.format == "array":
        return _dense(to.folder / "dense.npy")
    return NpyCsr(to.folder, (header.rows, header.columns), str(file))


def _dense(path: Path) -> Source:
    from dnmf.sources import open_source

    return open_source(str(path))


def _unpack_npz(file: Path, to: Unpacking) -> Source:
    try:
        with zipfile.ZipFile(file) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            if {"format", "shape"} <= set(members):
                return _unpack_sparse(file, archive, members, to)
            arrays = [name for name in members if len(_shape(archive, members[name])) == 2]
            if len(arrays) != 1:
                shapes = {name: _shape(archive, members[name]) for name in members}
                listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
                raise InputError(
                    f"{file} has {len(arrays)} two-dimensional arrays, it must have exactly one; "
                    f"it holds: {listed or 'nothing'}"
                )
            _extract(archive, members[arrays[0]], to.folder / "dense.npy")
        return _dense(to.folder / "dense.npy")
    except DnmfError:
        raise
    except _BROKEN as error:
        raise CorruptDataError(f"{file} cannot be read: {error}") from None


def _shape(archive: zipfile.ZipFile, member: str) -> tuple[int, ...]:
    with archive.open(member) as stream:
        try:
            shape = read_header(cast(BinaryIO, stream)).shape
        except ValueError as error:
            raise CorruptDataError(f"{archive.filename}: {member}: {error}") from None
    return shape


def _extract(archive: zipfile.ZipFile, member: str, target: Path) -> None:
    """Decompress one member; its checksum is verified on the way."""
    with archive.open(member) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


def _small(archive: zipfile.ZipFile, member: str) -> np.ndarray:
    with archive.open(member) as stream:
        array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _unpack_sparse(
    file: Path, archive: zipfile.ZipFile, members: dict[str, str], to: Unpacking
) -> Source:
    layout = _small(archive, members["format"]).item()
    layout = layout.decode() if isinstance(layout, bytes) else str(layout)
    shape = tuple(int(size) for size in _small(archive, members["shape"]))
    if len(shape) != 2:
        raise InputError(f"{file} has {len(shape)} dimensions; V must have 2, rows and columns")
    if layout not in ("csr", "csc", "coo"):
        return _unpack_whole(file, archive, shape, to)
    names = ("data", "row", "col") if layout == "coo" else ("data", "indices", "indptr")
    missing = [name for name in names if name not in members]
    if missing:
        raise CorruptDataError(f"{file} has no {', '.join(missing)}; a {layout} matrix needs it")
    raw = to.folder if layout == "csr" else to.folder / "raw"
    raw.mkdir(exist_ok=True)
    for name in names:
        _extract(archive, members[name], raw / f"{name}.npy")
    if layout != "csr":
        _sort(file, layout, shape, raw, to)
        shutil.rmtree(raw)
    return NpyCsr(to.folder, shape, str(file), spare=layout == "csr")


def _sort(file: Path, layout: str, shape: tuple[int, ...], raw: Path, to: Unpacking) -> None:
    """Convert COO or CSC to CSR."""
    names = ("row", "col") if layout == "coo" else ("indices", "indptr")
    data, first, second = (np.load(raw / f"{name}.npy", mmap_mode="r") for name in ("data", *names))
    n, d = shape
    dtype = block_dtype(native_dtype(data.dtype, str(file)))
    entries = len(data)
    if layout == "csc" and len(second):  # there may be more room than entries
        entries = min(entries, max(int(second[-1]), 0))
    sorter = to.sorter((n, d), dtype, entries, str(file))
    for start in range(0, entries, to.limits.triplets):
        stop = min(start + to.limits.triplets, entries)
        rows = np.asarray(first[start:stop])
        if layout == "coo":
            columns = np.asarray(second[start:stop])
        else:
            columns = np.searchsorted(second, np.arange(start, stop), side="right") - 1
        for index, size, what in ((rows, n, "row"), (columns, d, "column")):
            if len(index) and (index.min() < 0 or index.max() >= size):
                raise CorruptDataError(f"{file} has a {what} index outside 0 to {size - 1}")
        sorter.add(rows, columns, np.asarray(data[start:stop]))
        to.tell(stop, entries)
    sorter.finish()


def unpack_columns(columns: Source, to: Unpacking) -> Source:
    """Write a matrix that is stored by columns (V', sparse) as CSR files."""
    d, n = columns.shape
    entries = columns.nbytes // (columns.dtype.itemsize + 4)
    name = columns.describe()
    sorter = to.sorter((n, d), columns.dtype, entries, name)
    starts = columns.block_starts(16 * to.limits.triplets, columns.dtype.itemsize, d)
    for start, block in zip(starts.tolist(), columns.read_blocks(starts.tolist()), strict=False):
        assert isinstance(block, scipy.sparse.csr_array)
        lengths = np.diff(block.indptr)
        sorter.add(block.indices, start + np.repeat(np.arange(len(lengths)), lengths), block.data)
        to.tell(start + len(lengths), d)
    sorter.finish()
    return NpyCsr(to.folder, (n, d), name)


def _unpack_whole(
    file: Path, archive: zipfile.ZipFile, shape: tuple[int, ...], to: Unpacking
) -> Source:
    """Convert formats that SciPy converts in memory only (bsr, dia)."""
    stored = sum(item.file_size for item in archive.infolist())
    if 4 * stored > to.memory:
        raise MemoryPlanError(
            f"{file} is in a format that is read as a whole: that needs "
            f"{4 * stored / 1e6:,.0f} MB, and {to.memory / 1e6:,.0f} MB may be used; give more "
            f"(--memory), or save it as csr"
        )
    whole = scipy.sparse.load_npz(file)
    whole.data = whole.data.astype(block_dtype(native_dtype(whole.dtype, str(file))))
    found = as_csr(whole, str(file))
    for name in ("data", "indices", "indptr"):
        np.save(to.folder / f"{name}.npy", getattr(found, name))
    return NpyCsr(to.folder, shape, str(file))
