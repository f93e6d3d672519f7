"""HDF5 files are read as Zarr stores are: any layout, names, orientation, damage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dnmf
from dnmf.errors import CorruptDataError, InputError, MissingDependencyError
from dnmf.sources import Source, from_spec, open_source
from dnmf.sources.hdf5 import layout
from dnmf.sources.hdf5.store import Hdf5Store
from dnmf.testing.counting import CountingStore
from dnmf.testing.source_contract import SourceContract, as_dense, read

h5py = pytest.importorskip("h5py")

DTYPES = ("float16", "float32", "float64", "bool", "int8", "int16", "int32", "int64")
DTYPES += ("uint8", "uint16", "uint32", "uint64")
A = np.random.default_rng(0).poisson(1.0, (60, 14)).astype(float)


def write(path: Path, V: np.ndarray, name: str = "V", **options: Any) -> Path:
    with h5py.File(path, "a") as file:
        file.create_dataset(name, data=V, **options)
    return path


class Hdf5Layout:
    """How the contract makes sources of one layout."""

    transposes = True
    options: ClassVar[dict[str, Any]] = {}
    large: ClassVar[dict[str, Any]] = {}

    def make(self, V: np.ndarray, folder: Path) -> Source:
        return open_source(write(folder / "V.h5", V, **self.options) / "V")

    def make_large(self, V: np.ndarray, folder: Path) -> Source:
        return open_source(write(folder / "V.h5", V, **self.options | self.large) / "V")

    def make_counting(self, V: np.ndarray) -> tuple[Source, CountingStore]:
        path = self.folder / f"{len(os.listdir(self.folder))}.h5"
        store = CountingStore(Hdf5Store(str(write(path, V, **self.options))))
        return open_source(zarr.open_array(store, path="V", mode="r")), store

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.folder = tmp_path_factory.mktemp("counting")


class TestContiguous(Hdf5Layout, SourceContract):
    kind = "zarr"
    dtypes = (*DTYPES, ">f4", ">i2")
    block_dtypes: ClassVar = {">f4": "float32", ">i2": "int16"}


class TestSmallChunksTogether(Hdf5Layout, SourceContract):
    kind = "zarr"
    dtypes = DTYPES
    options: ClassVar = {"chunks": (7, 5), "compression": "gzip", "shuffle": True}
    large: ClassVar = {"chunks": (100, 101)}


class TestChunksOfOtherFilters(Hdf5Layout, SourceContract):
    """Of LZF, which HDF5 decodes itself, with checksums."""

    kind = "zarr"
    options: ClassVar = {"chunks": (20, 43), "compression": "lzf", "fletcher32": True}
    large: ClassVar = {"chunks": (300, 501)}


class TestSparse(SourceContract):
    kind = "zarr_csr"

    def make(self, V: np.ndarray, folder: Path, chunk: int = 50) -> Source:
        S = sp.csr_array(V)
        with h5py.File(folder / "V.h5ad", "w") as file:
            group = file.create_group("X")
            group.attrs.update({"encoding-type": "csr_matrix", "shape": V.shape})
            for name in ("data", "indices", "indptr"):
                size = min(chunk, len(getattr(S, name)))
                options = {"chunks": (size,), "compression": "gzip"}
                group.create_dataset(name, data=getattr(S, name), **options)
        return open_source(folder / "V.h5ad" / "X")

    def make_large(self, V: np.ndarray, folder: Path) -> Source:
        return self.make(V, folder, 20_000)

    def make_counting(self, V: np.ndarray) -> tuple[Source, CountingStore]:
        folder = self.folder / str(len(os.listdir(self.folder)))
        folder.mkdir()
        self.make(V, folder)
        store = CountingStore(Hdf5Store(str(folder / "V.h5ad")))
        return open_source(zarr.open_group(store, path="X", mode="r")), store

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.folder = tmp_path_factory.mktemp("counting")


ONE_FOLDER = [HealthCheck.function_scoped_fixture]


@settings(deadline=None, max_examples=60, suppress_health_check=ONE_FOLDER)
@given(st.data())
def test_any_layout_reads_like_memory(tmp_path: Path, data: st.DataObject) -> None:
    n, d = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 30))
    options: dict[str, Any] = {}
    if data.draw(st.booleans()):
        options["chunks"] = data.draw(st.tuples(st.integers(1, n), st.integers(1, d)))
        options["compression"] = data.draw(st.sampled_from([None, "gzip", "lzf"]))
        options["shuffle"] = data.draw(st.booleans())
        options["fletcher32"] = data.draw(st.booleans())
    dtype = data.draw(st.sampled_from((*DTYPES, ">f8", ">u4")))
    V = np.random.default_rng(n).integers(0, 2, (n, d)).astype(dtype)
    path = tmp_path / "V.h5"
    path.unlink(missing_ok=True)
    together = data.draw(st.sampled_from([1, 300, 1 << 20]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "TOGETHER", together)
        source = open_source(write(path, V, **options) / "V")
        np.testing.assert_array_equal(read(source), V)
        turned = source.transposed()
        assert turned is not None
        np.testing.assert_array_equal(read(turned), V.T)


def test_small_chunks_are_decoded_together(tmp_path: Path) -> None:
    """h5py's own are often of some KiB, each of which would cost as much as one of a MiB."""
    V = np.random.default_rng(0).random((3000, 200))
    source = open_source(write(tmp_path / "V.h5", V, chunks=(50, 20)) / "V")
    assert "chunks 650 x 200, HDF5" in source.describe()


