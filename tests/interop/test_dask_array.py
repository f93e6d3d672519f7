"""Dask arrays as sources, of every chunking and kind of chunk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import dask
import dask.array as da
import numpy as np
import pytest
import scipy
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from dnmf.errors import DnmfError, InputError, TransientError
from dnmf.interop import as_source
from dnmf.interop.dask_array import DaskArraySource
from dnmf.sources import Source
from dnmf.testing.source_contract import SourceContract, as_dense, read, sample_matrix

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


def random_csr(seed: int = 0) -> sp.csr_array:
    """Unsorted and duplicate indices, explicit zeros, empty rows."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.integers(0, 30, 200))
    indptr = np.searchsorted(rows, np.arange(31)).astype(np.int64)
    data = rng.integers(0, 5, 200).astype(np.float32)
    return sp.csr_array((data, rng.integers(0, 20, 200), indptr), (30, 20))


def cuts(draw: st.DrawFn, length: int) -> tuple[int, ...]:
    """Sizes of chunks that fill a length, some of them perhaps empty."""
    edges = sorted(draw(st.lists(st.integers(0, length), max_size=6)))
    return tuple(np.diff([0, *edges, length]).tolist())


@st.composite
def chunkings(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return cuts(draw, 30), cuts(draw, 20)


class Counted:
    """Counts how often each chunk is computed, by its place."""

    def __init__(self, kind: Any) -> None:
        self.kind, self.calls = kind, Counter[tuple[int, ...]]()

    def __call__(self, block: np.ndarray, block_info: Any = None) -> Any:
        self.calls[block_info[0]["chunk-location"]] += 1
        return block if self.kind is None else self.kind(block)


@settings(deadline=None, max_examples=30)
@given(
    chunks=chunkings(),
    inner=st.lists(st.integers(1, 29), unique=True),
    kind=st.sampled_from([None, sp.csr_array, sp.csr_matrix, sp.csc_array, sp.coo_array]),
)
def test_any_chunking_and_any_cuts(
    chunks: Any, inner: list[int], kind: Callable[..., Any] | None
) -> None:
    """Right, and every chunk is computed once."""
    V = sample_matrix("float32", 30, 20)
    counted = Counted(kind)
    meta = np.empty((0, 0), np.float32)
    x = da.from_array(V, chunks=chunks).map_blocks(
        counted, dtype=np.float32, meta=meta if kind is None else kind(meta)
    )
    source = DaskArraySource(x)
    assert source.is_sparse == (kind is not None)
    starts = [0, *sorted(inner), 30]
    for a, b, block in zip(starts, starts[1:], source.read_blocks(starts), strict=False):
        np.testing.assert_array_equal(as_dense(block), V[a:b])
    computed = {(i, j) for i, h in enumerate(chunks[0]) for j, w in enumerate(chunks[1]) if h and w}
    assert counted.calls == Counter(computed)
    assert x.chunks == chunks


@pytest.mark.parametrize("chunks", [(30, 20), (7, 20), (30, 3), (4, 6)])
def test_csr_chunks_become_canonical_and_stay_as_they_are(chunks: tuple[int, int]) -> None:
    V = random_csr()
    parts = [
        [dask.delayed(V[a : a + chunks[0], b : b + chunks[1]]) for b in range(0, 20, chunks[1])]
        for a in range(0, 30, chunks[0])
    ]
    rows = [
        [
            da.from_delayed(part, part.compute().shape, meta=sp.csr_array((0, 0), dtype="float32"))
            for part in line
        ]
        for line in parts
    ]
    before = [part.compute().data.copy() for line in parts for part in line]
    x = da.concatenate([da.concatenate(line, axis=1) for line in rows])
    source = as_source(x)
    (block,) = source.read_blocks([0, 30])
    assert isinstance(block, sp.csr_array)
    fresh = sp.csr_array((block.data, block.indices, block.indptr), block.shape)
    assert fresh.has_canonical_format
    assert block.indices.dtype == np.int32
    np.testing.assert_array_equal(block.toarray(), V.toarray())
    after = [part.compute().data for line in parts for part in line]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_blocks_are_whole_rows_of_chunks() -> None:
    x = da.zeros((100, 10), chunks=(10, 3), dtype="float32")
    source = as_source(x)
    assert source.block_starts(1, 4, 1).tolist() == list(range(0, 101, 10))
    assert source.block_starts(10 * 10 * 4 * 3, 4, 1000).tolist() == [0, 30, 60, 90, 100]
    assert source.block_starts(10**6, 4, 25).tolist() == [0, 20, 40, 60, 80, 100]


def test_the_same_cuts_as_long_as_the_chunks_are_the_same() -> None:
    V = sample_matrix()
    one, other = (as_source(da.from_array(V, chunks=(c, 43))) for c in (40, 41))
    assert one.metadata() == as_source(da.from_array(V + 1, chunks=(40, 43))).metadata()
    assert one.metadata() != other.metadata()
    sparse = [
        as_source(da.from_array(M, chunks=(40, 43)).map_blocks(sp.csr_array)).metadata()
        for M in (V, V * 2, V * (np.arange(157) % 2)[:, None])
    ]
    assert sparse[0] == sparse[1]
    assert sparse[0] != sparse[2]


@pytest.mark.parametrize("sparse", [False, True])
def test_block_graph(sparse: bool) -> None:
    """What an executor may keep in memory: no more of the graph than the rows need."""
    V = sample_matrix()
    x = da.from_array(V, chunks=(40, 17))
    source = DaskArraySource(x.map_blocks(sp.csr_array) if sparse else x)
    starts = [0, 40, 55, 120]
    graph, keys = source.block_graph(starts)
    assert keys == source.block_graph(starts)[1]
    blocks = dask.get(graph, keys)
    for (a, b), block in zip(pairwise(starts), blocks, strict=True):
        assert isinstance(block, sp.csr_array) == sparse
        np.testing.assert_array_equal(as_dense(block), V[a:b])
    whole, _ = source.block_graph([0, 157])
    few, _ = source.block_graph([0, 40])
    assert len(few) <= 1 + 2 * 3 < 1 + 4 * 3 <= len(whole)


def test_read_with_the_scheduler_that_dask_is_told() -> None:
    used = []

    def scheduler(graph: Any, keys: Any, **options: Any) -> Any:
        used.append(keys)
        return dask.get(graph, keys, **options)

    V = sample_matrix()
    with dask.config.set(scheduler=scheduler):
        np.testing.assert_array_equal(read(as_source(da.from_array(V, chunks=40))), V)
    assert len(used) == 1


def broken(error: Exception) -> Callable[[np.ndarray], np.ndarray]:
    def compute(block: np.ndarray) -> np.ndarray:
        raise error

    return compute


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("bad"), InputError),
        (ConnectionError("bad"), TransientError),
        (FileNotFoundError("bad"), InputError),
        (InputError("bad"), InputError),
    ],
)
def test_what_fails_inside_is_said(error: Exception, kind: type[DnmfError]) -> None:
    x = da.zeros((20, 4), chunks=(5, 4)).map_blocks(
        broken(error), dtype=float, meta=np.empty((0, 0))
    )
    rows = "" if isinstance(error, InputError) else "rows 5 to 14"
    with pytest.raises(kind, match=f"{rows}.*bad"):
        list(as_source(x).read_blocks([5, 15]))


