"""A plan warns of chunks that would be decoded again and again, and its remedy works."""

from __future__ import annotations

import re

import numpy as np
import scipy.sparse as sp
import zarr

import dnmf
from dnmf.steps.serial import Serial
from dnmf.testing.counting import CountingStore
from dnmf.testing.layouts import write_compressed

LAYOUT = {"k": 2, "block_size": 20_000, "segments": 10, "sample": 0}
ENTRIES = 20_000


def written(target, chunk):
    V = sp.random_array((2000, 100), density=0.1, format="csr", dtype=np.float32, rng=0)
    assert V.nnz == ENTRIES
    write_compressed(target, V, chunk, index_dtype="i4")


def test_one_huge_csr_chunk_is_told_with_numbers_and_the_remedy_works(tmp_path):
    written(tmp_path / "V.zarr", ENTRIES)
    report = dnmf.plan(tmp_path / "V.zarr", **LAYOUT)
    assert report.plan.segments == 10
    (text,) = report.to_json()["warnings"]
    assert dict(report.lines())["warning"] == text
    assert "chunks of 20,000 entries (160 kB decoded)" in text
    assert "1.6 MB in every pass instead of 160 kB" in text
    chunk = int(re.search(r"dnmf convert IN OUT --to csr --chunks (\d+)$", text)[1])
    dnmf.convert(tmp_path / "V.zarr", tmp_path / "better.zarr", to="csr", chunks=chunk)
    assert dnmf.plan(tmp_path / "better.zarr", **LAYOUT).to_json()["warnings"] == []


def test_the_numbers_are_what_is_read(tmp_path):
    store = CountingStore(zarr.storage.MemoryStore())
    written(store, ENTRIES)
    store.reset()
    dnmf.fit(zarr.open_group(store, mode="r"), executor=Serial(), max_passes=3, tol=0, **LAYOUT)
    reads = store.chunk_reads()
    assert reads["data/c/0"] == reads["indices/c/0"] == 4 * 10  # the scan and three passes
    report = dnmf.plan(zarr.open_group(store, mode="r"), **LAYOUT)
    assert report.to_json()["bytes_decoded_again"] == 9 * ENTRIES * (4 + 4)
    line = dict(report.lines())["bytes per read"]
    assert line.endswith("; up to 1.44 MB more of chunks that segments share")


def test_usual_chunks_are_nothing_to_warn_of(tmp_path):
    for chunk in (100, 500):
        written(tmp_path / f"{chunk}.zarr", chunk)
        assert dnmf.plan(tmp_path / f"{chunk}.zarr", **LAYOUT).to_json()["warnings"] == []
    assert dnmf.plan(np.ones((300, 40)), **LAYOUT).to_json()["warnings"] == []


def test_a_penalty_of_one_factor_alone_is_told():
    """Scaled down, that factor costs nothing and the product is the same."""
    V = np.ones((30, 4))
    (text,) = dnmf.plan(V, 2, alpha_H=0.5).to_json()["warnings"]
    assert text.startswith("alpha_H is 0.5 and alpha_W is 0: H can shrink while W grows")
    (text,) = dnmf.plan(V, 2, alpha_W=0.1, alpha_H=0).to_json()["warnings"]
    assert text.startswith("alpha_W is 0.1 and alpha_H is 0: W can shrink while H grows")
    for fine in ({}, {"alpha_W": 0.1}, {"alpha_W": 0.1, "alpha_H": 0.2}):
        assert dnmf.plan(V, 2, **fine).to_json()["warnings"] == []
