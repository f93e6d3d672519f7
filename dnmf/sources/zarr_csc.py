"""Sparse matrices in Zarr that are stored by columns (CSC)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from dnmf.errors import InputError
from dnmf.sources.base import Matrix, Source
from dnmf.sources.compressed import CompressedArrays
from dnmf.sources.csr import block_dtype
from dnmf.sources.zarr_csr import ZarrCSR

__all__ = ["ZarrCSC"]


class ZarrCSC:
    """V as CSC: only its columns can be read in order, so only `transposed` reads.

    Parameters
    ----------
    arrays : CompressedArrays
        CSC.
    """

    kind: ClassVar[str] = "zarr_csc"

    def __init__(self, arrays: CompressedArrays) -> None:
        if arrays.encoding != "csc_matrix":
            raise InputError(f"{arrays.location.name} is stored by rows ({arrays.encoding})")
        self._arrays = arrays

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Self:
        return cls(CompressedArrays.from_spec(spec))

    @property
    def shape(self) -> tuple[int, int]:
        columns, rows = self._arrays.shape
        return rows, columns

    @property
    def dtype(self) -> np.dtype:
        return block_dtype(self._arrays.data.dtype)

    @property
    def is_sparse(self) -> bool:
        return True

    @property
    def nonzeros(self) -> int:
        """Stored entries."""
        return self._arrays.nonzeros

    @property
    def nbytes(self) -> int:
        return ZarrCSR(self._arrays).nbytes

    @property
    def persistent(self) -> bool:
        return self._arrays.location.shared

    def block_starts(self, block_size: int, itemsize: int, max_rows: int) -> np.ndarray:
        """Always refused, as is everything else that is about rows."""
        raise self._no_rows()

    def block_bytes(self, start: int, stop: int) -> int:
        raise self._no_rows()

    def read_overhead(self, start: int, stop: int, alone: bool = False) -> int:
        raise self._no_rows()

    def read_blocks(self, starts: Sequence[int]) -> Iterator[Matrix]:
        raise self._no_rows()

    def unstored(self, start: int, stop: int, V: Matrix) -> list[str]:
        raise self._no_rows()

    def transposed(self) -> Source | None:
        """V' as CSR, over the same arrays."""
        return ZarrCSR(self._arrays)

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
