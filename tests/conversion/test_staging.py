"""What other processes cannot open is written to the run folder: whole or not at all."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
from zarr.storage import MemoryStore

from dnmf.config import MIB, FitConfig, ModelSpec, Resources
from dnmf.conversion import job, staging
from dnmf.conversion.grid import dense_grid
from dnmf.conversion.staging import STAGING, stage
from dnmf.errors import ClusterError, CorruptDataError, InputError, MemoryPlanError, RunError
from dnmf.executors.cluster import Cluster
from dnmf.interop import as_source
from dnmf.launch.data import place
from dnmf.runs.folder import FolderStore
from dnmf.sources import Source, from_spec
from dnmf.sources.weighted import WeightedSource
from dnmf.steps.serial import Serial
from dnmf.testing import faults
from dnmf.testing.faults import Fault
from dnmf.testing.layouts import write_dense
from dnmf.testing.source_contract import read, sample_matrix

if TYPE_CHECKING:
    from distributed import Client


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore.create_new(tmp_path / "run")


def chunks_stored(source: Source) -> set[str]:
    root = Path(source.spec()["location"])
    return {str(path.relative_to(root)) for path in root.rglob("c/**/*") if path.is_file()}


def check_staged(source: Source, V: np.ndarray, store: FolderStore) -> None:
    """It is V, whole, in the run's own folder, for this user alone, and opens elsewhere."""
    assert source.persistent
    assert source.dtype == V.dtype
    np.testing.assert_array_equal(read(from_spec(source.spec())), V)
    starts = source.block_starts(10_000, 8, 10**6).tolist()
    np.testing.assert_array_equal(read(source, starts), V)
    for a, b in pairwise(starts):
        (block,) = source.read_blocks([a, b])
        assert source.unstored(a, b, block) == []
    assert sorted(os.listdir(store.state_folder)) == ["objects", "records", "staged.zarr"]
    assert stat.S_IMODE(os.stat(store.state_folder).st_mode) == 0o700


def in_zarr_memory(V: np.ndarray) -> Any:
    return write_dense(MemoryStore(), V, (50, 20))


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "bool"])
@pytest.mark.parametrize("make", [np.array, np.asfortranarray, sp.csr_array, in_zarr_memory])
def test_written_by_this_process(
    store: FolderStore, make: Callable[[np.ndarray], Any], dtype: str
) -> None:
    V = sample_matrix(dtype)
    given = make(V)
    source = as_source(given)
    assert not source.persistent
    check_staged(stage(source, store, Serial()), V, store)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_chunk_that_is_gone_is_not_staged_as_zeros(store: FolderStore, weighted: bool) -> None:
    memory, V = MemoryStore(), sample_matrix("float32") + 1
    array = write_dense(memory, V, (50, 20))
    del memory._store_dict["c/1/0"]
    source: Source = as_source(array)
    if weighted:
        source = WeightedSource(as_source(V), source, None)
    config = FitConfig((ModelSpec(2, 0),))
    with pytest.raises(CorruptDataError, match=r"1 of \d+ chunks.*c/1/0"):
        place(source, config, "fit", store, Serial())
    assert sorted(os.listdir(store.state_folder)) == ["objects", "records"]
    staged = place(source, replace(config, missing_chunks="fill"), "fit", store, Serial())
    V[50:100, :20] = 0
    np.testing.assert_array_equal(read(staged.parts[-1]), V)


@pytest.mark.parametrize("sparse", [False, True])
def test_in_several_bands(store: FolderStore, sparse: bool) -> None:
    V = sample_matrix("float64")
    source = as_source(sp.csr_array(V) if sparse else V)
    few = replace(STAGING, band=8_000, task_bytes=8_000)
    check_staged(stage(source, store, Serial(), limits=few), V, store)


@pytest.mark.parametrize("make", [np.array, np.asfortranarray])
def test_rows_too_long_to_be_read_are_written_for_columns(store: FolderStore, make: Any) -> None:
    few = replace(STAGING, chunk_row=4_000, chunk=1_000, task_bytes=5_000)
    V = make(sample_matrix("float32", 30, 2001))
    staged = stage(as_source(V), store, Serial(), limits=few)
    across = staged.transposed()
    assert across is not None
    assert across.block_starts(1, 4, 1).size > 200  # narrow columns can be read
    check_staged(staged, V, store)


