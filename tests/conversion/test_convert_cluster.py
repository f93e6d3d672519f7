"""Conversion on a cluster writes the same files as without one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
import zarr

from dnmf.conversion.job import convert
from dnmf.conversion.limits import ConversionLimits
from dnmf.errors import CorruptDataError
from dnmf.executors.cluster import Cluster
from dnmf.steps.events import Event, Notice, Progress
from dnmf.steps.serial import Serial
from dnmf.testing.source_contract import sample_matrix

if TYPE_CHECKING:
    from distributed import Client


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file below a folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


MANY_TASKS = ConversionLimits(
    read_bytes=50_000, rectangle=50_000, task_bytes=50_000, band=12_500, entries=500
)


@pytest.mark.timeout(120)
def test_same_files_as_serial(client: Client, tmp_path: Path) -> None:
    V = sample_matrix("float32", 600, 200)
    zarr.create_array(str(tmp_path / "grid"), data=V, chunks=(60, 70))
    scipy.io.mmwrite(tmp_path / "V.mtx", sp.coo_array(V))
    steps: list[tuple[str, str, dict[str, Any]]] = [
        ("grid", "rows", {"chunks": (12, 200)}),
        ("grid", "csr", {"to": "csr", "chunks": 300}),
        ("csr", "dense", {"to": "dense", "dtype": "float64", "chunks": (24, 50)}),
        ("V.mtx", "mtx", {"chunks": 300}),
    ]
    for source, target, options in steps:
        events: list[Event] = []
        start = "" if source in ("grid", "V.mtx") else "serial-"
        for name, executor in (("serial-", Serial()), ("cluster-", Cluster(client))):
            convert(
                str(tmp_path / f"{start}{source}"),
                tmp_path / f"{name}{target}",
                executor=executor,
                on_event=events.append,
                limits=MANY_TASKS,
                **options,
            )
        assert contents(tmp_path / f"serial-{target}") == contents(tmp_path / f"cluster-{target}")
        ends = [e for e in events if isinstance(e, Progress) and e.done == e.total]
        assert ends
        assert max(e.total for e in ends if e.kind == "convert") >= 4, target
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "cluster-rows"))[:], V)


@pytest.mark.timeout(120)
def test_what_only_the_client_has_is_converted_there(client: Client, tmp_path: Path) -> None:
    V = sample_matrix("float32")
    events: list[Event] = []
    convert(V, tmp_path / "b", executor=Cluster(client), on_event=events.append)
    assert any(isinstance(event, Notice) and "in this process" in event.text for event in events)
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "b"))[:], V)


@pytest.mark.timeout(120)
def test_errors_of_workers_are_said_here(client: Client, tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "a"), data=sample_matrix("float64"), chunks=(20, 43))
    (tmp_path / "a" / "c" / "3" / "0").write_bytes(b"junk")
    with pytest.raises(CorruptDataError, match="c/3/0"):
        convert(tmp_path / "a", tmp_path / "b", executor=Cluster(client))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]
