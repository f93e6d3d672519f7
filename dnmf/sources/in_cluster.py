"""V in the memory of a cluster and nowhere else: a run knows its shape, and nothing reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NoReturn

import numpy as np

from dnmf.errors import InputError
from dnmf.sources.base import Matrix, Source

__all__ = ["InClusterSource"]


class InClusterSource(Source):
    """A Dask array as a worker knows it, which is handed its blocks.

    Parameters
    ----------
    spec : dict
        ``shape``, ``dtype``, ``sparse``, ``nbytes``, ``description`` and ``metadata``.
    """

    kind: ClassVar[str] = "in_cluster"
    in_cluster = True

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._spec = dict(spec)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Source:
        return cls(spec)

    @property
    def shape(self) -> tuple[int, int]:
        n, d = self._spec["shape"]
        return int(n), int(d)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self._spec["dtype"])

    @property
    def is_sparse(self) -> bool:
        return bool(self._spec["sparse"])

    @property
    def nbytes(self) -> int:
        return int(self._spec["nbytes"])

    @property
    def persistent(self) -> bool:
        return True

    def _refuse(self) -> NoReturn:
        raise InputError(
            f"{self.describe()} was only in the memory of a cluster that is gone; pass the same "
            f"array again: dnmf.fit(V, ..., out=..., resume=True)"
        )

    def block_starts(self, block_size: int, itemsize: int, max_rows: int) -> np.ndarray:
        self._refuse()

    def block_bytes(self, start: int, stop: int) -> int:
        self._refuse()

    def read_overhead(self, start: int, stop: int, alone: bool = False) -> int:
        self._refuse()

    def read_blocks(self, starts: Sequence[int]) -> Iterator[Matrix]:
        self._refuse()

    def unstored(self, start: int, stop: int, V: Matrix | None, begun: bool = False) -> list[str]:
        return []

    def transposed(self) -> Source | None:
        return None

    def describe(self) -> str:
        return str(self._spec["description"])

    def metadata(self) -> dict[str, Any]:
        return dict(self._spec["metadata"])

    def spec(self) -> Mapping[str, Any]:
        return self._spec