def test_a_write_that_fails_leaves_nothing(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise RunError("full")

    monkeypatch.setattr(job, "finish_stack", fail)
    with pytest.raises(RunError, match="full"):
        stage(as_source(sp.csr_array(sample_matrix())), store, Serial())
    assert sorted(os.listdir(store.state_folder)) == ["objects", "records"]


def test_too_large_for_the_file_system(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    free = SimpleNamespace(free=26_000)
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda path: free)
    with pytest.raises(RunError, match=r"takes 27 kB, but 26 kB are free"):
        stage(as_source(sample_matrix()), store, Serial())
    assert sorted(os.listdir(store.state_folder)) == ["objects", "records"]


@pytest.mark.parametrize(
    ("shape", "tall", "wide", "chunks", "unit"),
    [
        ((10**6, 1000), 1000, 1000, (1000, 1000), (1000, 1000)),
        ((10**6, 1000), 10, 1000, (1040, 1000), (1040, 1000)),  # tiny pieces are joined
        ((10**6, 1000), 10**6, 1000, (883, 1000), (16777, 1000)),  # one piece is cut
        ((10**6, 1000), 10007, 1000, (1048, 1000), (9432, 1000)),  # a prime number of rows
        ((10**6, 10**5), 4000, 4000, (40, 4000), (4000, 4000)),  # whole rows are 3.2 GB
        ((10**6, 1000), 10**6, 10, (4000, 10), (10**6, 10)),
        ((100, 10**8), 100, 10**5, (100, 10**4), (100, 10**5)),  # by columns
        ((5, 3), 2, 1, (5, 3), (5, 3)),
    ],
)
def test_grid(
    shape: tuple[int, int], tall: int, wide: int, chunks: tuple[int, int], unit: tuple[int, int]
) -> None:
    grid = dense_grid(shape, 8, (tall, wide))
    assert (grid.chunks, grid.unit) == (chunks, unit)


CHUNKINGS = [
    (40, 17),
    ((1, 70, 0, 86), (5, 0, 38)),
    (157, 1),
    (13, 43),
    (157, 43),
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("make", "chunks"),
    [
        *((None, chunks) for chunks in CHUNKINGS),
        *((sp.csr_array, chunks) for chunks in CHUNKINGS),
        (sp.csr_matrix, (40, 17)),
    ],
)
def test_written_by_the_workers(client: Client, store: FolderStore, make: Any, chunks: Any) -> None:
    V = sample_matrix("float32")
    x = da.from_array(V, chunks=chunks)
    x = x if make is None else x.map_blocks(make)
    check_staged(stage(as_source(x, client), store, Cluster(client)), V, store)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("chunks", CHUNKINGS)
def test_in_many_chunks(client: Client, store: FolderStore, chunks: Any) -> None:
    """Small limits, so that chunks are cut, joined and as wide as the array's."""
    few = replace(STAGING, rectangle=6_000, chunk=1_500, chunk_row=3_000)
    V = sample_matrix("float32")
    source = as_source(da.from_array(V, chunks=chunks), client)
    staged = stage(source, store, Cluster(client), limits=few)
    check_staged(staged, V, store)
    assert len(chunks_stored(staged)) > 10


@pytest.mark.timeout(120)
def test_unknown_rows_and_persisted_chunks(client: Client, store: FolderStore) -> None:
    V = sample_matrix("float64")
    x = client.persist(da.from_array(V, chunks=(40, 17)))
    keep = V[:, 0] == 0
    x = x[da.from_array(keep, chunks=40)]
    source = as_source(x)  # computed by the client that holds it
    np.testing.assert_array_equal(read(source), V[keep])
    check_staged(stage(source, store, Cluster(client)), V[keep], store)
    assert all(np.isnan(rows) for rows in x.chunks[0])  # what was given is as it was


def counted(block: np.ndarray, folder: str, sparse: bool) -> Any:
    Path(folder, f"{time.monotonic_ns()}-{os.getpid()}").touch()
    return sp.csr_array(block) if sparse else block


@pytest.mark.timeout(120)
@pytest.mark.parametrize("sparse", [False, True])
def test_every_chunk_is_computed_once(
    client: Client, store: FolderStore, tmp_path: Path, sparse: bool
) -> None:
    V, folder = sample_matrix("float32"), tmp_path / "computed"
    folder.mkdir()
    meta = sp.csr_array((0, 0), dtype="float32") if sparse else V[:0, :0]
    x = da.from_array(V, chunks=(20, 17)).map_blocks(counted, str(folder), sparse, meta=meta)
    check_staged(stage(as_source(x, client), store, Cluster(client)), V, store)
    names = [path.name for path in folder.iterdir()]
    assert len(names) == 8 * 3
    assert len({name.partition("-")[2] for name in names}) == 2  # both workers, not this process
    assert str(os.getpid()) not in {name.partition("-")[2] for name in names}


def broken(block: np.ndarray, block_info: Any = None) -> np.ndarray:
    if block_info[0]["chunk-location"][0] == 2:
        raise ValueError("no such thing")
    return block


def wrong_dtype(block: np.ndarray) -> np.ndarray:
    return block.astype(np.float64) + 1e200


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("function", "text"), [(broken, "ValueError: no such thing"), (wrong_dtype, "float64")]
)
def test_what_cannot_be_computed_leaves_nothing(
    client: Client, store: FolderStore, function: Any, text: str
) -> None:
    x = da.from_array(sample_matrix(), chunks=(40, 43))
    x = x.map_blocks(function, dtype=np.float32, meta=np.empty((0, 0), np.float32))
    with pytest.raises(InputError, match=text):
        stage(as_source(x, client), store, Cluster(client))
    assert sorted(os.listdir(store.state_folder)) == ["objects", "records"]


