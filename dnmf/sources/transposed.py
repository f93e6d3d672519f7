"""V' of dense matrices: blocks are columns of V, for chunks that are too tall to read by rows."""

from __future__ import annotations

from typing import ClassVar

from dnmf.sources.base import Source
from dnmf.sources.zarr_dense import ZarrDense

__all__ = ["ZarrColumns"]


class ZarrColumns(ZarrDense):
    """The transpose of a Zarr array, read in blocks of whole chunk-columns.

    Zarr decodes straight into the transposed block, so no second copy of it exists.
    """

    kind: ClassVar[str] = "zarr_columns"
    _axis: ClassVar[int] = 1

    def transposed(self) -> Source | None:
        return ZarrDense(self._stored, self._note)

    def describe(self) -> str:
        return f"transpose of {ZarrDense(self._stored, self._note).describe()}"
