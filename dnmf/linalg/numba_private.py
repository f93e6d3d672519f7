"""The parts of numba that are not in its public interface, in this module alone.

They were read in numba 0.68; ``pyproject.toml`` leaves out later ones than 0.68, and
``tests/linalg/test_numba_private.py`` fails where one of them is gone or means something else.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["cgutils", "compiled", "inlined"]


def _use_writable_cache() -> None:
    """Point numba's cache to a temporary folder where the package is read-only."""
    if "NUMBA_CACHE_DIR" in os.environ or os.access(Path(__file__).parent, os.W_OK):
        return
    fallback = Path(tempfile.gettempdir()) / f"dnmf-numba-{os.getuid()}"
    fallback.mkdir(mode=0o700, exist_ok=True)
    if fallback.stat().st_uid == os.getuid():  # never load code that somebody else put there
        os.environ["NUMBA_CACHE_DIR"] = str(fallback)


_use_writable_cache()

from numba import njit, types  # noqa: E402
from numba.core import cgutils  # noqa: E402
from numba.core.runtime import rtsys  # noqa: E402

from dnmf.linalg.compile_lock import CompileLock  # noqa: E402


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Compile a function where the disk does not have it, and keep it there.

    What is taken from the disk was compiled for the arguments of the call. Two processes that
    compile a function for different types at once may both call their files by one number.
    Whoever loads by the index that stays then gets code for other types or strides, which numba
    runs: wrong numbers, or what lies behind the array.

    Of processes that need one function at once, one compiles: workers that start together would
    all.

    A kernel that calls the function with a 0 shares the code for any number: numba would compile
    it for the literal as well, and all that it calls with that, which took half of a first fit's
    seconds.

    Parameters
    ----------
    function : callable
    **options
        Options of `numba.njit`.
    """
    dispatcher = njit(cache=True, **options)(function)
    cache = dispatcher._cache
    template = dispatcher.get_call_template
    compilation = dispatcher.compile
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
    dispatcher.compile = compile_once
    dispatcher.get_call_template = get_call_template
    return dispatcher


def _from_disk(cache: Any, asked: Any, context: Any) -> Any:
    """Return what numba's ``load_overload`` does, without what only a compilation needs.

    Numba first imports and registers all that it can compile, which takes 0.3 s of every process
    and is needed by no compiled kernel but for the runtime that counts references to arrays.
    A compilation does that again where the disk has nothing.
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


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function into whatever calls it, before that is compiled."""
    return njit(inline="always", error_model="numpy")(function)