def test_chunks_that_no_worker_can_hold(store: FolderStore) -> None:
    class Small:
        dask_client = None

        def resources(self) -> Resources:
            return Resources(2, 2, 1000 * MIB, "small")

    x = da.zeros((20_000, 1000), chunks=(20_000, 1000))
    with pytest.raises(MemoryPlanError, match=r"20000 x 1000 entries \(160 MB\)"):
        stage(as_source(x), store, Small())  # type: ignore[arg-type]
    assert sorted(os.listdir(store.state_folder)) == ["objects", "records"]


@contextmanager
def faulty(client: Client, folder: Path, fault: Fault) -> Iterator[str]:
    """A fault in the workers that are there, and in those that nannies start."""
    with faults.active(folder, [fault]) as path:
        client.run(faults.switch, path)
        try:
            yield path
        finally:
            faults.release(path)
    client.wait_for_workers(2, timeout=60)
    client.run(faults.switch, None)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("sparse", [False, True])
def test_a_worker_that_dies_while_it_writes_changes_nothing(
    client: Client,
    store: FolderStore,
    tmp_path: Path,
    sparse: bool,
) -> None:
    """What it had done is done again, under another name or as the same bytes."""
    few = replace(STAGING, chunk=3_000)
    V = sample_matrix()
    x = da.from_array(V, chunks=(40, 43))
    x = x.map_blocks(sp.csr_array) if sparse else x
    point = "band-written" if sparse else "chunk-written"
    with faulty(client, tmp_path / "faults", Fault(point, "kill", after=1)) as folder:
        staged = stage(as_source(x, client), store, Cluster(client), limits=few)
        assert faults.struck(folder) == 1
        rows = [hit["row"] for hit in faults.reached(folder, point)]
        assert len(rows) > len(set(rows))
    check_staged(staged, V, store)


def die(block: np.ndarray) -> np.ndarray:
    os._exit(1)


@pytest.mark.timeout(120)
@pytest.mark.cluster
def test_workers_that_die(store: FolderStore) -> None:
    from distributed import Client, LocalCluster

    x = da.from_array(sample_matrix(), chunks=(80, 43))
    x = x.map_blocks(die, meta=np.empty((0, 0), np.float32))
    settings = {"distributed.scheduler.allowed-failures": 0}
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            dashboard_address=":0",
            scheduler_kwargs={"dashboard": False},
            silence_logs=50,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
        pytest.raises(ClusterError, match=r"workers died one after the other.*smaller chunks"),
    ):
        stage(as_source(x, client), store, Cluster(client))
    assert sorted(os.listdir(store.state_folder)) == ["objects", "records"]


@pytest.mark.timeout(120)
def test_a_folder_that_workers_do_not_see(
    client: Client, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = job.create_dense

    def elsewhere(path: str, layout: Any) -> None:
        create(path, layout)
        Path(path).rename(Path(path).with_name("elsewhere"))

    monkeypatch.setattr(job, "create_dense", elsewhere)
    x = da.from_array(sample_matrix(), chunks=(40, 43))
    with pytest.raises(RunError, match="storage that all workers"):
        stage(as_source(x), store, Cluster(client))
    assert sorted(os.listdir(store.state_folder)) == ["objects", "records"]
