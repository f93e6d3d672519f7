"""Conversion: every layout to every other one, and what is refused."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from dnmf.conversion.job import Converted, convert
from dnmf.conversion.limits import DEFAULT, ConversionLimits
from dnmf.errors import (
    InputError,
    MemoryPlanError,
    OptionError,
    OutputExistsError,
    RunError,
)
from dnmf.sources import open_source
from dnmf.steps.events import Event, Notice, Progress
from dnmf.steps.serial import Serial
from dnmf.testing.source_contract import read, sample_matrix

DTYPES = ("float32", "float64", "int16", "uint8", "int64", "bool")


def run(source: Any, target: Path, **options: Any) -> Converted:
    """Convert serially, and look that nothing but the target is left."""
    done = convert(source, target, executor=Serial(), **options)
    assert not list(target.parent.glob("*.converting-*"))
    return done


def write_csr(path: Path, V: np.ndarray, chunk: int, index: str = "int32") -> str:
    matrix = sp.csr_array(V.astype("float64"))
    attributes = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0"}
    group = zarr.create_group(str(path), attributes={**attributes, "shape": list(V.shape)})
    group.create_array("data", data=matrix.data.astype(V.dtype), chunks=(chunk,))
    group.create_array("indices", data=matrix.indices.astype(index), chunks=(chunk,))
    group.create_array("indptr", data=matrix.indptr.astype(index), chunks=(chunk,))
    return str(path)


def assert_csr(path: Path, V: np.ndarray, chunk: int) -> None:
    """The group is canonical CSR as AnnData lays it out, with the values and dtype of V."""
    group = zarr.open_group(str(path), mode="r")
    assert group.attrs["encoding-type"] == "csr_matrix"
    assert group.attrs["encoding-version"] == "0.1.0"
    assert group.attrs["shape"] == list(V.shape)
    parts = [group[name] for name in ("data", "indices", "indptr")]
    matrix = sp.csr_array(tuple(part[:] for part in parts), shape=V.shape)
    assert parts[0].dtype == V.dtype
    assert all(part.chunks[0] == max(1, min(chunk, part.shape[0])) for part in parts)
    fresh = sp.csr_array((matrix.data, matrix.indices, matrix.indptr), shape=V.shape)
    assert fresh.has_canonical_format
    np.testing.assert_array_equal(matrix.toarray(), V)


MANY_TASKS = ConversionLimits(
    read_bytes=2000, rectangle=6000, unlimited=40_000, task_bytes=3000, band=3000, entries=64
)
"""Many tasks, reads and bands even for small matrices."""


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(1, 70),
    d=st.integers(1, 40),
    dtype=st.sampled_from(DTYPES),
    density=st.sampled_from([0.0, 0.1, 1.0]),
    grids=st.lists(st.tuples(st.integers(3, 7), st.integers(3, 7)), min_size=2, max_size=2),
    chunk=st.sampled_from([30, 100, 400]),
    seed=st.integers(0, 9),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, n, d, dtype, density, grids, chunk, seed
) -> None:
    """Dense, other chunks, CSR, other chunks, dense again: the same numbers."""
    folder = tmp_path_factory.mktemp("convert")
    rng = np.random.default_rng(seed)
    V = (rng.integers(1, 100, (n, d)) * (rng.random((n, d)) < density)).astype(dtype)
    chunks = [(-(-n // a), -(-d // b)) for a, b in grids]
    zarr.create_array(str(folder / "a"), data=V, chunks=chunks[0])  # without chunks of zeros
    fill = {"missing_chunks": "fill", "limits": MANY_TASKS}
    run(folder / "a", folder / "b", chunks=chunks[1], **fill)
    run(folder / "b", folder / "c", to="csr", chunks=chunk, limits=MANY_TASKS)
    run(folder / "c", folder / "d", chunks=[2 * chunk], limits=MANY_TASKS)
    run(folder / "d", folder / "e", to="dense", limits=MANY_TASKS)
    for name in "be":
        stored = zarr.open_array(str(folder / name), mode="r")
        assert stored.dtype == dtype
        np.testing.assert_array_equal(stored[:], V)
    assert zarr.open_array(str(folder / "b"), mode="r").chunks == chunks[1]
    assert_csr(folder / "c", V, chunk)
    assert_csr(folder / "d", V, 2 * chunk)


@pytest.mark.parametrize("index", ["int32", "int64"])
def test_csr_with_many_tasks(tmp_path: Path, index: str) -> None:
    V = sample_matrix("float32", 400, 90)
    done = run(
        write_csr(tmp_path / "a", V, 301, index), tmp_path / "b", chunks=50, limits=MANY_TASKS
    )
    assert done.entries == np.count_nonzero(V)
    assert done.decodes == 2
    assert_csr(tmp_path / "b", V, 50)


def test_stored_zeros_are_kept_and_duplicates_summed(tmp_path: Path) -> None:
    parts = (np.array([0.0, 1, 2, 5]), np.array([2, 1, 1, 0]), np.array([0, 3, 3, 4]))
    group = zarr.create_group(
        str(tmp_path / "a"), attributes={"encoding-type": "csr_matrix", "shape": [3, 3]}
    )
    for name, values in zip(("data", "indices", "indptr"), parts, strict=True):
        group.create_array(name, data=values)
    done = run(tmp_path / "a", tmp_path / "b")
    assert done.entries == 3
    np.testing.assert_array_equal(zarr.open_group(str(tmp_path / "b"))["data"][:], [3, 0, 5])


def test_anndata_reads_it(tmp_path: Path) -> None:
    import anndata

    V = sample_matrix("float32")
    zarr.create_array(str(tmp_path / "a"), data=V)
    run(tmp_path / "a", tmp_path / "b", to="csr")
    run(tmp_path / "b", tmp_path / "c", to="dense")
    found = anndata.io.read_elem(zarr.open_group(str(tmp_path / "b"), mode="r"))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.toarray(), V)
    found = anndata.io.read_elem(zarr.open_array(str(tmp_path / "c"), mode="r"))
    np.testing.assert_array_equal(found, V)


WRITERS: dict[str, Callable[[Path, np.ndarray], Any]] = {
    "V.npy": np.save,
    "V.npz": lambda path, V: np.savez(path, V=V),
    "S.npz": lambda path, V: sp.save_npz(path, sp.csc_array(V)),
    "V.mtx": lambda path, V: scipy.io.mmwrite(path, V),
    "S.mtx": lambda path, V: scipy.io.mmwrite(path, sp.coo_array(V)),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("to", ["dense", "csr", None])
def test_files(tmp_path: Path, name: str, to: str | None) -> None:
    V = sample_matrix("float64")
    WRITERS[name](tmp_path / name, V)
    events: list[Event] = []
    done = run(str(tmp_path / name), tmp_path / "b", to=to, on_event=events.append)
    assert done.layout == (to or ("csr" if name.startswith("S") else "dense"))
    np.testing.assert_array_equal(read(open_source(tmp_path / "b")), V)
    last = [event for event in events if isinstance(event, Progress)][-1]
    assert last.done == last.total
    assert last.bytes_done == last.bytes_total > 0


@pytest.mark.parametrize("V", [sample_matrix(), sp.csr_array(sample_matrix())])
def test_arrays_in_memory(tmp_path: Path, V: Any) -> None:
    run(V, tmp_path / "b", to="csr")
    assert_csr(tmp_path / "b", sample_matrix(), DEFAULT.entries)


def test_csc(tmp_path: Path) -> None:
    V = sample_matrix("float32")
    write_csr(tmp_path / "a", V.T, 100)
    group = zarr.open_group(str(tmp_path / "a"))
    group.attrs.update({"encoding-type": "csc_matrix", "shape": list(V.shape)})
    run(tmp_path / "a", tmp_path / "b")
    assert_csr(tmp_path / "b", V, DEFAULT.entries)


@pytest.mark.parametrize("to", ["dense", "csr"])
def test_urls(to: str) -> None:
    V = sample_matrix("float32")
    target = f"memory://converted/{to}.zarr"
    first = convert(V, target, to=to, executor=Serial())
    again = convert(V[:50], target, to=to, executor=Serial(), overwrite=True)
    assert (first.shape, again.shape) == ((157, 43), (50, 43))
    np.testing.assert_array_equal(read(open_source(target)), V[:50])


def test_dtype(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "a"), data=sample_matrix("float64"))
    run(tmp_path / "a", tmp_path / "b", to="csr", dtype="uint8")
    assert_csr(tmp_path / "b", sample_matrix("uint8"), DEFAULT.entries)
    run(tmp_path / "b", tmp_path / "c", to="dense", dtype="float32")
    stored = zarr.open_array(str(tmp_path / "c"), mode="r")
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored[:], sample_matrix())


def test_all_chunks_are_stored(tmp_path: Path) -> None:
    """Also those of zeros only: a chunk that is missing was lost."""
    run(np.zeros((40, 30)), tmp_path / "b", chunks=(10, 10))
    assert len([path for path in (tmp_path / "b" / "c").rglob("*") if path.is_file()]) == 12


class TestRefusals:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        zarr.create_array(str(tmp_path / "a"), data=sample_matrix("float64"), chunks=(157, 2))
        return tmp_path / "a"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"to": "sparse"}, "to is 'sparse'; it must be one of dense, csr"),
            ({"chunks": (1, 2, 3)}, "give rows and columns"),
            ({"chunks": (0, 5)}, "give rows and columns"),
            ({"chunks": (5, 5), "to": "csr"}, "for CSR give one number"),
            ({"dtype": "complex64"}, "dtype is complex64"),
            ({"dtype": "nonsense"}, "dtype is 'nonsense'"),
        ],
    )
    def test_options(self, source: Path, options: dict[str, Any], message: str) -> None:
        with pytest.raises(OptionError, match=message):
            run(source, source.parent / "b", **options)
        assert os.listdir(source.parent) == ["a"]

    def test_existing_target(self, source: Path) -> None:
        target = source.parent / "b"
        run(source, target)
        with pytest.raises(OutputExistsError, match="--overwrite"):
            run(source, target, to="csr")
        run(source, target, to="csr", overwrite=True)
        assert_csr(target, sample_matrix("float64"), DEFAULT.entries)

    def test_only_zarr_is_overwritten(self, source: Path) -> None:
        target = source.parent / "precious"
        target.mkdir()
        (target / "thesis.txt").write_text("all of it")
        with pytest.raises(OptionError, match="not a Zarr"):
            run(source, target, overwrite=True)
        assert (target / "thesis.txt").read_text() == "all of it"

    def test_source_and_target_within_each_other(self, tmp_path: Path) -> None:
        group = zarr.create_group(str(tmp_path / "store"))
        group.create_array("X", data=np.eye(3))
        with pytest.raises(OptionError, match="within each other"):
            run(tmp_path / "store" / "X", tmp_path / "store", overwrite=True)
        write_csr(tmp_path / "csr", np.eye(3), 10)
        with pytest.raises(OptionError, match="within each other"):
            run(tmp_path / "csr", tmp_path / "csr" / "data", overwrite=True)

    def test_rechunked_in_place(self, source: Path) -> None:
        run(source, source, chunks=(10, 43), overwrite=True)
        stored = zarr.open_array(str(source), mode="r")
        assert stored.chunks == (10, 43)
        np.testing.assert_array_equal(stored[:], sample_matrix("float64"))

    def test_folder_that_is_not_there(self, source: Path) -> None:
        with pytest.raises(RunError, match="does not exist; make it"):
            run(source, source.parent / "no" / "b")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_folder_that_may_not_be_written(self, source: Path) -> None:
        folder = source.parent / "locked"
        folder.mkdir(mode=0o500)
        with pytest.raises(RunError, match="may not write"):
            run(source, folder / "b")

    def test_source_that_is_not_there(self, tmp_path: Path) -> None:
        for name in ("a.zarr", "a.npz", "a.mtx"):
            with pytest.raises(InputError, match=name.replace(".", r"\.")):
                run(str(tmp_path / name), tmp_path / "b")
        assert os.listdir(tmp_path) == []

    def test_number_that_does_not_fit(self, source: Path) -> None:
        array = zarr.open_array(str(source))
        array[70, 11] = 1000.5
        for to in ("dense", "csr"):
            with pytest.raises(InputError, match=r"1000\.5 .*row 70.* does not fit uint16"):
                run(source, source.parent / "b", dtype="uint16", to=to)
        assert os.listdir(source.parent) == ["a"]

    def test_damaged_chunk(self, source: Path) -> None:
        (source / "c" / "0" / "7").write_bytes(b"junk")
        with pytest.raises(InputError, match="c/0/7"):
            run(source, source.parent / "b")
        assert os.listdir(source.parent) == ["a"]

    def test_limit_below_the_process_itself(self, source: Path) -> None:
        with pytest.raises(MemoryPlanError, match=r"70% of the limit of 100MB .*\(--memory\)"):
            run(source, source.parent / "b", memory=10**8)
        assert os.listdir(source.parent) == ["a"]


class Recording(Serial):
    """Runs serially, by way of a pickle as a cluster does, and keeps the pickles' sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def run_step(self, work: Any, on_leaf: Any) -> Any:
        payload = pickle.dumps(work)
        self.sizes.append(len(payload))
        return super().run_step(pickle.loads(payload), on_leaf)