@pytest.mark.parametrize("codec", ["blosc", "zstd"])
def test_plugins_are_not_needed(tmp_path: Path, codec: str) -> None:
    """Chunks as the filters of hdf5plugin write them, put into the file as they are."""
    import numcodecs

    encoder = {"blosc": numcodecs.Blosc(), "zstd": numcodecs.Zstd()}[codec]
    number = {"blosc": 32001, "zstd": 32015}[codec]
    V = np.random.default_rng(0).integers(0, 9, (40, 14)).astype("f4")
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((20, 14))
    plan.set_filter(number, h5py.h5z.FLAG_OPTIONAL, ())
    with h5py.File(tmp_path / "V.h5", "w") as file:
        space, dtype = h5py.h5s.create_simple(V.shape), h5py.h5t.py_create(V.dtype)
        made = h5py.h5d.create(file.id, b"V", dtype, space, plan)
        for row in (0, 20):
            made.write_direct_chunk((row, 0), encoder.encode(V[row : row + 20]))
    np.testing.assert_array_equal(read(open_source(tmp_path / "V.h5/V")), V)


def test_a_chunk_that_skipped_a_filter(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "V.h5", "w") as file:
        made = file.create_dataset("V", A.shape, chunks=(20, 14), compression="gzip", dtype="f8")
        made[20:] = A[20:]
        made.id.write_direct_chunk((0, 0), A[:20].tobytes(), filter_mask=1)
    np.testing.assert_array_equal(read(open_source(tmp_path / "V.h5/V")), A)


def test_behind_a_block_of_the_users(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "V.h5", "w", userblock_size=512) as file:
        file["V"] = A
        file.create_dataset("C", data=A, chunks=(9, 5))
    for name in "VC":
        np.testing.assert_array_equal(read(open_source(tmp_path / "V.h5" / name)), A)


def test_odd_types_are_as_hdf5_says(tmp_path: Path) -> None:
    """Integers of 12 bits in 16, of which the others may be anything."""
    kind = h5py.h5t.STD_U16LE.copy()
    kind.set_precision(12)
    with h5py.File(tmp_path / "V.h5", "w") as file:
        made = h5py.h5d.create(file.id, b"V", kind, h5py.h5s.create_simple(A.shape))
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, A.astype("u2"))
    np.testing.assert_array_equal(read(open_source(tmp_path / "V.h5/V")), A)


def test_fits_wherever_a_path_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "V.h5", A, chunks=(20, 5), compression="gzip") / "V"
    want = dnmf.fit(A, 2, seed=0, max_passes=5)
    found = dnmf.fit(path, 2, seed=0, max_passes=5, out=tmp_path / "out.zarr", weights=path)
    assert dnmf.open(tmp_path / "out.zarr").objective == found.objective
    found = dnmf.fit(path, 2, seed=0, max_passes=5)
    np.testing.assert_allclose(found.H, want.H, rtol=1e-6)
    np.testing.assert_allclose(dnmf.transform(path, want), dnmf.transform(A, want), rtol=1e-6)
    dnmf.convert(path, tmp_path / "plain.zarr")
    np.testing.assert_array_equal(read(open_source(tmp_path / "plain.zarr")), A)
    with h5py.File(tmp_path / "V.h5") as file:
        np.testing.assert_array_equal(dnmf.fit(file["V"], 2, seed=0, max_passes=5).H, found.H)
        model = dnmf.NMF(2, random_state=0, max_iter=5, tol=0).fit(file["V"])
    in_zarr = dnmf.NMF(2, random_state=0, max_iter=5, tol=0).fit(path)
    np.testing.assert_array_equal(model.components_, in_zarr.components_)


def test_chunks_that_are_not_stored(tmp_path: Path) -> None:
    """As in Zarr: never silently zeros, unless so many may well be empty."""
    with h5py.File(tmp_path / "V.h5", "w") as file:
        file.create_dataset("V", A.shape, chunks=(20, 14), dtype="f8")[:40] = A[:40]
        file.create_dataset("none", A.shape, dtype="f8")
    with pytest.raises(CorruptDataError, match=r"1 of 3 chunks of .*V.h5/V are missing: V/2\.0"):
        dnmf.fit(tmp_path / "V.h5/V", 2, max_passes=2)
    with pytest.raises(CorruptDataError, match=r"1 of 1 chunks of .*V.h5/none are missing"):
        dnmf.convert(tmp_path / "V.h5/none", tmp_path / "out.zarr")
    filled = np.concatenate([A[:40], np.zeros((20, 14))])
    found = dnmf.fit(tmp_path / "V.h5/V", 2, seed=0, max_passes=3, missing_chunks="fill")
    np.testing.assert_allclose(found.H, dnmf.fit(filled, 2, seed=0, max_passes=3).H, rtol=1e-6)


