"""CSR in three ``.npy`` files."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import scipy.sparse as sp

from dnmf.errors import CorruptDataError
from dnmf.sources import Source
from dnmf.sources.npy_csr import NpyCsr
from dnmf.testing.source_contract import SourceContract, read, sample_matrix


def save_parts(folder: Path, matrix: sp.csr_array, **changed: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    for name in ("data", "indices", "indptr"):
        np.save(folder / f"{name}.npy", changed.get(name, getattr(matrix, name)))


class TestNpyCsr(SourceContract):
    kind = "npy_csr"
    dtypes = ("float32", "float64", "int16", "uint8", "int64", "bool", "float16", ">f8")
    block_dtypes: ClassVar = {"float16": "float32", ">f8": "float64"}

    def make(self, V: np.ndarray, folder: Path) -> Source:
        matrix = sp.csr_array(V.astype("float64"))
        save_parts(folder, matrix, data=matrix.data.astype(V.dtype))
        return NpyCsr(folder, V.shape)


def test_unsorted_duplicate_and_int64_indices(tmp_path: Path) -> None:
    matrix = sp.csr_array((np.ones(4), np.array([2, 0, 2, 1]), np.array([0, 3, 3, 4])), (3, 3))
    save_parts(tmp_path, matrix, indices=matrix.indices.astype(np.int64))
    np.testing.assert_array_equal(read(NpyCsr(tmp_path, (3, 3))), [[1, 0, 2], [0, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"indptr": np.array([0, 2, 1, 3])}, "decreases from 2 to 1 at row 1"),
        ({"indptr": np.array([0, 1, 2, 9])}, "9 stored entries"),
        ({"indices": np.array([0, 7, 1])}, "column index 7 in row 1"),
        ({"indptr": np.array([0, 3])}, "and 4 in indptr"),
        ({"indices": np.array([0.0, 1, 1])}, "whole numbers"),
        ({"data": np.array([[1, 2, 3]])}, "2-dimensional"),
    ],
)
def test_damage_is_named(tmp_path: Path, changed: dict[str, np.ndarray], message: str) -> None:
    matrix = sp.csr_array(np.eye(3)[:, [0, 2, 1]])
    save_parts(tmp_path, matrix, **changed)
    with pytest.raises(CorruptDataError, match=message):
        read(NpyCsr(tmp_path, (3, 3)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    save_parts(tmp_path, sp.csr_array(np.eye(3)))
    (tmp_path / "indices.npy").unlink()
    with pytest.raises(CorruptDataError, match="indices cannot be read"):
        NpyCsr(tmp_path, (3, 3))


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    objects = np.array([print, 1, 2], dtype=object)
    save_parts(tmp_path, sp.csr_array(np.eye(3)), data=objects)
    with pytest.raises(CorruptDataError, match="Python objects"):
        NpyCsr(tmp_path, (3, 3))


def test_metadata_changes_with_indptr(tmp_path: Path) -> None:
    for number, V in enumerate((np.eye(4), np.eye(4)[:, ::-1], np.tril(np.ones((4, 1))))):
        save_parts(tmp_path / str(number), sp.csr_array(sample_matrix()[:4, :4] + V))
    kinds = [NpyCsr(tmp_path / str(number), (4, 4)).metadata() for number in range(3)]
    assert kinds[0] != kinds[2]
