"""What people pass as V, and what they are told when it is not a matrix."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from dnmf.errors import InputError, TransientError
from dnmf.sources import SOURCES, from_spec, open_source
from dnmf.testing.layouts import write_compressed, write_dense
from dnmf.testing.source_contract import sample_matrix


def _group(folder: Path) -> Path:
    import scipy.sparse as sp

    root = zarr.open_group(folder / "g.zarr", mode="w")
    write_dense(folder / "g.zarr", sample_matrix(), (50, 43), path="layers/counts")
    write_compressed(folder / "g.zarr", sp.csr_array(sample_matrix()), 100, path="layers/sparse")
    root.create_array("obs", shape=(157,), dtype="i4")
    (folder / "g.zarr" / "stray").mkdir()  # no part of the hierarchy, and no reason to warn
    (folder / "g.zarr" / "stray" / "notes.txt").write_text("x")
    return folder / "g.zarr"


LISTING = r"Its arrays: layers/counts \(157 x 43 float32\), layers/sparse \(csr_matrix\), obs \(157"


def test_a_group_lists_its_arrays(tmp_path: Path) -> None:
    path = _group(tmp_path)
    with pytest.raises(InputError, match=f"{path} is a Zarr group, not a matrix. {LISTING}"):
        open_source(path)
    with pytest.raises(InputError, match=LISTING):
        open_source(zarr.open_group(path))


def test_a_wrong_name_in_a_group_lists_its_arrays(tmp_path: Path) -> None:
    path = _group(tmp_path)
    with pytest.raises(InputError, match=f"wrong/name does not exist. {path} is a .*{LISTING}"):
        open_source(path / "wrong" / "name")
    with pytest.raises(InputError, match=r"count does not exist.* Its arrays: counts"):
        open_source(path / "layers" / "count")


def test_an_empty_group(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "g.zarr", mode="w")
    with pytest.raises(InputError, match="It holds no arrays"):
        open_source(tmp_path / "g.zarr")


def _write(name: str, text: str = "x") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return make


def _array(**options: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        zarr.create_array(folder / "a.zarr", **options)  # type: ignore[arg-type]
        return folder / "a.zarr"

    return make


def _spoiled(folder: Path) -> Path:
    write_dense(folder / "a.zarr", sample_matrix(), (50, 43))
    (folder / "a.zarr" / "zarr.json").write_text('{"zarr_format": 3,')
    return folder / "a.zarr"


def _folder_with_zarr(folder: Path) -> Path:
    write_dense(folder / "a.zarr", sample_matrix(), (50, 43))
    return folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "nothing.zarr", r"nothing\.zarr does not exist$"),
        (lambda folder: folder / "nothing.npy", r"nothing\.npy does not exist$"),
        (lambda folder: folder, "is a folder, but not a Zarr array or group"),
        (_folder_with_zarr, r"Zarr in it: a\.zarr"),
        (_write("V.txt"), "is a file, neither a Zarr array nor"),
        (_write("V.mtx"), r"convert it first: dnmf convert .*V\.mtx"),
        (_write("V.npz"), "convert it first: dnmf convert"),
        (_write("V.h5ad"), "is no HDF5 file, though its name says so"),
        (_spoiled, "metadata of .* cannot be read .*JSONDecodeError"),
        (_array(shape=(5,), dtype="f4"), "has 1 dimension .*V must have 2"),
        (_array(shape=(5, 5, 5), dtype="f4"), "has 3 dimensions"),
        (_array(shape=(5, 5), dtype="c16"), "dtype complex128; V must have real"),
        (_array(shape=(0, 5), dtype="f4"), "is 0 x 5: it has no rows"),
        (_array(shape=(5, 0), dtype="f4"), "is 5 x 0: it has no columns"),
        (_array(shape=(5, 5), dtype="M8[s]", zarr_format=2), "datetime64"),
        (_array(shape=(5, 5), dtype=str, zarr_format=2), "must have real entries"),
        (lambda folder: "", "path of V is empty"),
        (lambda folder: "nosuch://bucket/V.zarr", "Protocol not known: nosuch"),
        (lambda folder: "memory://nothing/V.zarr", "there is no Zarr array or group at memory"),
    ],
)
def test_bad_places(make: Callable[[Path], Path | str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_source(make(tmp_path))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (PermissionError(13, "Permission denied"), InputError, "may not be read here.*denied"),
        (TimeoutError("no answer"), TransientError, "cannot reach .*no answer"),
        (RuntimeError("odd"), InputError, "metadata of .* cannot be read .RuntimeError: odd"),
    ],
)
def test_failing_storage(
    error: Exception, kind: type, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dense(tmp_path / "a.zarr", sample_matrix(), (50, 43))

    async def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("zarr.storage.LocalStore.get", fail)
    with pytest.raises(kind, match=message):
        open_source(tmp_path / "a.zarr")


ABSENT = """
import sys
sys.modules[sys.argv[2]] = None
from dnmf.errors import MissingDependencyError
from dnmf.sources import open_source
try:
    open_source(sys.argv[1])
except MissingDependencyError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("url", "module", "command"),
    [
        ("s3://bucket/V.zarr", "s3fs", "python -m pip install s3fs"),
        ("gs://bucket/V.zarr", "gcsfs", "python -m pip install gcsfs"),
        ("https://host/V.zarr", "aiohttp", 'python -m pip install "fsspec[https]"'),
    ],
)
def test_missing_packages(url: str, module: str, command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ABSENT, url, module], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip().endswith(command), done.stderr
    assert url.split(":")[0] in done.stdout


def test_a_source_is_its_own_source() -> None:
    source = open_source(np.ones((2, 2)))
    assert open_source(source) is source


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(InputError, match=r"kind 'tape'; known kinds are .*zarr_csr"):
        from_spec({"kind": "tape"})


def test_specs_of_what_vanished_or_turned(tmp_path: Path) -> None:
    where = str(tmp_path / "g.zarr")
    for kind in ("zarr", "zarr_csr", "zarr_csc", "zarr_columns"):
        with pytest.raises(InputError, match="is no longer there"):
            from_spec({"kind": kind, "location": where})
    _group(tmp_path)
    with pytest.raises(InputError, match="is now a group"):
        from_spec({"kind": "zarr", "location": where})
    with pytest.raises(InputError, match="is now an array"):
        from_spec({"kind": "zarr_csr", "location": f"{where}/obs"})
    with pytest.raises(InputError, match="stored by rows"):
        from_spec({"kind": "zarr_csc", "location": f"{where}/layers/sparse"})


def test_memory_kinds_have_no_spec() -> None:
    for kind in ("array", "sparse"):
        assert kind in SOURCES
        with pytest.raises(InputError, match="in memory cannot be opened by another process"):
            from_spec({"kind": kind})


def test_importing_the_registry_loads_no_storage() -> None:
    program = "import sys, dnmf.sources; print([m for m in ('zarr', 'dask') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]", done.stderr
