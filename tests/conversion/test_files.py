"""``.npz`` and Matrix Market files, unpacked."""

from __future__ import annotations

import bz2
import gzip
import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp

from dnmf.conversion.external_sort import Unpacking
from dnmf.conversion.files import needs_unpacking, unpack, unpack_columns
from dnmf.conversion.limits import DEFAULT, ConversionLimits
from dnmf.errors import CorruptDataError, InputError, MemoryPlanError
from dnmf.sources import Source
from dnmf.sources.npy_csr import NpyCsr
from dnmf.testing.source_contract import read, sample_matrix

MUCH = 10**9
SPARSE = {
    "csr": sp.csr_array,
    "csc": sp.csc_array,
    "coo": sp.coo_array,
    "bsr": sp.bsr_array,
    "dia": sp.dia_array,
}


@pytest.fixture
def unpacked(tmp_path: Path) -> Callable[..., Source]:
    def unpacked(path: Path, memory: int = MUCH, limits: ConversionLimits = DEFAULT) -> Source:
        folder = tmp_path / "staging"
        folder.mkdir()
        return unpack(str(path), Unpacking(folder, memory, limits=limits))

    return unpacked


@pytest.mark.parametrize("layout", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.parametrize("compressed", [True, False])
def test_sparse_npz(tmp_path: Path, unpacked, layout: str, compressed: bool) -> None:
    V = sample_matrix("int16")[: 50 if layout == "dia" else None]
    sp.save_npz(tmp_path / "V.npz", SPARSE[layout](V), compressed=compressed)
    source = unpacked(tmp_path / "V.npz")
    np.testing.assert_array_equal(read(source), V)
    assert source.dtype == np.int16
    assert not (tmp_path / "staging" / "raw").exists()


@pytest.mark.parametrize("order", ["C", "F"])
def test_npz_with_one_matrix(tmp_path: Path, unpacked, order: str) -> None:
    V = np.asarray(sample_matrix("float64"), order=order)
    np.savez_compressed(tmp_path / "V.npz", V=V, names=np.arange(3), scale=1.5)
    np.testing.assert_array_equal(read(unpacked(tmp_path / "V.npz")), V)


def test_npz_must_have_exactly_one_matrix(tmp_path: Path, unpacked) -> None:
    np.savez(tmp_path / "two.npz", a=np.eye(2), b=np.eye(3), c=np.arange(4))
    message = r"2 two-dimensional arrays.*a \(2, 2\), b \(3, 3\), c \(4,\)"
    with pytest.raises(InputError, match=message):
        unpacked(tmp_path / "two.npz")


def test_npz_objects_are_not_unpickled(tmp_path: Path, unpacked) -> None:
    np.savez(tmp_path / "V.npz", V=np.array([[print, 1]], dtype=object))
    with pytest.raises((InputError, CorruptDataError), match="object"):
        unpacked(tmp_path / "V.npz")


def test_damaged_npz(tmp_path: Path, unpacked) -> None:
    path = tmp_path / "V.npz"
    sp.save_npz(path, sp.random_array((300, 300), density=0.2, format="csr"))
    content = bytearray(path.read_bytes())
    content[2000:2010] = bytes(10)
    path.write_bytes(content)
    with pytest.raises(CorruptDataError, match="cannot be read"):
        unpacked(path)


def test_npz_with_wrong_indices(tmp_path: Path, unpacked) -> None:
    parts = {"row": np.array([0, 9]), "col": np.array([0, 1]), "data": np.ones(2)}
    np.savez(tmp_path / "V.npz", format=np.array(b"coo"), shape=np.array([3, 3]), **parts)
    with pytest.raises(CorruptDataError, match="row index outside 0 to 2"):
        unpacked(tmp_path / "V.npz")


def test_npz_that_is_read_as_a_whole_must_fit(tmp_path: Path, unpacked) -> None:
    sp.save_npz(tmp_path / "V.npz", sp.eye_array(1000, format="dia"))
    with pytest.raises(MemoryPlanError, match=r"save it as csr"):
        unpacked(tmp_path / "V.npz", memory=1000)


WRITERS = {".mtx": open, ".mtx.gz": gzip.open, ".mtx.bz2": bz2.open}


def write_text(folder: Path, text: str, suffix: str = ".mtx") -> Path:
    path = folder / f"V{suffix}"
    with WRITERS[suffix](path, "wb") as file:
        file.write(text.encode())
    return path


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("text_bytes", [50, 1000, 10**6])
@pytest.mark.parametrize("field", ["integer", "real"])
def test_coordinates(tmp_path: Path, unpacked, suffix: str, text_bytes: int, field: str):
    V = sample_matrix("int64" if field == "integer" else "float64")
    text = io.BytesIO()
    scipy.io.mmwrite(text, sp.coo_array(V), comment="a comment\nof two lines", field=field)
    source = unpacked(
        write_text(tmp_path, text.getvalue().decode(), suffix),
        limits=ConversionLimits(text_bytes=text_bytes),
    )
    assert source.dtype == V.dtype
    np.testing.assert_array_equal(read(source), V)


def test_array_file(tmp_path: Path, unpacked) -> None:
    V = sample_matrix("float64")
    scipy.io.mmwrite(tmp_path / "V.mtx", V)
    few = ConversionLimits(text_bytes=100)
    np.testing.assert_array_equal(read(unpacked(tmp_path / "V.mtx", limits=few)), V)


@pytest.mark.parametrize("sparse", [True, False])
def test_symmetric_file(tmp_path: Path, unpacked, sparse: bool) -> None:
    V = sample_matrix("float64")[:40, :40]
    V = V + V.T
    matrix = sp.coo_array(V) if sparse else V
    scipy.io.mmwrite(tmp_path / "V.mtx", matrix, symmetry="symmetric")
    np.testing.assert_array_equal(read(unpacked(tmp_path / "V.mtx")), V)


def test_symmetric_array_must_fit(tmp_path: Path, unpacked) -> None:
    scipy.io.mmwrite(tmp_path / "V.mtx", np.ones((50, 50)), symmetry="symmetric")
    with pytest.raises(MemoryPlanError, match="0 MB may be used"):
        unpacked(tmp_path / "V.mtx", memory=1000)


BANNER = "%%MatrixMarket matrix coordinate real general\n"


def test_pattern_blank_lines_and_missing_last_newline(tmp_path: Path, unpacked) -> None:
    text = "%%MatrixMarket matrix coordinate pattern general\n%\n\n3 2 3\n1 1\n\n2 2\r\n \n3 1"
    np.testing.assert_array_equal(
        read(unpacked(write_text(tmp_path, text))), [[1, 0], [0, 1], [1, 0]]
    )


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("junk\n1 2 3\n", InputError, "not a Matrix Market file"),
        (BANNER, InputError, "not a Matrix Market file"),
        (BANNER + "3 x 1\n1 1 1\n", InputError, "not a Matrix Market file"),
        (BANNER + "% c\n3 3 2\n1 1 1\n4 1 1\n", InputError, "line 5: Row index out of bounds"),
        (BANNER + "3 3 2\n1 1 1\n2 1 x\n", InputError, "line 4: 'x' is no number"),
        (BANNER + "3 3 1\n1 1 1\n2 1 1\n", InputError, "more than the 1 entries"),
        (BANNER + "3 3 3\n1 1 1\n2 1 1\n", CorruptDataError, "ends after 2 of the 3 entries"),
        (BANNER.replace("real", "complex") + "3 3 1\n1 1 1 2\n", InputError, "complex"),
        (BANNER + "0 3 0\n", InputError, "no rows"),
    ],
)
def test_refusals_name_the_line(tmp_path: Path, unpacked, text: str, error, message: str) -> None:
    with pytest.raises(error, match=message):
        unpacked(write_text(tmp_path, text))


