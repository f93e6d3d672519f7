"""What dnmf takes from numba's private parts is there and means what it did."""

from __future__ import annotations

from pathlib import Path

import numba
import pytest
from numba.core.runtime import rtsys

from dnmf.linalg.numba_private import cgutils, compiled


def added(x, n):
    return x + n


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    return compiled(added, nogil=True)


def test_the_parts_are_there(kernel, tmp_path: Path) -> None:
    """A name that is gone would else be seen as a kernel that every process compiles again."""
    cache = kernel._cache
    assert Path(cache.cache_path).is_relative_to(tmp_path)
    assert "added" in cache._impl.filename_base
    assert cache._cache_file._index_path.endswith(".nbi")
    with cache._guard_against_spurious_io_errors():
        assert callable(cache._load_overload)
    assert callable(rtsys.initialize)
    assert callable(cgutils.get_or_insert_function)


def test_numba_asks_the_disk_and_compiles_by_what_replaced_its_own(kernel, tmp_path) -> None:
    asked = []
    load = kernel._cache.load_overload
    kernel._cache.load_overload = lambda *args: asked.append(args) or load(*args)
    assert kernel(1.5, 2) == 3.5
    assert kernel(2.5, 2) == 4.5
    assert len(asked) == 1
    assert Path(kernel._cache._cache_file._index_path).exists()
    assert list(tmp_path.rglob("*added*.lock"))  # of the one that compiled
    again = compiled(added, nogil=True)
    assert again(1.5, 2) == 3.5
    assert sum(again.stats.cache_hits.values()) == 1


def test_a_literal_number_shares_the_code_of_any_number(kernel) -> None:
    @numba.njit
    def caller(x, n):
        return kernel(x, 0) + kernel(x, n)

    assert caller(1.5, 2) == 5.0
    assert len(kernel.signatures) == 1
