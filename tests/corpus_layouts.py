"""Layouts of the corpus of damaged stores, and what they hold by the word of others than dnmf."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse as sp
import zarr

from dnmf.testing.layouts import write_compressed, write_dense

N, D = 60, 12


def matrix() -> np.ndarray:
    """Without zeros, so that nothing that is missing could pass for one."""
    rng = np.random.default_rng(3)
    return (rng.integers(1, 9, (N, D)) + rng.random((N, D))).astype("f4")


def sparse() -> sp.csr_array:
    rng = np.random.default_rng(4)
    V = matrix() * (rng.random((N, D)) < 0.4)
    V[0, 0] = V[-1, -1] = 2  # the first and the last row have entries
    return sp.csr_array(V)


def _dense(**options: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        write_dense(path, matrix(), (10, 7), **options)

    return write


def _compressed(**options: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        write_compressed(path, options.pop("V", sparse()), 70, **options)

    return write


def _anndata(path: Path) -> None:
    import anndata

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        anndata.AnnData(X=sp.csr_matrix(sparse())).write_zarr(path)


def _blosc(version: int) -> Any:
    if version == 2:
        import numcodecs

        return {"zarr_format": 2, "compressors": numcodecs.Blosc("lz4", shuffle=1)}
    return {"compressors": zarr.codecs.BloscCodec(cname="zstd")}


LAYOUTS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "zarr": ("V.zarr", _dense()),
    "zarr-raw": ("V.zarr", _dense(compressors=None)),
    "zarr-blosc": ("V.zarr", _dense(**_blosc(3))),
    "zarr-gzip": ("V.zarr", _dense(compressors=zarr.codecs.GzipCodec())),
    "zarr-crc": ("V.zarr", _dense(compressors=zarr.codecs.Crc32cCodec())),
    "zarr-v2": ("V.zarr", _dense(**_blosc(2))),
    "zarr-v2-raw": ("V.zarr", _dense(zarr_format=2, compressors=None)),
    "zarr-shards": ("V.zarr", lambda p: write_dense(p, matrix(), (5, 6), (20, 12)) and None),
    "csr": ("V.zarr", _compressed()),
    "csr-raw": ("V.zarr", _compressed(compressors=None, indptr_chunk=20)),
    "csr-v2": ("V.zarr", _compressed(zarr_format=2, indptr_chunk=20)),
    "csr-wide": ("V.zarr", _compressed(index_dtype="i8", compressors=None)),
    "csc": ("V.zarr", _compressed(V=sparse().tocsc())),
    "anndata": ("V.zarr", _anndata),
    "npy": ("V.npy", lambda p: np.save(p, matrix())),
    "npy-columns": ("V.npy", lambda p: np.save(p, np.asfortranarray(matrix()))),
    "npz-csr": ("V.npz", lambda p: sp.save_npz(p, sp.csr_array(sparse()))),
    "npz-csr-raw": ("V.npz", lambda p: sp.save_npz(p, sp.csr_array(sparse()), compressed=False)),
    "npz-coo": ("V.npz", lambda p: sp.save_npz(p, sparse().tocoo(), compressed=False)),
    "npz-csc": ("V.npz", lambda p: sp.save_npz(p, sparse().tocsc(), compressed=False)),
    "npz-dense": ("V.npz", lambda p: np.savez(p, V=matrix())),
    "mtx": ("V.mtx", lambda p: scipy.io.mmwrite(p, sparse().tocoo())),
}
"""Name: name of the store, and what writes it."""

CONVERTED = tuple(name for name in LAYOUTS if name.startswith(("npz", "mtx")))
SPARSE = ("csr", "csr-raw", "csr-v2", "csr-wide", "csc")


class AbsentError(Exception):
    """The store does not say what V is: no answer but the undamaged one is right."""


def stored(layout: str, path: Path) -> np.ndarray:
    """V as it is stored now, read by others than dnmf; raises where that cannot be."""
    kind = layout.partition("-")[0]
    if kind == "npy":
        return _checked(np.load(path, allow_pickle=False))
    if kind == "npz":
        return _npz(path)
    if kind == "mtx":
        return _checked(scipy.io.mmread(path).toarray())
    if kind == "zarr":
        return _checked(_whole(zarr.open_array(path, mode="r")))
    group = zarr.open_group(path / "X" if kind == "anndata" else path, mode="r")
    parts = [_whole(group[name]) for name in ("data", "indices", "indptr")]
    return _compressed_dense(*parts, tuple(group.attrs["shape"]), group.attrs["encoding-type"])


def _whole(array: Any) -> np.ndarray:
    if array.nchunks_initialized != array.nchunks or array.size > 10**6:
        raise AbsentError
    return np.asarray(array[:])


def _npz(path: Path) -> np.ndarray:
    with np.load(path, allow_pickle=False) as file:
        if "format" not in file:
            (only,) = (file[name] for name in file.files if file[name].ndim == 2)
            return _checked(only)
        kind, shape = file["format"].item(), tuple(file["shape"].tolist())
        if kind in (b"csr", b"csc"):
            parts = [file[name] for name in ("data", "indices", "indptr")]
            return _compressed_dense(*parts, shape, kind.decode())
        V = np.zeros(shape)
        np.add.at(V, (_index(file["row"], shape[0]), _index(file["col"], shape[1])), file["data"])
        return _checked(V)


def _compressed_dense(
    data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, shape: Any, encoding: str
) -> np.ndarray:
    """What CSR or CSC arrays say, by the letter."""
    lines, entries = shape if encoding.startswith("csr") else shape[::-1]
    steps = np.diff(indptr.astype("i8"))
    right = len(indptr) == lines + 1 and indptr[0] == 0 and (steps >= 0).all()
    if not right or not indptr[-1] == len(data) == len(indices) or data.ndim != 1:
        raise AbsentError
    V = np.zeros((lines, entries))
    np.add.at(V, (np.repeat(np.arange(lines), steps), _index(indices, entries)), data)
    return _checked(V if encoding.startswith("csr") else V.T)


def _index(values: np.ndarray, size: int) -> np.ndarray:
    if values.dtype.kind not in "iu" or (
        len(values) and not 0 <= values.min() <= values.max() < size
    ):
        raise AbsentError
    return values


def _checked(V: np.ndarray) -> np.ndarray:
    if V.ndim != 2 or V.dtype.kind not in "buif" or V.dtype.itemsize > 8 or not V.size:
        raise AbsentError
    V = V.astype(float)
    if not (np.isfinite(V).all() and V.min() >= 0 and V.any()):
        raise AbsentError
    return V
