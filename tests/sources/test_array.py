"""In-memory sources: NumPy arrays and scipy's sparse formats."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from dnmf.errors import CorruptDataError, InputError
from dnmf.sources import Source, open_source
from dnmf.testing.source_contract import SourceContract, read, sample_matrix

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


class TestArray(SourceContract):
    kind = "array"
    dtypes = ("float32", "float16", "float64", "bool", *INTEGERS)
    transposes = True

    def make(self, V: np.ndarray, folder: Path) -> Source:
        return open_source(V)


class TestColumnMajorArray(SourceContract):
    kind = "array"
    dtypes = (">f4", "float64")
    block_dtypes: ClassVar = {">f4": "float32"}
    transposes = True

    def make(self, V: np.ndarray, folder: Path) -> Source:
        return open_source(np.asfortranarray(V))


class TestSparse(SourceContract):
    kind = "sparse"
    dtypes = ("float32", "float64", "bool", *INTEGERS)

    def make(self, V: np.ndarray, folder: Path) -> Source:
        return open_source(sp.csr_array(V))


def test_contiguous_blocks_are_views() -> None:
    V = sample_matrix()
    (block,) = open_source(V).read_blocks([3, 50])
    assert np.shares_memory(block, V)
    assert not block.flags.writeable


@pytest.mark.parametrize("make", [sp.csr_matrix, sp.csr_array])
def test_canonical_csr_is_not_copied(make: type) -> None:
    V = make(sample_matrix())
    (block,) = open_source(V).read_blocks([3, 50])
    assert np.shares_memory(block.data, V.data)
    assert np.shares_memory(block.indices, V.indices)


@pytest.mark.parametrize("form", ["csc", "coo", "bsr", "lil", "dok"])
def test_other_formats_are_converted(form: str) -> None:
    V = sample_matrix()
    source = open_source(sp.csr_array(V).asformat(form))
    np.testing.assert_array_equal(read(source), V)
    assert f"converted from {form.upper()}" in source.describe()


def messy(rng: np.random.Generator, n: int, d: int, count: int, wide: bool) -> sp.csr_array:
    """Unsorted and duplicate indices, explicit zeros, empty rows."""
    rows = np.sort(rng.integers(0, n, count))
    width = np.int64 if wide else np.int32
    indptr = np.searchsorted(rows, np.arange(n + 1)).astype(width)
    indices = rng.integers(0, d, count).astype(width)
    data = rng.integers(0, 5, count).astype(np.float64)
    return sp.csr_array((data, indices, indptr), (n, d))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_messy_csr_becomes_canonical(data: st.DataObject) -> None:
    n, d = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 8))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    V = messy(rng, n, d, data.draw(st.integers(0, 80)), data.draw(st.booleans()))
    before = [V.data.copy(), V.indices.copy(), V.indptr.copy()]
    cuts = data.draw(st.sets(st.integers(1, n - 1), max_size=4)) if n > 1 else set()
    starts = [0, *sorted(cuts), n]
    blocks = list(open_source(V).read_blocks(starts))
    for block in blocks:
        assert block.has_canonical_format
        assert block.indices.dtype == np.int32
    np.testing.assert_array_equal(sp.vstack(blocks).toarray(), V.toarray())
    for old, new in zip(before, [V.data, V.indices, V.indptr], strict=True):
        np.testing.assert_array_equal(old, new)


def test_stored_zeros_are_kept() -> None:
    V = sp.csr_array((np.array([0.0, 2.0]), np.array([1, 2]), np.array([0, 2])), (1, 4))
    (block,) = open_source(V).read_blocks([0, 1])
    assert block.nnz == 2


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_csr_cuts_are_greedy(data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(0, 30), min_size=1, max_size=60))
    indptr = np.cumsum([0, *counts])
    d = 30
    indices = np.concatenate([np.arange(c) for c in counts]).astype(int)
    V = sp.csr_array((np.ones(indptr[-1]), indices, indptr), (len(counts), d))
    size, rows = data.draw(st.integers(1, 2000)), data.draw(st.integers(1, 70))
    starts = open_source(V).block_starts(size, 8, rows)
    weights = np.array(counts) * 12 + 4
    expected, used = [0], 0
    for row, weight in enumerate(weights):
        if row > expected[-1] and (used + weight > size or row - expected[-1] == rows):
            expected.append(row)
            used = 0
        used += weight
    assert starts.tolist() == [*expected, len(counts)]


def test_the_plan_of_a_sparse_matrix_depends_on_its_rows() -> None:
    A = sp.csr_array(np.array([[1.0, 1.0], [0.0, 1.0]]))
    B = sp.csr_array(np.array([[0.0, 1.0], [1.0, 1.0]]))
    assert open_source(A).metadata() != open_source(B).metadata()


@pytest.mark.parametrize(
    ("V", "message"),
    [
        (np.ones(5), "has 1 dimension"),
        (np.ones((5, 5, 5)), "3 dimensions"),
        (np.ones((0, 5)), "no rows"),
        (np.ones((5, 0)), "no columns"),
        (np.ones((2, 2), complex), "complex128"),
        (np.array([["a", "b"]]), "dtype <U1"),
        (np.ones((2, 2), object), "object"),
        (np.ones((2, 2), "M8[s]"), "datetime64"),
        (np.ones((2, 2), np.longdouble), "longdouble|float128"),
        (np.ma.masked_array(np.ones((2, 2)), mask=True), "masked"),
        (sp.csr_array(np.ones((2, 2), complex)), "complex128"),
        (sp.coo_array(np.ones(4)), "has 1 dimension"),
        (sp.csr_array((0, 3)), "no rows"),
        ([[1, 2], [3, 4]], "type list"),
        (None, "type NoneType"),
        (3, "type int"),
    ],
)
def test_bad_input(V: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_source(V)


def test_damaged_csr() -> None:
    V = sp.csr_array(np.ones((3, 3)))
    V.indices[4] = 7
    with pytest.raises(CorruptDataError, match=r"column index 7 in row 1.*3 columns"):
        read(open_source(V))
    V = sp.csr_array(np.ones((3, 3)))
    V.indptr[1] = 7
    with pytest.raises(CorruptDataError, match="decreases from 7 to 6 at row 1"):
        open_source(V)


def test_few_blocks_of_csr_weigh_about_the_same():
    """A remainder would leave every worker but one idle."""
    V = sp.random_array((3000, 50), density=0.2, rng=np.random.default_rng(0), format="csr")
    source = open_source(V)
    one = source.block_bytes(0, 3000)
    for blocks in (2, 3, 5):
        starts = source.block_starts(int(one / (blocks - 0.8)), 8, 10**6)
        sizes = [source.block_bytes(a, b) for a, b in pairwise(starts)]
        assert len(sizes) == blocks
        assert max(sizes) < 1.15 * min(sizes)


@pytest.mark.parametrize("blocks", [2, 3, 4, 5])
def test_blocks_that_would_just_hold_all_rows_leave_no_crumbs(blocks):
    """Each ends with a whole row, and what they lack together would be a block of a few rows."""
    V = sp.random_array((3000, 50), density=0.2, rng=np.random.default_rng(0), format="csr")
    source = open_source(V)
    weight = 12 * V.nnz + 4 * 3000  # 8 + 4 bytes an entry, 4 more a row
    starts = source.block_starts(-(-weight // blocks), 8, 10**6)
    sizes = [source.block_bytes(a, b) for a, b in pairwise(starts)]
    assert len(sizes) == blocks + 1
    assert max(sizes) < 1.15 * min(sizes)


def test_few_dense_blocks_have_about_as_many_rows():
    starts = open_source(np.zeros((1030, 4))).block_starts(1000 * 32, 8, 10**6)
    assert starts.tolist() == [0, 515, 1030]