def test_works_are_small_pickles(tmp_path: Path) -> None:
    V = sample_matrix("float64", 400, 60)
    zarr.create_array(str(tmp_path / "a"), data=V, chunks=(50, 9))
    executor = Recording()
    convert(
        tmp_path / "a", tmp_path / "b", to="csr", chunks=100, executor=executor, limits=MANY_TASKS
    )
    convert(tmp_path / "b", tmp_path / "c", to="dense", executor=executor, limits=MANY_TASKS)
    assert len(executor.sizes) == 3
    assert max(executor.sizes) < 8000
    np.testing.assert_array_equal(read(open_source(tmp_path / "c")), V)


def test_tall_chunks_without_room_say_how_often_they_are_decoded(tmp_path: Path) -> None:
    V = sample_matrix("float64", 400, 50)
    free = ConversionLimits(baseline=0, least=1)
    zarr.create_array(str(tmp_path / "a"), data=V, chunks=(400, 2))
    events: list[Event] = []
    done = run(
        tmp_path / "a",
        tmp_path / "b",
        memory=120_000,
        chunks=5,
        on_event=events.append,
        limits=free,
    )
    assert done.decodes > 2
    notices = [event.text for event in events if isinstance(event, Notice)]
    assert len(notices) == 1
    assert f"up to {done.decodes} times" in notices[0]
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "b"), mode="r")[:], V)


@pytest.mark.parametrize("to", ["dense", "csr"])
def test_worker_that_does_not_see_the_target_says_so(tmp_path: Path, to: str) -> None:
    """As if another machine had another disk under this name: nothing is created there."""
    zarr.create_array(str(tmp_path / "a"), data=sample_matrix())

    class Elsewhere(Serial):
        def run_step(self, work: Any, on_leaf: Any) -> Any:
            shutil.rmtree(Path(work.writer.path).parent)
            return super().run_step(work, on_leaf)

    with pytest.raises(RunError, match="every worker must reach the target"):
        convert(tmp_path / "a", tmp_path / "b", to=to, executor=Elsewhere())
    assert os.listdir(tmp_path) == ["a"]
