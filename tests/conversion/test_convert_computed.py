"""What `dnmf.fit` takes is converted: Dask arrays, computed once; data frames; labelled arrays."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import dnmf
from dnmf.config import MIB
from dnmf.conversion.computed import band_edges, computed_grid
from dnmf.conversion.limits import ConversionLimits
from dnmf.conversion.plan import Budget
from dnmf.errors import InputError, MemoryPlanError, OptionError
from dnmf.executors.cluster import Cluster
from dnmf.interop.dask_array import DaskArraySource
from dnmf.sources import open_source
from dnmf.steps.events import Progress
from dnmf.steps.serial import Serial
from dnmf.testing.source_contract import read, sample_matrix

if TYPE_CHECKING:
    from distributed import Client

FEW = ConversionLimits(
    chunk=1_500, chunk_row=3_000, rectangle=6_000, read_bytes=500, band=3_000, entries=64
)
"""So that a small matrix has many chunks, tasks and bands."""


def counted(block: np.ndarray, folder: str, sparse: bool) -> Any:
    """The block; leaves a mark of each time that it is computed."""
    Path(folder, f"{time.monotonic_ns()}-{os.getpid()}").touch()
    return sp.csr_array(block) if sparse else block


def counted_array(V: np.ndarray, chunks: Any, folder: Path, sparse: bool) -> da.Array:
    folder.mkdir()
    meta = sp.csr_array((0, 0), dtype=V.dtype) if sparse else V[:0, :0]
    x = da.from_array(V, chunks=chunks)
    return x.map_blocks(counted, str(folder), sparse, meta=meta)


@settings(max_examples=15, deadline=None)
@given(
    sparse=st.booleans(),
    to=st.sampled_from([None, "dense", "csr"]),
    chunks=st.tuples(st.integers(5, 157), st.integers(5, 43)),
    target=st.sampled_from([None, 20, 77]),
    dtype=st.sampled_from([None, "float64", "uint8"]),
)
def test_dask_arrays_of_any_chunks(
    tmp_path_factory: pytest.TempPathFactory, sparse, to, chunks, target, dtype
) -> None:
    """Every chunk is computed once, whatever the layouts."""
    folder = tmp_path_factory.mktemp("computed")
    V = sample_matrix("float32")
    x = counted_array(V, chunks, folder / "marks", sparse)
    done = dnmf.convert(
        x, folder / "b", to=to, chunks=target, dtype=dtype, executor=Serial(), limits=FEW
    )
    found = read(open_source(folder / "b"))
    np.testing.assert_array_equal(found, V)
    assert found.dtype == done.dtype == (dtype or "float32")
    assert done.layout == (to or ("csr" if sparse else "dense"))
    if target is not None:
        assert done.chunks[0] == target
    assert len(list((folder / "marks").iterdir())) == x.npartitions
    assert sorted(os.listdir(folder)) == ["b", "marks"]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("to", ["dense", "csr"])
def test_a_cluster_computes_and_writes(
    client: Client, tmp_path: Path, sparse: bool, to: str
) -> None:
    V, marks = sample_matrix("float32"), tmp_path / "marks"
    x = counted_array(V, (20, 17), marks, sparse)
    events: list[Any] = []
    dnmf.convert(x, tmp_path / "b", to=to, client=client, limits=FEW, on_event=events.append)
    np.testing.assert_array_equal(read(open_source(tmp_path / "b")), V)
    processes = [path.name.partition("-")[2] for path in marks.iterdir()]
    assert len(processes) == 8 * 3
    assert str(os.getpid()) not in processes
    news = [e for e in events if isinstance(e, Progress) and e.kind == "convert"]
    assert news[-1].done == news[-1].total == len(news) > 1


def test_what_tasks_share_is_computed_once(tmp_path: Path) -> None:
    """One task makes all rows, and rectangles are others than its chunks."""
    V = sample_matrix("float32")
    x = counted_array(V, (157, 43), tmp_path / "marks", False).rechunk((30, 11))
    dnmf.convert(x, tmp_path / "b", executor=Serial(), limits=FEW, chunks=(13, 7))
    np.testing.assert_array_equal(read(open_source(tmp_path / "b")), V)
    assert len(list((tmp_path / "marks").iterdir())) == 1


def test_an_array_that_reads_the_target(tmp_path: Path) -> None:
    V = sample_matrix("float32")
    zarr.create_array(str(tmp_path / "a"), data=V, chunks=(157, 2))
    x = da.from_zarr(str(tmp_path / "a"))
    dnmf.convert(x, tmp_path / "a", chunks=(10, 43), overwrite=True, executor=Serial())
    assert zarr.open_array(str(tmp_path / "a")).chunks == (10, 43)
    np.testing.assert_array_equal(read(open_source(tmp_path / "a")), V)
    group = zarr.create_group(str(tmp_path / "store"))
    group.create_array("X", data=V)
    x = da.from_zarr(str(tmp_path / "store" / "X"))
    with pytest.raises(OptionError, match="within each other"):
        dnmf.convert(x, tmp_path / "store", overwrite=True, executor=Serial())


def broken(block: np.ndarray) -> np.ndarray:
    raise ValueError("no such thing")


def test_what_cannot_be_computed_leaves_nothing(tmp_path: Path) -> None:
    V = sample_matrix("float32")
    x = da.from_array(V, chunks=40).map_blocks(broken, meta=V[:0, :0])
    with pytest.raises(InputError, match=r"cannot be computed \(ValueError: no such thing\)"):
        dnmf.convert(x, tmp_path / "b", executor=Serial())
    bad = V.copy()
    bad[70, 11] = 0.5
    for make in (np.asarray, sp.csr_array):
        x = da.from_array(bad, chunks=40).map_blocks(make, meta=make(V[:1, :1]))
        with pytest.raises(InputError, match=r"0\.5 .*row \d+.* does not fit uint8"):
            dnmf.convert(x, tmp_path / "b", dtype="uint8", executor=Serial())
    assert list(tmp_path.iterdir()) == []


def pandas_frame(V: np.ndarray) -> Any:
    import pandas as pd

    return pd.DataFrame(V)


def labelled(V: np.ndarray) -> Any:
    import xarray as xr

    return xr.DataArray(V, dims=("row", "column"))


def labelled_dask(V: np.ndarray) -> Any:
    return labelled(da.from_array(V, chunks=(40, 17)))  # type: ignore[arg-type]


def annotated(V: np.ndarray) -> Any:
    import anndata

    return anndata.AnnData(sp.csr_matrix(V))


@pytest.mark.parametrize("make", [pandas_frame, labelled, labelled_dask, annotated])
def test_objects_of_other_libraries(tmp_path: Path, make: Callable[[np.ndarray], Any]) -> None:
    V = sample_matrix("float32")
    done = dnmf.convert(make(V), tmp_path / "b", executor=Serial())
    assert done.layout == ("csr" if make is annotated else "dense")
    np.testing.assert_array_equal(read(open_source(tmp_path / "b")), V)


@pytest.mark.timeout(120)
def test_a_target_that_workers_do_not_reach_is_written_here(client: Client) -> None:
    V = sample_matrix("float32")
    x = da.from_array(V, chunks=(40, 17))
    dnmf.convert(x, "memory://computed/b.zarr", executor=Cluster(client))
    np.testing.assert_array_equal(read(open_source("memory://computed/b.zarr")), V)


class TestPlan:
    def test_dense_rows_too_wide_for_a_task_are_cut(self) -> None:
        x = da.zeros((1000, 10**6), chunks=((600, 400), 1000), dtype="float32")
        edges, columns = band_edges(DaskArraySource(x), 4, Budget(300 * MIB, None, 1))
        assert {600, 1000} <= set(edges)
        assert max(np.diff(edges)) * 10**6 * 4 <= 100 * MIB
        assert columns == [0, 10**6]

    def test_many_small_sparse_chunks_are_joined(self) -> None:
        x = da.zeros((500, 10), chunks=(1, 10)).map_blocks(sp.csr_array)
        limits = ConversionLimits(most_bands=100)
        edges, _ = band_edges(DaskArraySource(x), 8, Budget(MIB, None, 1, limits))
        assert edges == list(range(0, 501, 5))

    def test_sparse_rows_that_do_not_fit_as_dense_are_refused(self) -> None:
        x = da.zeros((1000, 10**6), chunks=(100, 10**5)).map_blocks(sp.csr_array)
        with pytest.raises(MemoryPlanError, match="to write 1,000 whole rows"):
            computed_grid(DaskArraySource(x), 8, (1000, 10), Budget(100 * MIB, None, 1))

    @pytest.mark.parametrize("chunks", [None, (10, 7), (1000, 3), (1, 500)])
    def test_tasks_write_whole_chunks(self, chunks: Any) -> None:
        x = da.zeros((1000, 500), chunks=(300, 90))
        grid = computed_grid(DaskArraySource(x), 8, chunks, Budget(MIB, None, 1))
        assert chunks is None or grid.chunks == chunks
        for unit, chunk, length in zip(grid.unit, grid.chunks, x.shape, strict=True):
            assert unit % chunk == 0 or unit >= length
