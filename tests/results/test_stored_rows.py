"""StoredRows behaves as the array it stands for, and reads no more than it must."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnmf.results.stored_rows import StoredRows
from dnmf.runs.folder import FolderStore
from dnmf.runs.memory import MemoryStore

N, K = 10, 3
FULL = np.arange(N * K, dtype="f4").reshape(N, K)
CUTS = [0, 4, 4, 5, 10]  # one object is empty


class Counting(MemoryStore):
    reads = 0

    def get(self, ref):
        self.reads += 1
        return super().get(ref)


def as_stored(rows):
    return rows


def turned(columns):
    return columns.T


def ordered(rows):
    return (rows * SCALE)[:, ORDER].astype(rows.dtype)


ORDER, SCALE = np.array([2, 0, 1]), np.array([1.0, 2.0, 0.5])


def stored(store=None, final=as_stored):
    store = store or Counting()
    parts = [FULL[a:b] for a, b in itertools.pairwise(CUTS)]
    if final is turned:
        parts = [part.T for part in parts]
    refs = [store.put(f"W/0/0-{i}", part) for i, part in enumerate(parts)]
    return StoredRows(store, refs, CUTS, K, "f4", final)


ROWS = st.one_of(
    st.integers(-N, N - 1),
    st.slices(N),
    st.lists(st.integers(-N, N - 1), max_size=12),
    st.lists(st.booleans(), min_size=N, max_size=N).map(np.array),
    st.lists(st.integers(-N, N - 1), max_size=5).map(lambda rows: np.array(rows, dtype=np.int64)),
    st.just(Ellipsis),
)


@given(rows=ROWS, columns=st.one_of(st.none(), st.integers(-K, K - 1), st.slices(K)))
def test_rows_and_columns_as_numpy_gives_them(rows, columns):
    array = stored()
    key = rows if columns is None else (rows, columns)
    wanted = FULL[[] if isinstance(rows, list) and not rows else rows]
    if isinstance(rows, list) and not rows:
        wanted = FULL[:0]
    if columns is not None:
        wanted = wanted[..., columns]
    found = array[key]
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


def test_it_looks_like_an_array():
    array = stored()
    assert array.shape == (N, K)
    assert array.dtype == np.float32
    assert (array.ndim, array.size, array.nbytes, len(array)) == (2, N * K, N * K * 4, N)
    np.testing.assert_array_equal(np.asarray(array), FULL)
    np.testing.assert_array_equal(np.asarray(array, dtype="f8"), FULL)
    np.testing.assert_array_equal(np.stack(list(array)), FULL)
    assert "StoredRows (10, 3) float32, 4 objects" in repr(array)
    with pytest.raises(ValueError, match="copy"):
        np.asarray(array, copy=False)


def test_only_the_objects_that_are_asked_for_are_read_and_neighbours_once():
    store = Counting()
    array = stored(store)
    assert store.reads == 0
    array[5:8]
    array[9]
    assert store.reads == 1
    array[4:6]
    assert store.reads == 3
    list(array[:0])
    assert store.reads == 3


def test_rows_are_brought_into_their_final_form():
    np.testing.assert_array_equal(stored(final=turned)[:], FULL)
    array = stored(final=ordered)
    np.testing.assert_array_equal(array[:], (FULL * SCALE)[:, ORDER])
    assert array[3:4].dtype == np.float32


@pytest.mark.parametrize(
    "key", [N, -N - 1, [N], [0, -N - 1], np.zeros(3, bool), ([0, 1], [0, 1]), "W", None, (0, 0, 0)]
)
def test_what_is_not_there_is_an_index_error(key):
    with pytest.raises(IndexError):
        stored()[key]


def test_it_travels(tmp_path):
    store = FolderStore.create_new(tmp_path / "run", {})
    array = pickle.loads(pickle.dumps(stored(store)))
    np.testing.assert_array_equal(array[[9, 0, 4]], FULL[[9, 0, 4]])