def test_memory_errors_stay_what_they_are() -> None:
    x = da.zeros((20, 4), chunks=(5, 4)).map_blocks(
        broken(MemoryError()), dtype=float, meta=np.empty((0, 0))
    )
    with pytest.raises(MemoryError):
        list(as_source(x).read_blocks([0, 20]))


def lying(function: Callable[[np.ndarray], Any], dtype: str = "float32") -> da.Array:
    """An array whose chunks are not what it says."""
    x = da.from_array(sample_matrix(), chunks=(50, 43))
    return x.map_blocks(function, dtype=dtype, meta=np.empty((0, 0), dtype))


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda b: b[1:], r"rows 0 to 49 .* shape \(49, 43\), but the array says \(50, 43\)"),
        (lambda b: b[:, 1:], r"shape \(50, 42\)"),
        (lambda b: b + 1j, "rows 0 to 49 .* dtype complex64, .* float32"),
        (sp.csr_array, r"csr_array, but .* says dense.*meta=scipy.sparse.csr_array\(\(0, 0\)\)"),
        (lambda b: np.ma.masked_equal(b, 0), "masked"),
    ],
)
def test_chunks_that_are_not_what_the_array_says(
    function: Callable[[np.ndarray], Any], text: str
) -> None:
    with pytest.raises(InputError, match=text):
        list(as_source(lying(function)).read_blocks([0, 157]))