def test_what_they_read_as_is_the_fill_value(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "V.h5", "w") as file:
        file.create_dataset("V", A.shape, chunks=(20, 14), dtype="f8", fillvalue=3.0)[:40] = A[:40]
    source = open_source(tmp_path / "V.h5/V")
    np.testing.assert_array_equal(read(source), np.concatenate([A[:40], np.full((20, 14), 3.0)]))


def test_a_file_that_changes_meanwhile(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "V.h5", A) / "V")
    read(source)
    write(tmp_path / "V.h5", A, "other")
    with pytest.raises(CorruptDataError, match="was changed while it was read"):
        read(source)


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_file_that_is_cut_off(tmp_path: Path, compression: str | None) -> None:
    V = np.random.default_rng(0).random((400, 300))
    path = write(tmp_path / "V.h5", V, chunks=(10, 300), compression=compression)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(CorruptDataError, match=r"V.h5.*truncated"):
        dnmf.fit(path / "V", 2)


def test_damaged_chunks_are_named(tmp_path: Path) -> None:
    V = np.random.default_rng(0).random((4000, 100))
    path = write(tmp_path / "V.h5", V, chunks=(500, 100), compression="gzip")
    source = open_source(path / "V")
    with h5py.File(path) as file:
        found = file["V"].id.get_chunk_info(5)
    before = path.stat()
    with open(path, "r+b") as damaged:
        damaged.seek(found.byte_offset + 1000)
        damaged.write(b"damage" * 10)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(CorruptDataError, match=r"chunk V/2\.0 of .*V.h5/V .*rows 2000 to 2999"):
        read(source)


def test_open_for_writing(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "V.h5", "w") as file:
        file["V"] = A
        file.flush()
        for given in (tmp_path / "V.h5/V", file["V"]):
            with pytest.raises(InputError, match="open for writing"):
                dnmf.fit(given, 2)
        model = dnmf.NMF(2, max_iter=2, tol=0).fit(file["V"])  # loaded, as scikit-learn does
    assert model.components_.shape == (2, 14)


def test_only_in_memory() -> None:
    with h5py.File("V.h5", "w", driver="core", backing_store=False) as file:
        file["V"] = A
        with pytest.raises(InputError, match="no path that others could open; load it"):
            dnmf.fit(file["V"], 2)


def _virtual(file: Any) -> None:
    made = h5py.VirtualLayout(A.shape, "f8")
    made[:] = h5py.VirtualSource("other.h5", "V", A.shape)
    file.create_virtual_dataset("V", made)


def _matlab(file: Any) -> None:
    file["V"] = A.T
    file["V"].attrs["MATLAB_class"] = np.bytes_("double")


def _link(file: Any) -> None:
    write(Path(file.filename).parent / "other.h5", A)
    file["V"] = h5py.ExternalLink("other.h5", "V")


def _unknown_filter(file: Any) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((20, 14))
    plan.set_filter(32099, h5py.h5z.FLAG_OPTIONAL, ())
    h5py.h5d.create(file.id, b"V", h5py.h5t.IEEE_F64LE, h5py.h5s.create_simple(A.shape), plan)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda file: file.create_group("G"),
            InputError,
            "V.h5 is an HDF5 group",
        ),
        (lambda file: file.create_group("V"), InputError, "is an HDF5 group, not a matrix"),
        (lambda file: file.create_dataset("V", data=A[0]), InputError, "1 dimension .*must have 2"),
        (lambda file: file.create_dataset("V", data=A + 1j), InputError, "dtype complex128"),
        (lambda file: file.create_dataset("V", data=[["a"]]), InputError, "dtype"),
        (lambda file: file.create_dataset("V", (0, 5), "f4"), InputError, "has no rows"),
        (_virtual, InputError, "virtual dataset, whose parts lie in other files"),
        (_matlab, InputError, r"an array of MATLAB, which HDF5 holds transposed \(here 14 x 60\)"),
        (_link, InputError, "is a link to another file; give that one: .*other.h5/V"),
        (_unknown_filter, MissingDependencyError, "pip install hdf5plugin"),
    ],
)
def test_refused(tmp_path: Path, make: Any, error: Any, text: str) -> None:
    with h5py.File(tmp_path / "V.h5", "w") as file:
        make(file)
    with pytest.raises(error, match=text):
        open_source(tmp_path / "V.h5/V")


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "V.h5", A)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'dnmf\[hdf5\]'"):
        open_source(path / "V")


def test_spec_of_a_path_within(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "V.h5", A, "a/b/V") / "a" / "b" / "V")
    np.testing.assert_array_equal(as_dense(read(from_spec(source.spec()))), A)
