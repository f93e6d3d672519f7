"""Sparse matrices in Zarr that are stored by columns (CSC)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from dnmf.errors import InputError
from dnmf.sources.base import Matrix, Source
from dnmf.sources.compressed import CompressedArrays
from dnmf.sources.csr import block_dtype
from dnmf.sources.filled_rows import filled_rows
from dnmf.sources.zarr_csr import ZarrCSR

__all__ = ["ZarrCSC"]


class ZarrCSC(Source):
    """V as CSC: only its columns can be read in order, so only `transposed` reads.

    Parameters
    ----------
    arrays : CompressedArrays
        CSC.
    """

    kind = "zarr_csc"
    is_sparse = True
    by_rows = False

    def __init__(self, arrays: CompressedArrays) -> None:
        if arrays.encoding != "csc_matrix":
            raise InputError(f"{arrays.location.name} is stored by rows ({arrays.encoding})")
        super().__init__(arrays.shape[::-1], block_dtype(arrays.data.dtype))
        self._arrays = arrays

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Self:
        return cls(CompressedArrays.from_spec(spec))

    @property
    def nonzeros(self) -> int:
        return self._arrays.nonzeros

    @property
    def nbytes(self) -> int:
        return ZarrCSR(self._arrays).nbytes

    @property
    def persistent(self) -> bool:
        return self._arrays.location.shared

    def block_starts(self, block_size: int, itemsize: int, max_rows: int) -> np.ndarray:
        raise self._no_rows()

    def block_bytes(self, start: int, stop: int) -> int:
        raise self._no_rows()

    def read_overhead(self, start: int, stop: int, alone: bool = False) -> int:
        raise self._no_rows()

    def read_blocks(self, starts: Sequence[int]) -> Iterator[Matrix]:
        raise self._no_rows()

    def unstored(self, start: int, stop: int, V: Matrix | None, begun: bool = False) -> list[str]:
        raise self._no_rows()

    def transposed(self) -> Source | None:
        return ZarrCSR(self._arrays)

    def filled_columns(self, times: int) -> Source | None:
        return filled_rows(self._arrays, times)

    def describe(self) -> str:
        return self._arrays.describe(self.shape)

    def metadata(self) -> dict[str, Any]:
        return {"kind": self.kind, **self._arrays.metadata()}

    def spec(self) -> Mapping[str, Any]:
        return self._arrays.location.spec(self.kind)

    def _no_rows(self) -> InputError:
        return InputError(
            f"{self._arrays.location.name} is stored by columns (csc_matrix), so its rows cannot "
            "be read one after the other; read it by columns (transposed), or convert it "
            "(dnmf convert --to csr)"
        )
