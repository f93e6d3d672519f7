"""Tests of what every source must do: inherit a class and say how to make the source.

Example::

    class TestMySource(SourceContract):
        kind = "mine"
        dtypes = ("float32", "int16")

        def make(self, V, folder):
            write_mine(folder / "V", V)
            return open_source(folder / "V")
"""

from __future__ import annotations

import gc
import json
import pickle
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import scipy.sparse as sp

from dnmf.errors import InputError
from dnmf.sources import SOURCES, Source, from_spec
from dnmf.sources.base import Matrix
from dnmf.testing.counting import CountingStore

__all__ = ["ColumnsOnlyContract", "SourceContract", "as_dense", "read", "sample_matrix"]


def sample_matrix(dtype: str = "float32", n: int = 157, d: int = 43, seed: int = 0) -> np.ndarray:
    """Draw (n, d), one entry in four not zero, with rows and columns of zeros; read-only."""
    rng = np.random.default_rng(seed)
    V = rng.integers(1, 100, (n, d)) * (rng.random((n, d)) < 0.25)
    V[n // 3 : n // 3 + 2] = 0
    V[:, d // 2] = 0
    V[0] = V[-1] = 1  # chunks at the borders are not all zero
    out = V.astype(dtype)
    out.flags.writeable = False
    return out


def as_dense(block: Matrix) -> np.ndarray:
    """Return a block as an array."""
    return block if isinstance(block, np.ndarray) else block.toarray()


def read(source: Source, starts: list[int] | None = None) -> np.ndarray:
    """Read some or all of V, block by block."""
    cuts = [0, source.shape[0]] if starts is None else starts
    return np.concatenate([as_dense(block) for block in source.read_blocks(cuts)])


SLACK = 1_000_000
"""Bytes of Python's own objects, in this and other threads of a long test session, beside
matrices of 8 to 16 MB."""


class SourceContract:
    """Tests of a source; a subclass gives ``kind`` and ``make``, and other hooks if they apply.

    Attributes
    ----------
    kind : str
        Name in the registry.
    dtypes : tuple of str
        Stored dtypes to test.
    transposes : bool
        Whether `transposed` gives a source.
    block_dtypes : dict
        Where blocks have another dtype than the stored one.
    """

    kind: ClassVar[str]
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64")
    transposes: ClassVar[bool] = False
    block_dtypes: ClassVar[dict[str, str]] = {}

    def make(self, V: np.ndarray, folder: Path) -> Source:
        """Make a source whose matrix is V; it may store V in the (empty) folder."""
        raise NotImplementedError

    def make_counting(self, V: np.ndarray) -> tuple[Source, CountingStore] | None:
        """Make a source that reads through a counting store; None if it uses no Zarr."""
        return None

    @pytest.fixture
    def V(self) -> np.ndarray:
        return sample_matrix(self.dtypes[0])

    @pytest.fixture
    def source(self, V: np.ndarray, tmp_path: Path) -> Source:
        return self.make(V, tmp_path)

    def test_every_dtype(self, tmp_path: Path) -> None:
        for dtype in self.dtypes:
            V = sample_matrix(dtype)
            folder = tmp_path / dtype
            folder.mkdir()
            source = self.make(V, folder)
            expected = np.dtype(self.block_dtypes.get(dtype, dtype))
            blocks = list(source.read_blocks([0, 50, 157]))
            assert source.dtype == expected
            assert {block.dtype for block in blocks} == {expected}
            np.testing.assert_array_equal(np.concatenate([as_dense(b) for b in blocks]), V)

    def test_says_what_it_is(self, source: Source, V: np.ndarray) -> None:
        assert isinstance(source, Source)
        assert source.kind == self.kind
        assert SOURCES[self.kind].endswith(f":{type(source).__name__}")
        assert source.shape == V.shape
        assert str(source.shape[0]) in source.describe()
        assert "\n" not in source.describe()
        assert json.loads(json.dumps(source.metadata())) == source.metadata()

    def test_reads_the_same_with_any_cuts(self, source: Source, V: np.ndarray) -> None:
        rng = np.random.default_rng(1)
        for count in (2, 3, 10, 157):
            inner = rng.choice(np.arange(1, 157), count - 1, replace=False)
            starts = [0, *np.sort(inner).tolist(), 157]
            for (a, b), block in zip(pairwise(starts), source.read_blocks(starts), strict=True):
                assert block.shape == (b - a, V.shape[1])
                np.testing.assert_array_equal(as_dense(block), V[a:b])

    def test_reads_from_the_middle(self, source: Source, V: np.ndarray) -> None:
        np.testing.assert_array_equal(read(source, [31, 32, 90, 101]), V[31:101])
        np.testing.assert_array_equal(read(source, [156, 157]), V[156:])

    def test_blocks_are_canonical(self, source: Source) -> None:
        for block in source.read_blocks([0, 60, 157]):
            assert isinstance(block, sp.csr_array) == source.is_sparse
            if isinstance(block, np.ndarray):
                assert block.flags.c_contiguous
                assert block.dtype.isnative
            else:
                assert block.indices.dtype == block.indptr.dtype == np.int32
                fresh = sp.csr_array((block.data, block.indices, block.indptr), block.shape)
                assert fresh.has_canonical_format

    def test_blocks_do_not_give_access_to_the_data(self, source: Source, V: np.ndarray) -> None:
        for block in source.read_blocks([0, 100, 157]):
            for values in [block] if isinstance(block, np.ndarray) else [block.data]:
                if values.flags.writeable:
                    values[...] = 99
        np.testing.assert_array_equal(read(source), V)

    def test_cuts(self, source: Source) -> None:
        for block_size in (1, 2000, 10_000, 10**9):
            for max_rows in (1, 20, 10**6):
                self._check_cuts(source, block_size, max_rows)

    def _check_cuts(self, source: Source, block_size: int, max_rows: int) -> None:
        starts = source.block_starts(block_size, 8, max_rows)
        assert starts.dtype == np.int64
        assert starts[0] == 0
        assert starts[-1] == source.shape[0]
        assert (np.diff(starts) > 0).all()
        np.testing.assert_array_equal(source.block_starts(block_size, 8, max_rows), starts)
        least = source.block_starts(1, 8, 1)  # what cannot be cut further
        tallest = int(np.diff(least).max())
        assert np.diff(starts).max() <= max(tallest, max_rows)
        for a, b in pairwise(starts.tolist()):
            if b - a > tallest:  # more than one unit: then it fits
                assert self._size(source, a, b, 8) <= block_size

    def _size(self, source: Source, a: int, b: int, itemsize: int) -> int:
        if not source.is_sparse:
            return (b - a) * source.shape[1] * itemsize
        (block,) = source.read_blocks([a, b])
        assert not isinstance(block, np.ndarray)
        return block.nnz * (itemsize + 4)

    def test_bytes_add_up(self, source: Source) -> None:
        starts = source.block_starts(3000, 8, 50).tolist()
        total = sum(source.block_bytes(a, b) for a, b in pairwise(starts))
        last_offset = 8 if source.is_sparse else 0  # indptr has one more entry than rows
        assert total <= source.nbytes <= total + last_offset
        assert all(source.read_overhead(a, b) >= 0 for a, b in pairwise(starts))

    def test_pickle(self, source: Source, V: np.ndarray) -> None:
        read(source, [0, 10])  # handles that reading opened do not travel
        copy = pickle.loads(pickle.dumps(source))
        np.testing.assert_array_equal(read(copy), V)
        assert copy.metadata() == source.metadata()
        if source.persistent:
            assert len(pickle.dumps(source)) < 8000

    def test_spec(self, source: Source, V: np.ndarray) -> None:
        if not source.persistent:
            with pytest.raises(InputError, match="process"):
                source.spec()
            return
        copy = from_spec(json.loads(json.dumps(source.spec())))
        assert type(copy) is type(source)
        assert copy.metadata() == source.metadata()
        np.testing.assert_array_equal(read(copy), V)

    def test_transposed(self, source: Source, V: np.ndarray) -> None:
        other = source.transposed()
        assert (other is not None) == self.transposes
        if other is None:
            return
        assert other.shape == V.T.shape
        starts = other.block_starts(5000, 8, 10**6).tolist()
        np.testing.assert_array_equal(read(other, starts), V.T)
        assert all(b.flags.c_contiguous for b in other.read_blocks(starts))
        back = other.transposed()
        assert back is not None
        np.testing.assert_array_equal(read(back), V)

    def test_nothing_is_missing(self, source: Source) -> None:
        starts = [0, 55, 157]
        for (a, b), block in zip(pairwise(starts), source.read_blocks(starts), strict=True):
            assert source.unstored(a, b, block) == []
            assert source.unstored(a, b, block.astype(np.float64)) == []

    def test_many_threads_read_the_same(self, source: Source, V: np.ndarray) -> None:
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(lambda a: read(source, [a, a + 20, a + 57]), range(0, 100, 5)):
                assert found.shape == (57, V.shape[1])
            whole = list(pool.map(lambda _: read(source), range(4)))
        for found in whole:
            np.testing.assert_array_equal(found, V)

    def test_every_chunk_is_read_once(self, V: np.ndarray) -> None:
        made = self.make_counting(V)
        if made is None:
            assert "zarr" not in self.kind
            return
        source, store = made
        for starts in ([0, 157], [0, 1, 2, 80, 157], list(range(158))):
            store.reset()
            np.testing.assert_array_equal(read(source, starts), V)
            reads = store.chunk_reads()
            assert reads
            assert max(reads.values()) == 1, reads

    def make_large(self, V: np.ndarray, folder: Path) -> Source:
        """Make a source of a matrix of 8 MB, where small chunks would be slow."""
        return self.make(V, folder)

    def test_overhead_is_honest(self, tmp_path: Path) -> None:
        V = sample_matrix(self.dtypes[0], 4001, 501)
        source = self.make_large(V, tmp_path)
        for starts in _some_cuts(source):
            read(source, starts)  # imports and caches
            most = np.array([source.read_overhead(a, b) + SLACK for a, b in pairwise(starts)])
            peaks = np.full(len(most), np.inf)
            for _ in range(3):  # other threads of the process add to a peak: the lowest counts
                peaks = np.minimum(peaks, list(_peaks(source, starts)))
                if np.all(peaks <= most):
                    break
            assert np.all(peaks <= most), (peaks, most)


def _some_cuts(source: Source) -> list[list[int]]:
    n = source.shape[0]
    aligned = source.block_starts(2_000_000, 8, 10**6).tolist()
    return [aligned, [0, n // 3, n // 2, n], [0, n]]


def _peaks(source: Source, starts: list[int]) -> Iterator[int]:
    """Return the bytes at the peak of reading each block, beyond the block."""
    gc.collect()
    tracemalloc.start()
    try:
        base = tracemalloc.get_traced_memory()[0]
        blocks = source.read_blocks(starts)
        for _ in pairwise(starts):
            tracemalloc.reset_peak()
            block = next(blocks)
            current, peak = tracemalloc.get_traced_memory()
            arrays = [block] if isinstance(block, np.ndarray) else vars(block).values()
            size = sum(a.nbytes for a in arrays if isinstance(a, np.ndarray))
            yield peak - base - min(size, current - base)  # a view takes no memory
            del block, arrays
    finally:
        tracemalloc.stop()


class ColumnsOnlyContract:
    """Tests of a source whose rows cannot be read, only its transpose.

    Hooks: ``kind`` and ``make`` as in `SourceContract`.
    """

    kind: ClassVar[str]

    def make(self, V: np.ndarray, folder: Path) -> Source:
        raise NotImplementedError

    def test_only_the_transpose_reads(self, tmp_path: Path) -> None:
        V = sample_matrix()
        source = self.make(V, tmp_path)
        assert isinstance(source, Source)
        assert source.kind == self.kind
        assert source.shape == V.shape
        for refused in (
            lambda: source.block_starts(100, 8, 10),
            lambda: source.read_blocks([0, 157]),
            lambda: source.block_bytes(0, 157),
            lambda: source.read_overhead(0, 157),
        ):
            with pytest.raises(InputError, match="by columns"):
                refused()
        other = source.transposed()
        assert other is not None
        np.testing.assert_array_equal(read(other), V.T)
        assert other.nbytes == source.nbytes

    def test_pickle_and_spec(self, tmp_path: Path) -> None:
        V = sample_matrix()
        source = self.make(V, tmp_path)
        for copy in (pickle.loads(pickle.dumps(source)), from_spec(source.spec())):
            assert type(copy) is type(source)
            assert copy.metadata() == source.metadata()
            other = copy.transposed()
            assert other is not None
            np.testing.assert_array_equal(read(other), V.T)
