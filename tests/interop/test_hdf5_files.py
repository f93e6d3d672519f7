"""Files of AnnData, Cell Ranger and NetCDF4: the matrix, the right way round, with names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import xarray as xr
from click.testing import CliRunner

import dnmf
from dnmf.cli.main import cli
from dnmf.errors import CorruptDataError, InputError
from dnmf.interop import as_source
from dnmf.sources import Source, from_spec, open_source
from dnmf.steps.serial import Serial
from dnmf.testing.source_contract import as_dense, read

S = sp.random(90, 14, 0.3, format="csr", random_state=0, dtype=np.float32)
V = S.toarray()
CELLS = [f"cell {i}" for i in range(90)]
GENES = [f"gene {i}" for i in range(14)]
FIT: dict[str, Any] = {"seed": 0, "max_passes": 4}


def annotated(X: Any) -> anndata.AnnData:
    obs, var = pd.DataFrame(index=CELLS), pd.DataFrame(index=GENES)
    return anndata.AnnData(X, obs=obs, var=var)


def entries(source: Source) -> np.ndarray:
    if source.by_rows:
        return as_dense(read(source))
    turned = source.transposed()
    assert turned is not None
    return as_dense(read(turned)).T


def names(source: Source) -> tuple[Any, Any]:
    assert source.labels is not None
    return source.labels(0), source.labels(1)


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
@pytest.mark.parametrize("X", [V.copy(), S, S.tocsc()], ids=["dense", "csr", "csc"])
def test_h5ad(tmp_path: Path, X: Any, compression: Any) -> None:
    whole = annotated(X)
    whole.layers["counts"] = X * 2
    whole.raw = annotated(X * 3)
    path = tmp_path / "a.h5ad"
    whole.write_h5ad(path, compression=compression)
    for inside, times in (("", 1), ("X", 1), ("layers/counts", 2), ("raw/X", 3)):
        source = open_source(path / inside)
        np.testing.assert_array_equal(entries(source), V * times)
        np.testing.assert_array_equal(entries(from_spec(source.spec())), V * times)
        assert names(source) == (tuple(CELLS), tuple(GENES))


@pytest.mark.parametrize("X", [V.copy(), S, S.tocsc()], ids=["dense", "csr", "csc"])
def test_backed(tmp_path: Path, X: Any) -> None:
    annotated(X).write_h5ad(tmp_path / "a.h5ad")
    want = dnmf.fit(tmp_path / "a.h5ad", 2, **FIT)
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    found = dnmf.fit(backed, 2, **FIT)
    np.testing.assert_array_equal(found.H, want.H)
    assert as_source(backed).persistent
    if not sp.issparse(X) or X.format == "csr":  # rows of compressed columns are not read
        W = dnmf.transform(backed, want)
        np.testing.assert_allclose(W, dnmf.transform(V, want), rtol=1e-4, atol=1e-6)
    model = dnmf.NMF(2, random_state=0, max_iter=4, tol=0).fit(backed)
    assert list(model.column_names_) == GENES
    backed.file.close()
    writable = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r+")
    with pytest.raises(InputError, match="open for writing"):
        dnmf.fit(writable, 2)
    writable.file.close()


def test_columns_in_another_order(tmp_path: Path) -> None:
    annotated(S).write_h5ad(tmp_path / "a.h5ad")
    annotated(S)[:, ::-1].copy().write_h5ad(tmp_path / "b.h5ad")
    fitted = dnmf.fit(tmp_path / "a.h5ad", 2, **FIT)
    want = dnmf.transform(tmp_path / "a.h5ad", fitted)
    np.testing.assert_allclose(dnmf.transform(tmp_path / "b.h5ad", fitted), want, rtol=1e-5)


def test_before_anndata_said_what_it_is(tmp_path: Path) -> None:
    """Files of 2018: no encodings, and obs and var are compound datasets."""
    with h5py.File(tmp_path / "old.h5ad", "w") as file:
        group = file.create_group("X")
        group.attrs.update({"h5sparse_format": b"csr", "h5sparse_shape": S.shape})
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(S, name)
        for name, labels in (("obs", CELLS), ("var", GENES)):
            kind = [("index", h5py.string_dtype()), ("n", "f4")]
            file[name] = np.array([(label, 1) for label in labels], kind)
    source = open_source(tmp_path / "old.h5ad")
    np.testing.assert_array_equal(entries(source), V)
    assert names(source) == (tuple(CELLS), tuple(GENES))


def write_tenx(path: Path, version: int, groups: tuple[str, ...]) -> None:
    twice = [*GENES[:-1], GENES[0]]
    with h5py.File(path, "w") as file:
        for name in groups:
            group = file.create_group(name)
            turned = S.T.tocsc()  # features x cells
            for part in ("data", "indices", "indptr"):
                group[part] = getattr(turned, part)
            group["shape"] = turned.shape
            group["barcodes"] = np.array(CELLS, "S")
            features = group.create_group("features") if version == 3 else group
            ids = [f"ENSG{i}" for i in range(14)]
            features["id" if version == 3 else "genes"] = np.array(ids, "S")
            features["name" if version == 3 else "gene_names"] = np.array(twice, "S")


@pytest.mark.parametrize(("version", "group"), [(3, "matrix"), (2, "GRCh38")])
def test_cell_ranger(tmp_path: Path, version: int, group: str) -> None:
    write_tenx(tmp_path / "a.h5", version, (group,))
    for path in (tmp_path / "a.h5", tmp_path / "a.h5" / group, tmp_path / "a.h5" / "X"):
        source = open_source(path)
        assert source.kind == "zarr_csr"
        np.testing.assert_array_equal(entries(source), V)
        cells, features = names(source)
        assert list(cells) == CELLS
        assert features[0] == "gene 0 (ENSG0)"
        assert features[1] == "gene 1"
        assert features[-1] == "gene 0 (ENSG13)"
    assert "cells x features of a 10x file" in open_source(tmp_path / "a.h5").describe()


def test_two_genomes_in_one_file(tmp_path: Path) -> None:
    write_tenx(tmp_path / "a.h5", 2, ("GRCh38", "mm10"))
    with pytest.raises(InputError, match=r"GRCh38/X \(csr_matrix\), mm10/X \(csr_matrix\);"):
        open_source(tmp_path / "a.h5")
    np.testing.assert_array_equal(entries(open_source(tmp_path / "a.h5" / "mm10")), V)


@pytest.mark.parametrize("chunks", [None, (20, 5)])
def test_netcdf(tmp_path: Path, chunks: Any) -> None:
    """As netCDF4 writes them: dimensions are scales, with and without coordinates."""
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file["station"] = np.arange(90.0)
        file["wavelength"] = np.arange(14) * 10
        for name in ("station", "wavelength"):
            file[name].make_scale(name)
        bare = file.create_dataset("time", (90,), "f4")
        bare.make_scale("This is a netCDF dimension but not a netCDF variable        90")
        for variable, rows in (("flux", "station"), ("others", "time")):
            made = file.create_dataset(variable, data=V, chunks=chunks)
            made.dims[0].attach_scale(file[rows])
            made.dims[1].attach_scale(file["wavelength"])
            made.attrs["_FillValue"] = np.array([0.0], "f4")
    source = open_source(tmp_path / "a.nc" / "flux")
    np.testing.assert_array_equal(entries(source), V)
    assert names(source) == (
        tuple(str(float(i)) for i in range(90)),
        tuple(str(i * 10) for i in range(14)),
    )
    assert names(open_source(tmp_path / "a.nc" / "others"))[0] is None
    with pytest.raises(InputError, match=r"Its arrays: flux .*others"):
        open_source(tmp_path / "a.nc")


def test_packed_numbers_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file["flux"] = (V * 100).astype("i2")
        file["flux"].attrs["scale_factor"] = np.array([0.01])
    with pytest.raises(InputError, match=r"packed.*scale_factor=0.01"):
        open_source(tmp_path / "a.nc" / "flux")


def test_through_xarray(tmp_path: Path) -> None:
    pytest.importorskip("h5netcdf")
    made = xr.Dataset({"flux": (("x", "y"), V)}, {"y": GENES})
    made.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    source = open_source(tmp_path / "a.nc" / "flux")
    np.testing.assert_array_equal(entries(source), V)
    assert names(source) == (None, tuple(GENES))


def test_convert_and_the_command_line(tmp_path: Path) -> None:
    annotated(S).write_h5ad(tmp_path / "a.h5ad")
    run, out = CliRunner().invoke, f"{tmp_path}/out.zarr"
    done = run(cli, ["convert", f"{tmp_path}/a.h5ad", f"{tmp_path}/V.zarr"])
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(entries(open_source(tmp_path / "V.zarr")), V)
    done = run(cli, ["fit", f"{tmp_path}/a.h5ad/layers/none", "-k", "2", "--out", out])
    assert done.exit_code == 2
    assert "Its arrays: X (csr_matrix)" in done.output
    assert not (tmp_path / "out.zarr").exists()


def test_what_is_no_hdf5(tmp_path: Path) -> None:
    (tmp_path / "a.h5ad").write_bytes(b"something else")
    with pytest.raises(InputError, match="is no HDF5 file, though its name says so"):
        open_source(tmp_path / "a.h5ad")
    (tmp_path / "b.h5ad").write_bytes(b"\x89HDF\r\n\x1a\n" + b"damage" * 100)
    with pytest.raises(CorruptDataError, match="cannot be opened as HDF5"):
        open_source(tmp_path / "b.h5ad")


@pytest.mark.cluster
@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
def test_workers_read_it_side_by_side(client: Any, tmp_path: Path, compression: Any) -> None:
    """Also what only HDF5 can decode, for which a process lets one of its threads in at a time."""
    annotated(S).write_h5ad(tmp_path / "a.h5ad", compression=compression)
    options = {"k": 3, "seed": 0, "max_passes": 6, "segments": 5, "block_size": 600, "sample": 0.0}
    want = dnmf.fit(tmp_path / "a.h5ad", out=tmp_path / "serial", executor=Serial(), **options)
    found = dnmf.fit(tmp_path / "a.h5ad", out=tmp_path / "out", client=client, **options)
    np.testing.assert_array_equal(found.H[:], want.H[:])
    np.testing.assert_array_equal(found.W[:], want.W[:])
    assert found.column_names == tuple(GENES)