def as_csr(function: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], Any]:
    return lambda block: sp.csr_array(function(block))


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("function", "dtype"),
    [
        (lambda b: b.astype("f8") / 3, "f4"),
        (lambda b: b.astype("f8"), "u1"),
        (lambda b: b.astype("i8"), "f4"),
        (lambda b: b.astype("u2"), "i1"),
        (lambda b: (b > 3).astype("i8"), "bool"),
    ],
)
def test_chunks_of_another_dtype_are_cast(function: Any, dtype: str, sparse: bool) -> None:
    V = sample_matrix().clip(0, 100).round()
    x = da.from_array(V, chunks=(50, 20))
    meta = sp.csr_array((0, 0), dtype=dtype) if sparse else np.empty((0, 0), dtype)
    x = x.map_blocks(as_csr(function) if sparse else function, dtype=dtype, meta=meta)
    source = as_source(x)
    starts = [0, 30, 157]
    np.testing.assert_array_equal(read(source, starts), function(V).astype(dtype))
    assert {block.dtype for block in source.read_blocks(starts)} == {np.dtype(dtype)}


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("value", "made", "said"),
    [
        (0.5, "f8", "i4"),
        (-1, "i8", "u2"),
        (300, "i4", "u1"),
        (np.nan, "f4", "i8"),
        (1e39, "f8", "f4"),
        (1e-60, "f8", "f4"),
        (2**24 + 1, "i8", "f4"),
        (2, "u1", "bool"),
    ],
)
def test_numbers_that_a_cast_would_change_are_refused(
    value: Any, made: str, said: str, sparse: bool
) -> None:
    """The remedy that is said is one."""
    V = np.zeros((20, 6), made)
    V[13, 4] = value

    def make(block: np.ndarray, block_info: Any = None) -> Any:
        (a, b), _ = block_info[0]["array-location"]
        return sp.csr_array(V[a:b]) if sparse else V[a:b]

    meta = sp.csr_array((0, 0), dtype=said) if sparse else np.empty((0, 0), said)
    x = da.zeros((20, 6), chunks=(5, 6)).map_blocks(make, dtype=said, meta=meta)
    with pytest.raises(InputError, match=r"at row 13, column 4 .* does not fit") as caught:
        read(as_source(x))
    remedy = str(caught.value).partition("Say so: ")[2]
    declared = eval(remedy, {"x": x, "scipy": scipy})
    np.testing.assert_array_equal(read(as_source(declared)), V)


def test_a_narrower_dtype_than_declared_is_fine() -> None:
    source = as_source(lying(lambda b: b.astype("float32"), "float64"))
    (block,) = source.read_blocks([0, 157])
    assert block.dtype == np.float64
    np.testing.assert_array_equal(as_dense(block), sample_matrix())


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: da.zeros(5), "1 dimension "),
        (lambda: da.zeros((5, 4, 3)), "3 dimensions"),
        (lambda: da.zeros((5, 4, 3))[da.zeros((5, 4, 3)) > 0], "1 dimension "),
        (lambda: da.zeros((0, 4)), "no rows"),
        (lambda: da.zeros((5, 0)), "no columns"),
        (lambda: da.zeros((5, 4))[da.zeros(5) > 0], "no rows"),
        (lambda: da.zeros((5, 4), dtype="complex64"), "complex64"),
        (lambda: da.from_array(np.full((2, 2), None), chunks=1), "object"),
        (lambda: da.ma.masked_equal(da.zeros((5, 4)), 1), "masked.*filled"),
    ],
)
def test_refused(make: Callable[[], da.Array], text: str) -> None:
    with pytest.raises(InputError, match=text):
        as_source(make())


def test_nothing_is_computed_to_say_what_a_dense_array_is() -> None:
    x = da.zeros((20, 4), chunks=(5, 4)).map_blocks(
        broken(ValueError("computed")), dtype=float, meta=np.empty((0, 0))
    )
    source = as_source(x)
    source.metadata(), source.describe(), source.block_starts(100, 8, 100)
    assert source.nbytes == 20 * 4 * 8
