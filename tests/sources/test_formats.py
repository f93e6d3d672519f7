"""SciPy's formats with arrays that contradict their shape: an error, where SciPy itself crashes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from dnmf.conversion.external_sort import Unpacking
from dnmf.conversion.files import unpack
from dnmf.errors import CorruptDataError
from dnmf.sources import open_source
from dnmf.sources.formats import as_csr
from dnmf.testing.source_contract import as_dense, read

FAR = 10**8
"""So far behind the end of an array that nothing is there."""


def put(name: str, at: Any, value: Any) -> Callable[[Any], None]:
    def change(V: Any) -> None:
        getattr(V, name)[at] = value

    return change


def shorten(name: str) -> Callable[[Any], None]:
    def change(V: Any) -> None:
        setattr(V, name, getattr(V, name)[:-2])

    return change


CHANGES = {
    "a row of csc is too large": ("csc", put("indices", 5, FAR), "row index 100000000 of stored"),
    "a row of csc is negative": ("csc", put("indices", 5, -FAR), "row index -100000000 of stored"),
    "csc's indptr goes far": ("csc", put("indptr", 3, FAR), "100000000 in it"),
    "csc's indptr falls": ("csc", put("indptr", 3, 0), "must rise"),
    "csc's indptr ends too late": ("csc", put("indptr", -1, FAR), "0 to 100000000"),
    "csc's indptr begins before 0": ("csc", put("indptr", 0, -FAR), "from -100000000"),
    "csc's indptr is short": ("csc", shorten("indptr"), "entries of indptr are 19"),
    "csr's indptr is short": ("csr", shorten("indptr"), "entries of indptr are 29"),
    "csr's indptr goes far": ("csr", put("indptr", 3, FAR), "decreases from 100000000"),
    "a block of bsr is too far right": ("bsr", put("indices", 5, FAR), "column of blocks index"),
    "bsr's indptr goes far": ("bsr", put("indptr", 3, FAR), "100000000 in it"),
    "a row of coo is too large": ("coo", put("row", 5, FAR), "row index 100000000"),
    "a row of coo is negative": ("coo", put("row", 5, -FAR), "row index -100000000"),
    "a column of coo is too large": ("coo", put("col", 5, FAR), "column index 100000000"),
    "coo has more indices than entries": ("coo", shorten("data"), "row indices are"),
    "dia has fewer offsets than lines": ("dia", shorten("offsets"), "offsets are"),
    "lil has more entries than columns": (
        "lil",
        lambda V: V.data.__setitem__(0, [1.0] * FAR),
        "a list of columns",
    ),
}


def matrix(form: str) -> Any:
    V = sp.random_array((30, 20), density=0.4, rng=np.random.default_rng(0), format="csr")
    return V.tobsr(blocksize=(5, 4)) if form == "bsr" else getattr(V, f"to{form}")()


@pytest.mark.parametrize("name", CHANGES)
def test_what_contradicts_itself_is_refused(name: str) -> None:
    form, change, message = CHANGES[name]
    V = matrix(form)
    change(V)
    with pytest.raises(CorruptDataError, match=message):
        open_source(V)


@pytest.mark.parametrize("form", ["csr", "csc", "bsr", "coo", "dia", "lil", "dok"])
def test_what_is_sound_is_converted(form: str) -> None:
    V = matrix(form)
    np.testing.assert_array_equal(as_csr(V, "V").toarray(), V.toarray())


def test_room_behind_the_entries_is_no_error() -> None:
    V = matrix("csc")
    expected = V.toarray()
    V.indices, V.data = (np.concatenate([x, x[:3]]) for x in (V.indices + 0, V.data))
    V.indices[-1] = FAR  # nobody reads it
    np.testing.assert_array_equal(as_dense(read(open_source(V))), expected)


def test_a_damaged_npz_that_scipy_converts(tmp_path: Path) -> None:
    V = matrix("bsr")
    V.indptr[3] = FAR
    sp.save_npz(tmp_path / "V.npz", V)
    (tmp_path / "staging").mkdir()
    with pytest.raises(CorruptDataError, match="100000000 in it"):
        unpack(str(tmp_path / "V.npz"), Unpacking(tmp_path / "staging", 1 << 30))


CHUNKS = """
import sys, dask.array as da, numpy as np, scipy.sparse as sp
import dnmf
form, columns, change = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def damaged(chunk):
    chunk = getattr(sp.csr_array(chunk), "to" + form)()
    if chunk.shape[0]:
        exec(change, {"V": chunk})
    return chunk
x = da.from_array(np.ones((40, 20)), chunks=(20, 20 // columns))
try:
    dnmf.fit(x.map_blocks(damaged, meta=sp.csr_array((0, 0))), k=2, seed=0)
except dnmf.DnmfError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("form", "columns", "change", "message"),
    [
        ("csc", 1, "V.indptr[3] = 10**8", "100000000 in it"),
        ("csc", 1, "V.indices[3] = 10**8", "row index 100000000"),
        ("csr", 2, "V.indptr[3] = 10**8", "decreases from 100000000"),
        ("csr", 2, "V.indptr[3] = -10**8", "decreases from 20 to -100000000"),
    ],
)
def test_chunks_of_a_dask_array(form: str, columns: int, change: str, message: str) -> None:
    """In a process of its own, which SciPy ended."""
    arguments = [form, str(columns), change]
    done = subprocess.run(
        [sys.executable, "-c", CHUNKS, *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert message in done.stdout
