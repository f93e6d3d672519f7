"""One look at a block: sums, the first bad entry, and a checksum that misses nothing."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dnmf.linalg.measure import checksum, measure

MATRICES = hnp.arrays(
    st.sampled_from(["f4", "f8"]),
    st.tuples(st.integers(1, 9), st.integers(1, 7)),
    elements=st.sampled_from([0.0, 0.1, 1.0, 2.5, 1e-3, 1e9]),
)
BAD = st.sampled_from([np.nan, np.inf, -np.inf, -1.0, -1e-30])


def _measure(V):
    columns = np.zeros((2, V.shape[1]))
    return measure(V, columns[0], columns[1]), columns


@given(MATRICES, st.booleans())
@settings(max_examples=80, deadline=None)
def test_sums_are_those_of_float64(V, sparse):
    found, columns = _measure(sp.csr_array(V) if sparse else V)
    wide = V.astype(float)
    np.testing.assert_allclose(found.row_sums, wide.sum(axis=1), rtol=1e-14)
    np.testing.assert_allclose(found.row_sumsq, (wide**2).sum(axis=1), rtol=1e-14)
    np.testing.assert_allclose(columns[0], wide.sum(axis=0), rtol=1e-14)
    np.testing.assert_allclose(columns[1], (wide**2).sum(axis=0), rtol=1e-14)
    assert found.nonzeros == np.count_nonzero(V)
    assert found.largest == V.max()
    assert (found.bad, found.first_bad) == (0, None)


@pytest.mark.parametrize("d", [1, 15, 16, 17, 100])
@pytest.mark.parametrize("dtype", ["f4", "f8", "u2"])
def test_a_dense_block_gives_the_same_bits_in_any_layout(d, dtype):
    V = np.random.default_rng(d).poisson(3.0, (11, d)).astype(dtype)
    V = V / np.asarray(7, dtype) if dtype != "u2" else V
    wide = np.zeros((11, 2 * d), V.dtype)
    wide[:, ::2] = V
    (first, first_columns), *others = map(_measure, (V, np.asfortranarray(V), wide[:, ::2], V[:]))
    np.testing.assert_allclose(first.row_sumsq, (V.astype(float) ** 2).sum(axis=1), rtol=1e-14)
    np.testing.assert_allclose(first_columns[0], V.sum(axis=0, dtype=float), rtol=1e-14)
    assert (first.nonzeros, first.largest) == (np.count_nonzero(V), V.max())
    for found, columns in others:
        assert found.row_sums.tobytes() == first.row_sums.tobytes()
        assert found.row_sumsq.tobytes() == first.row_sumsq.tobytes()
        assert columns.tobytes() == first_columns.tobytes()


def test_columns_are_added_row_after_row():
    V = np.random.default_rng(0).gamma(0.5, size=(9, 21))
    columns = np.zeros((2, 21))
    for row in V:
        columns += row, row * row
    assert _measure(V)[1].tobytes() == columns.tobytes()


def test_entries_that_add_up_to_infinity_are_not_bad():
    V = np.full((6, 40), 1.0)
    V[2, 3:5] = 1.5e308
    found, columns = _measure(V)
    assert (found.bad, found.nonzeros, found.largest) == (0, 240, 1.5e308)
    assert found.row_sums.tolist() == [40, 40, np.inf, 40, 40, 40]
    np.testing.assert_allclose(columns[0], V.sum(axis=0))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0])
def test_what_is_bad_counts_nowhere_else(value):
    V = np.full((7, 33), 2.0, "f4")
    V[5, 30] = V[6, 0] = value
    found, columns = _measure(V)
    assert (found.bad, found.first_bad[:2]) == (2, (5, 30))
    assert (found.nonzeros, found.largest) == (7 * 33 - 2, 2.0)
    assert columns[0].sum() == found.row_sums.sum() == 2 * (7 * 33 - 2)


def test_squares_of_float32_do_not_overflow():
    found, columns = _measure(np.full((2, 3), 1e25, "f4"))
    np.testing.assert_allclose(found.row_sumsq, 3e50, rtol=1e-6)
    np.testing.assert_allclose(columns[1], 2e50, rtol=1e-6)


def test_columns_are_added_to_what_is_there():
    columns = np.ones((2, 2))
    measure(np.array([[1.0, 2.0]]), columns[0], columns[1])
    measure(sp.csr_array(np.array([[0.0, 3.0]])), columns[0], columns[1])
    assert columns.tolist() == [[2, 6], [2, 14]]


@given(MATRICES, st.data())
@settings(max_examples=100, deadline=None)
def test_the_first_bad_entry_is_found_and_all_are_counted(V, data):
    n, d = V.shape
    entries = data.draw(st.sets(st.integers(0, n * d - 1), min_size=1, max_size=4))
    values = [data.draw(BAD) for _ in entries]
    V = V.copy()
    V.ravel()[sorted(entries)] = values
    row, column = divmod(min(entries), d)
    for matrix in (V, sp.csr_array(V)):
        found, columns = _measure(matrix)
        assert found.bad == len(entries)
        assert found.first_bad is not None
        assert found.first_bad[:2] == (row, column)
        np.testing.assert_equal(found.first_bad[2], float(V[row, column]))
        good = np.where(np.isfinite(V) & (V >= 0), V, 0).astype(float)
        np.testing.assert_allclose(columns[0], good.sum(axis=0), rtol=1e-14)
        np.testing.assert_allclose(found.row_sums, good.sum(axis=1), rtol=1e-14)


def test_explicit_zeros_are_no_nonzeros():
    V = sp.csr_array((np.array([0.0, 3.0, -0.0]), np.array([0, 1, 0]), np.array([0, 2, 3])))
    found, _ = _measure(V)
    assert (found.nonzeros, found.bad, found.largest) == (1, 0, 3.0)


ANYTHING = hnp.arrays(
    st.sampled_from(["f2", "f4", "f8", "i1", "u2", "i8", "?"]),
    st.tuples(st.integers(1, 6), st.integers(1, 9)),
)


@given(ANYTHING, st.data())
@settings(max_examples=100, deadline=None)
def test_any_changed_byte_changes_the_checksum(V, data):
    before = checksum(V)
    changed = V.copy()
    flat = changed.reshape(-1).view(np.uint8)
    at = data.draw(st.integers(0, flat.size - 1))
    flat[at] ^= data.draw(st.integers(1, 255)) if V.dtype.kind != "b" else 1
    assert checksum(V) == before
    assert checksum(changed) != before


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "u8"])
@pytest.mark.parametrize("gap", [1, 2, 3, 4, 64, 1024, 2048, 4096])
def test_any_two_swapped_entries_change_the_checksum(dtype, gap):
    """Words of small numbers differ in their highest bits only: a weighted sum misses those."""
    V = np.zeros((3, 4096), dtype)
    for one, other in ((0, 1), (0, 2), (1, 2), (2, 4), (1, 3), (2, 3)):
        V[0, 0], V.ravel()[gap] = one, other
        swapped = V.copy()
        swapped[0, 0], swapped.ravel()[gap] = other, one
        assert checksum(V) != checksum(swapped)
        V.ravel()[gap] = 0


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2"])
def test_swapped_rows_change_the_checksum(dtype):
    V = np.random.default_rng(0).integers(0, 4, (16, 512)).astype(dtype)
    for other in range(1, 16):
        order = np.arange(16)
        order[[0, other]] = order[[other, 0]]
        assert checksum(V[order]) != checksum(V)


@given(ANYTHING)
@settings(max_examples=50, deadline=None)
def test_truncation_shape_and_dtype_change_the_checksum(V):
    n, d = V.shape
    others = [np.zeros((n + 1, d), V.dtype), np.zeros((n, d + 1), V.dtype)]
    others[0][:n] = V
    others[1][:, :d] = V
    if n != d:
        others.append(V.reshape(d, n))
    if V.dtype != "i8":
        others.append(np.zeros((n, d), "i8"))
    assert checksum(V) not in [checksum(other) for other in others]


@given(MATRICES, st.data())
@settings(max_examples=50, deadline=None)
def test_any_change_of_a_sparse_block_changes_the_checksum(V, data):
    block = sp.csr_array(V)
    before = checksum(block)
    assert checksum(sp.csr_array(V)) == before
    if block.nnz:
        at = data.draw(st.integers(0, block.nnz - 1))
        value, column = block.copy(), block.copy()
        value.data[at] *= 2
        column.indices[at] += 1
        zero = block.copy()
        zero.data[at] = 0.0  # stored, but zero: other bits
        assert before not in (checksum(value), checksum(column), checksum(zero))
    moved = block.copy()
    if block.indptr[1] != block.nnz:
        moved.indptr[1] += 1
        assert checksum(moved) != before


def test_the_checksum_of_a_view_is_that_of_its_entries():
    V = np.arange(60, dtype="f4").reshape(6, 10)
    for part in (V[1:4], V[:, 2:7], V[::2], V.T):
        assert checksum(part) == checksum(part.copy())


def test_read_only_blocks_are_fine():
    V = np.ones((3, 3))
    V.flags.writeable = False
    assert _measure(V)[0].nonzeros == 9
    assert checksum(V) == checksum(np.ones((3, 3)))
