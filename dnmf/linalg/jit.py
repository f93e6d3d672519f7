"""The compilation of kernels: without the GIL, cached on disk, reproducible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from dnmf.linalg import numba_private

__all__ = ["csr_arrays", "fused_kernel", "inlined", "kernel", "offsets", "unlocked"]

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile with numba: nogil, cached, no fast-math, so that sums keep their order."""
    compiled: Function = numba_private.compiled(function, nogil=True, error_model="numpy")
    return compiled


def fused_kernel(function: Function) -> Function:
    """Compile a kernel with small inner sums, which the compiler may put into vectors.

    Their order is that of the processor's vectors: one order wherever the numeric fingerprint is
    one, as with BLAS. Nothing is assumed about infinities and NaN.
    """
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc"}}
    compiled: Function = numba_private.compiled(function, **options)
    return compiled


def inlined(function: Function) -> Function:
    """Put a part of a kernel into it before compilation: it sees the kernel's constants."""
    compiled: Function = numba_private.inlined(function)
    return compiled


class _Unlocked:
    """The memory of an array, which it keeps alive, as one that may be written."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def unlocked(array: np.ndarray) -> np.ndarray:
    """Return an array's memory typed as writable, for kernels that only read it.

    To numba an array that is locked has another type, for which it compiles everything once more:
    what lies in memory would share no code with what comes from storage or from Dask.
    """
    if array.flags.writeable:
        return array
    return np.asarray(_Unlocked(array))


def offsets(indptr: np.ndarray) -> np.ndarray:
    """Return the indptr of CSR as int64, whatever the indices have: one type for kernels."""
    return unlocked(np.asarray(indptr, np.int64))


def csr_arrays(V: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return data, indices and indptr of a block, for kernels that only read them."""
    return unlocked(V.data), unlocked(V.indices), offsets(V.indptr)
