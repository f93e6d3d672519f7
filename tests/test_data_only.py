"""Nothing that is read from a store, a run or a result is ever unpickled; runs are private."""

from __future__ import annotations

import json
import os
import pickle
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import dnmf
from dnmf.errors import CorruptDataError, DnmfError, InputError, RunError
from dnmf.steps.events import Committed
from dnmf.steps.serial import Serial
from dnmf.testing.layouts import write_compressed, write_dense
from dnmf.testing.problems import planted_poisson

V = planted_poisson(40, 6, 2).V
OPTIONS: dict[str, Any] = {"k": 2, "seed": 0, "tol": 0, "max_passes": 3, "block_size": 10 * 64 * 4}


class Trap:
    """Whoever unpickles it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def trap(tmp_path):
    """The bytes of a pickle that does something; nobody did it when the test is over."""
    sprung = tmp_path / "sprung"
    data = pickle.dumps(Trap(sprung))
    yield data
    assert not sprung.exists()
    pickle.loads(data)  # it would have
    assert sprung.exists()


PICKLE = {"id": "pickle", "protocol": 5}
TEXT = {"id": "vlen-utf8"}
V2 = {"zarr_format": 2, "shape": [40, 6], "chunks": [10, 6], "dtype": "<f4", "fill_value": 0}
V2 |= {"order": "C", "compressor": None, "filters": None}


@pytest.mark.parametrize(
    "codecs",
    [
        {"filters": [PICKLE]},
        {"compressor": PICKLE},
        {"filters": [{"id": "shuffle", "elementsize": 4}, PICKLE]},
        {"dtype": "|O", "filters": [PICKLE], "fill_value": None},
        {"dtype": "|O", "filters": [TEXT, PICKLE], "fill_value": ""},
        {"dtype": "|O", "filters": [PICKLE, TEXT], "fill_value": ""},
    ],
    ids=str,
)
def test_a_zarr_array_whose_codec_is_pickle(tmp_path, trap, codecs):
    path = tmp_path / "V.zarr"
    path.mkdir()
    (path / ".zarray").write_text(json.dumps({**V2, **codecs}))
    for chunk in range(4):
        (path / f"{chunk}.0").write_bytes(trap)
    with pytest.raises(InputError):
        dnmf.fit(path, executor=Serial(), **OPTIONS)


@pytest.mark.parametrize("name", ["pickle", "numcodecs.pickle"])
def test_the_same_in_format_3(tmp_path, trap, name):
    path = tmp_path / "V.zarr"
    write_dense(path, V, (10, 6), compressors=None)
    document = json.loads((path / "zarr.json").read_text())
    document["codecs"].append({"name": name, "configuration": {"protocol": 5}})
    (path / "zarr.json").write_text(json.dumps(document))
    for chunk in (path / "c").rglob("0"):
        if chunk.is_file():
            chunk.write_bytes(trap)
    with pytest.raises(InputError):
        dnmf.fit(path, executor=Serial(), **OPTIONS)


@pytest.mark.parametrize("part", ["data", "indices", "indptr"])
def test_a_part_of_a_sparse_matrix_whose_codec_is_pickle(tmp_path, trap, part):
    path = tmp_path / "V.zarr"
    write_compressed(path, sp.csr_array(V), 100)
    document = json.loads((path / part / "zarr.json").read_text())
    (path / part / "zarr.json").unlink()
    kind = np.dtype(document["data_type"]).str
    chunks = document["chunk_grid"]["configuration"]["chunk_shape"]
    about = {"shape": document["shape"], "chunks": chunks, "dtype": kind, "filters": [PICKLE]}
    (path / part / ".zarray").write_text(json.dumps({**V2, **about}))
    for chunk in range(9):
        (path / part / str(chunk)).write_bytes(trap)
    with pytest.raises(DnmfError):
        dnmf.fit(path, executor=Serial(), **OPTIONS)


class EndedError(Exception):
    """Stands for whatever ends a process."""


def _end(event):
    if isinstance(event, Committed) and event.kind == "pass":
        raise EndedError


@pytest.mark.parametrize("what", ["plan.json", "records/*.json", "objects/*/*.npy"])
def test_files_of_a_run_that_are_pickles(tmp_path, trap, what):
    write_dense(tmp_path / "V.zarr", V, (10, 6))
    out = tmp_path / "out"
    with pytest.raises(EndedError):
        dnmf.fit(tmp_path / "V.zarr", out=out, executor=Serial(), on_event=_end, **OPTIONS)
    found = list((out / ".dnmf").glob(what))
    assert found
    for path in found:
        path.write_bytes(trap)
    if what.startswith("records"):  # as if nothing had been committed
        assert dnmf.resume(out, executor=Serial()).passes == 3
        return
    with pytest.raises((RunError, InputError)):
        dnmf.resume(out, executor=Serial())


@pytest.mark.parametrize("what", ["zarr.json", "[WH]/zarr.json", "[WH]/c/0/0"])
def test_files_of_a_result_that_are_pickles(tmp_path, trap, what):
    out = tmp_path / "out"
    right = dnmf.fit(V, out=out, executor=Serial(), **OPTIONS).W[:]
    found = list(out.glob(what))
    assert found
    for path in found:
        path.write_bytes(trap)
    if what == "[WH]/zarr.json":  # the group's own metadata say the same
        np.testing.assert_array_equal(dnmf.open(out).W[:], right)
        return
    with pytest.raises((RunError, InputError, CorruptDataError)):
        np.asarray(dnmf.open(out).W[:])


@pytest.mark.parametrize("where", ["serial", pytest.param("cluster", marks=pytest.mark.cluster)])
def test_a_run_is_private_to_its_user(request, tmp_path, where):
    """While it runs, and its result: nobody else gets past its folder, whatever the umask."""
    runner = {"client": request.getfixturevalue("client")} if where == "cluster" else {}
    out, modes = tmp_path / "out", []

    def look(event):
        modes.extend(stat.S_IMODE(path.stat().st_mode) for path in (out, out / ".dnmf"))

    before = os.umask(0)
    try:
        dnmf.fit(V, out=out, on_event=look, **runner, **OPTIONS)
    finally:
        os.umask(before)
    assert len(modes) > 10
    assert set(modes) == {0o700}
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
