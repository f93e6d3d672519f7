"""Dask arrays as sources, of every chunking and kind of chunk."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import dask.array as da
import numpy as np
import scipy.sparse as sp

from dnmf.interop import as_source
from dnmf.sources import Source
from dnmf.testing.source_contract import SourceContract

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


class TestDense(SourceContract):
    kind = "dask"
    dtypes = ("float32", "float16", "float64", "bool", ">f4", *INTEGERS)
    block_dtypes: ClassVar = {">f4": "float32"}
    transposes = True

    def make(self, V: np.ndarray, folder: Path) -> Source:
        return as_source(da.from_array(V, chunks=(40, 17)))


class TestRaggedUnknownRows(SourceContract):
    kind = "dask"
    transposes = True

    def make(self, V: np.ndarray, folder: Path) -> Source:
        n, d = V.shape
        x = da.from_array(V, chunks=((0, 1, 70, n - 72, 0, 1), (d - 5, 0, 5)))
        return as_source(x[da.from_array(np.ones(n, bool), chunks=n)])


class TestCsr(SourceContract):
    kind = "dask"
    dtypes = ("float32", "float64", "bool", *INTEGERS)

    def make(self, V: np.ndarray, folder: Path) -> Source:
        return as_source(da.from_array(V, chunks=(40, 17)).map_blocks(sp.csr_array))

    def make_large(self, V: np.ndarray, folder: Path) -> Source:
        return as_source(da.from_array(V, chunks=(300, 170)).map_blocks(sp.csr_array))


class TestCsrMatrixWholeRows(SourceContract):
    kind = "dask"

    def make(self, V: np.ndarray, folder: Path) -> Source:
        return as_source(da.from_array(V, chunks=(31, -1)).map_blocks(sp.csr_matrix))
