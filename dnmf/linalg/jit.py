"""How kernels are compiled: without the GIL, cached on disk, reproducibly."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["csr_arrays", "fused_kernel", "inlined", "kernel", "offsets", "unlocked"]

Function = TypeVar("Function", bound=Callable[..., Any])


def _use_writable_cache() -> None:
    """Point numba's cache to a temporary folder where the package is read-only."""
    if "NUMBA_CACHE_DIR" in os.environ or os.access(Path(__file__).parent, os.W_OK):
        return
    fallback = Path(tempfile.gettempdir()) / f"dnmf-numba-{os.getuid()}"
    fallback.mkdir(mode=0o700, exist_ok=True)
    if fallback.stat().st_uid == os.getuid():  # never load code that somebody else put there
        os.environ["NUMBA_CACHE_DIR"] = str(fallback)


_use_writable_cache()

import numpy as np  # noqa: E402
from numba import njit, types  # noqa: E402
from numba.core.runtime import rtsys  # noqa: E402

from dnmf.linalg.compile_lock import CompileLock  # noqa: E402


def kernel(function: Function) -> Function:
    """Compile with numba: nogil, cached, no fast-math, so that sums keep their order."""
    return _cached(njit(nogil=True, cache=True, error_model="numpy")(function))


def _cached(compiled: Any) -> Any:
    """The same function, which takes from the cache only what was compiled for its arguments.

    Two processes that compile a function for different types at once may both call their files
    by one number. Whoever loads by the index that stays then gets code for other types or strides,
    which numba runs: wrong numbers, or what lies behind the array.

    Of processes that need the same at once, one compiles: workers that start together would all.

    A kernel that calls it with a 0 shares the code for any number: numba would compile it for the
    literal as well, and all that it calls with that, which took half of a first fit's seconds.
    """
    cache = compiled._cache
    template = compiled.get_call_template
    compilation = compiled.compile
    lock = CompileLock(os.path.join(cache.cache_path, f"{cache._impl.filename_base}.lock"))

    def load_overload(asked: Any, context: Any) -> Any:
        found = _from_disk(cache, asked, context)
        if found is None:
            lock.acquire()
            found = _from_disk(cache, asked, context)
        return found  # None: compiled again, and written over what was wrong

    def compile_once(signature: Any) -> Any:
        try:
            return compilation(signature)
        finally:
            lock.release()

    def get_call_template(args: Any, kws: Any) -> Any:
        return template(
            [types.unliteral(kind) for kind in args],
            {name: types.unliteral(kws[name]) for name in kws},
        )

    cache.load_overload = load_overload
    compiled.compile = compile_once
    compiled.get_call_template = get_call_template
    return compiled


def _from_disk(cache: Any, asked: Any, context: Any) -> Any:
    """What numba's ``load_overload`` returns, without what only a compilation needs.

    Numba first imports and registers all that it can compile, which takes 0.3 s of every process
    and is needed by no compiled kernel but for the runtime that counts references to arrays.
    A compilation does the same again where the disk has nothing.
    """
    rtsys.initialize(context)
    try:
        with cache._guard_against_spurious_io_errors():
            found = cache._load_overload(asked, context)
    except MemoryError:
        raise
    except Exception:  # cut off by a full disk or a power failure: it would fail for ever
        with suppress(OSError):
            os.unlink(cache._cache_file._index_path)
        return None
    if found is not None and tuple(found.signature.args) == tuple(asked):
        return found
    return None


def inlined(function: Function) -> Function:
    """A part of a kernel, put into it before compilation: it sees the kernel's constants."""
    compiled: Function = njit(inline="always", error_model="numpy")(function)
    return compiled


def fused_kernel(function: Function) -> Function:
    """The same for small inner sums, which the compiler may put into vectors.

    Their order is that of the processor's vectors: the same wherever the numeric fingerprint is,
    as with BLAS. Nothing is assumed about infinities and NaN.
    """
    options = {"nogil": True, "cache": True, "error_model": "numpy"}
    return _cached(njit(**options, fastmath={"contract", "reassoc"})(function))


class _Unlocked:
    """The memory of an array, which it keeps alive, as one that may be written."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def unlocked(array: np.ndarray) -> np.ndarray:
    """The same memory with the type of an array that may be written, for kernels that only read it.

    To numba an array that is locked has another type, for which it compiles everything once more:
    what lies in memory would share no code with what comes from storage or from Dask.
    """
    if array.flags.writeable:
        return array
    return np.asarray(_Unlocked(array))


def offsets(indptr: np.ndarray) -> np.ndarray:
    """The indptr of CSR as int64, whatever the indices have: one type for kernels."""
    return unlocked(np.asarray(indptr, np.int64))


def csr_arrays(V: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """data, indices and indptr of a block, for kernels that only read them."""
    return unlocked(V.data), unlocked(V.indices), offsets(V.indptr)