@pytest.mark.parametrize("suffix", [".mtx.gz", ".mtx.bz2"])
def test_truncated_compressed_file(tmp_path: Path, unpacked, suffix: str) -> None:
    body = "".join(f"{i} 1 {i * 0.731}\n" for i in range(1, 5001))
    path = write_text(tmp_path, BANNER + "5000 1 5000\n" + body, suffix)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CorruptDataError, match="cannot be read"):
        unpacked(path)


def test_a_file_that_is_not_there(tmp_path: Path, unpacked) -> None:
    with pytest.raises(InputError, match="does not exist"):
        unpacked(tmp_path / "V.mtx")


def test_columns_become_rows(tmp_path: Path) -> None:
    V = sample_matrix("float32")
    columns = tmp_path / "columns"
    columns.mkdir()
    for name in ("data", "indices", "indptr"):
        np.save(columns / f"{name}.npy", getattr(sp.csr_array(V.T), name))
    (tmp_path / "rows").mkdir()
    source = unpack_columns(NpyCsr(columns, V.T.shape), Unpacking(tmp_path / "rows", MUCH))
    np.testing.assert_array_equal(read(source), V)


def test_unpacking_stays_within_its_memory(tmp_path: Path) -> None:
    """600,000 entries of 24 bytes and more, in 6 MB."""
    rng, count = np.random.default_rng(0), 600_000
    triplets = zip(rng.integers(1, 2001, count), rng.integers(1, 2001, count), strict=True)
    body = "".join(f"{i} {j} 1.5\n" for i, j in triplets)
    path = write_text(tmp_path, f"{BANNER}2000 2000 {count}\n{body}")
    folder = tmp_path / "staging"
    folder.mkdir()
    few = ConversionLimits(text_bytes=2**18)
    tracemalloc.start()
    try:
        unpack(str(path), Unpacking(folder, 6 * 2**20, limits=few))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * 2**20


def test_suffixes() -> None:
    assert all(map(needs_unpacking, ("a.npz", "a.mtx", "/x/A.MTX.GZ", "a.mtx.bz2")))
    assert not any(map(needs_unpacking, ("a.npy", "a.zarr", "mtx", "a.gz")))
