"""CSR in bands of rows, one below the other."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from zarr.storage import LocalStore

from dnmf.errors import CorruptDataError, InputError
from dnmf.sources import Source, from_spec
from dnmf.sources.stacked import StackedCSR, StoredBand, create_stack, finish_stack, write_band
from dnmf.sources.store import Location
from dnmf.testing.counting import CountingStore
from dnmf.testing.source_contract import SourceContract, read, sample_matrix

CUTS = [0, 1, 40, 41, 55, 120, 157]


def put(folder: Path, name: str, V: np.ndarray) -> StoredBand:
    rows = sp.csr_array(V)
    return write_band(str(folder), name, (rows.data, rows.indices, rows.indptr), V.shape[1])


def write(folder: Path, V: np.ndarray, cuts: list[int]) -> Source:
    create_stack(str(folder))
    bands = [put(folder, f"{a}-x", V[a:b]) for a, b in pairwise(cuts)]
    finish_stack(str(folder), V.shape[1], V.dtype, bands)
    return from_spec({"kind": "stacked", "location": str(folder)})


class TestStacked(SourceContract):
    kind = "stacked"
    dtypes = ("float32", "float64", "uint8", "bool", "int64")

    def make(self, V: np.ndarray, folder: Path) -> Source:
        return write(folder, V, CUTS)

    def make_large(self, V: np.ndarray, folder: Path) -> Source:
        return write(folder, V, [0, 7, 500, 510, 3000, 4001])


class TestOneBand(SourceContract):
    kind = "stacked"

    def make(self, V: np.ndarray, folder: Path) -> Source:
        return write(folder, V, [0, len(V)])


def test_every_chunk_is_read_once(tmp_path: Path) -> None:
    V = sample_matrix()
    write(tmp_path, V, CUTS)
    store = CountingStore(LocalStore(tmp_path, read_only=True))
    source = StackedCSR(Location(store, "", None, False))
    for starts in ([0, 157], [0, 1, 2, 80, 157], list(range(158))):
        store.reset()
        np.testing.assert_array_equal(read(source, starts), V)
        assert set(store.chunk_reads().values()) == {1}
        assert len(store.chunk_reads()) == 3 * (len(CUTS) - 1)


def test_small_bands_are_joined_and_large_ones_cut(tmp_path: Path) -> None:
    source = write(tmp_path, np.ones((40, 10)), [0, 1, 2, 3, 30, 31, 40])
    row = 10 * 12 + 4
    assert source.block_starts(5 * row, 8, 100).tolist() == [
        0,
        3,
        8,
        13,
        18,
        23,
        28,
        30,
        31,
        36,
        40,
    ]
    assert source.block_starts(15 * row, 8, 100).tolist() == [0, 3, 18, 30, 40]
    assert source.block_starts(100 * row, 8, 100).tolist() == [0, 40]
    assert source.block_starts(100 * row, 8, 31).tolist() == [0, 31, 40]


def test_offsets_of_rows_where_no_block_began(tmp_path: Path) -> None:
    V = sample_matrix()
    source = write(tmp_path, V, CUTS)
    assert source.block_bytes(43, 100) == np.count_nonzero(V[43:100]) * 8 + 57 * 4


def test_without_its_list_there_is_no_matrix(tmp_path: Path) -> None:
    create_stack(str(tmp_path))
    put(tmp_path, "0", np.eye(3))
    with pytest.raises(InputError, match="not finished"):
        from_spec({"kind": "stacked", "location": str(tmp_path)})


@pytest.mark.parametrize("damage", ["gone", "shorter", "dtype", "chunk"])
def test_damage_is_named(tmp_path: Path, damage: str) -> None:
    V = sample_matrix()
    source: Any = write(tmp_path, V, CUTS)
    band = tmp_path / "41-x"
    if damage == "gone":
        band.rename(tmp_path / "elsewhere")
    elif damage == "shorter":
        band.rename(tmp_path / "elsewhere")
        put(tmp_path, "41-x", V[41:54])
    elif damage == "dtype":
        band.rename(tmp_path / "elsewhere")
        put(tmp_path, "41-x", V[41:55].astype(np.float64))
    else:
        chunk = band / "data" / "c" / "0"
        chunk.write_bytes(chunk.read_bytes()[:5])
    with pytest.raises(CorruptDataError, match="41-x"):
        read(source)


def test_a_chunk_that_is_not_stored_is_named(tmp_path: Path) -> None:
    V = sample_matrix()
    source = write(tmp_path, V, CUTS)
    (tmp_path / "41-x" / "data" / "c" / "0").unlink()
    (block,) = source.read_blocks([0, 157])
    assert source.unstored(0, 157, block) == ["41-x/data/c/0"]


def test_without_its_root_nothing_is_written(tmp_path: Path) -> None:
    """As on a machine that does not have the run's storage."""
    with pytest.raises(FileNotFoundError):
        put(tmp_path / "absent", "0", np.eye(3))
    assert list(tmp_path.iterdir()) == []
