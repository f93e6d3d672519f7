"""NMF of matrices that are not in memory: Zarr, Dask, with and without a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

import dnmf
from dnmf import NMF
from dnmf.errors import OptionError
from dnmf.testing.problems import planted_poisson

if TYPE_CHECKING:
    from distributed import Client


def counts(dtype: str = "float64") -> np.ndarray:
    return planted_poisson(240, 30, 4, dtype=dtype).V


@pytest.fixture
def stored(tmp_path: Path) -> str:
    """The path of a Zarr array of the counts, in 24 chunks."""
    path = str(tmp_path / "V.zarr")
    zarr.create_array(path, data=counts(), chunks=(10, 30))
    return path


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def reference(V: Any = None) -> tuple[NMF, np.ndarray]:
    model = NMF(4, random_state=0)
    return model, model.fit_transform(counts() if V is None else V)


KINDS = {
    "path": lambda path: path,
    "Path": Path,
    "zarr": lambda path: zarr.open_array(path, mode="r"),
    "source": lambda path: dnmf.sources.open_source(path),
}


@pytest.mark.parametrize("kind", KINDS)
def test_zarr_comes_back_as_zarr(kind: str, stored: str, tmp_path: Path) -> None:
    model = NMF(4, random_state=0, out=tmp_path / "out.zarr")
    V = KINDS[kind](stored)
    W = model.fit_transform(V)
    plain, W_plain = reference()
    assert isinstance(W, zarr.Array)
    assert isinstance(model.components_, np.ndarray)
    assert model.n_features_in_ == 30
    assert model.reconstruction_err_ == pytest.approx(plain.reconstruction_err_, rel=1e-6)
    np.testing.assert_allclose(W[:], W_plain, rtol=1e-3, atol=1e-3 * W_plain.max())
    again = model.transform(V, out=tmp_path / "new.zarr")
    assert isinstance(again, zarr.Array)
    np.testing.assert_allclose(again[:], model.transform(counts()), rtol=1e-6, atol=1e-9)


def test_dask_arrays_come_back_as_dask_arrays(tmp_path: Path) -> None:
    X = da.from_array(counts(), chunks=(50, 13))
    model = NMF(4, random_state=0, out=tmp_path / "out.zarr")
    W = model.fit_transform(X)
    assert isinstance(W, da.Array)
    assert isinstance(model.transform(X), da.Array)
    back = model.inverse_transform(W)
    assert isinstance(back, da.Array)
    np.testing.assert_allclose(back.compute(), W.compute() @ model.components_)


def test_labelled_lazy_arrays_are_not_loaded() -> None:
    X = xr.DataArray(da.from_array(counts(), chunks=(50, 30)), dims=("row", "column"))
    assert isinstance(NMF(4, random_state=0).fit_transform(X), da.Array)
    assert isinstance(NMF(4, random_state=0).fit_transform(X.compute()), np.ndarray)


def test_inverse_transform_of_zarr_is_lazy(stored: str) -> None:
    model = NMF(4, random_state=0)
    back = model.inverse_transform(model.fit_transform(stored))
    assert isinstance(back, da.Array)
    assert np.linalg.norm(back.compute() - counts()) == pytest.approx(model.reconstruction_err_)


def test_without_out_results_are_temporary(stored: str, temporary: Path) -> None:
    model = NMF(4, random_state=0)
    model.fit(stored)
    assert list(temporary.iterdir()) == []  # W is not asked for
    W = model.fit_transform(stored)
    assert Path(W.store.root).is_relative_to(temporary)
    with pytest.raises(OptionError):
        NMF(4, random_state=0, shuffle=True).fit_transform(stored)
    assert len(list(temporary.iterdir())) == 1


def test_temporary_results_go_with_the_process(stored: str, temporary: Path) -> None:
    program = (
        "import sys; from dnmf import NMF\n"
        f"W = NMF(4, random_state=0).fit_transform({stored!r})\n"
        "print(W.store.root, float(W[:].sum()) > 0)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(temporary) in done.stdout
    assert done.stdout.endswith("True\n")
    assert list(temporary.iterdir()) == []


def test_a_frame_that_is_asked_for_is_in_memory(stored: str) -> None:
    frame = NMF(4, random_state=0).set_output(transform="pandas").fit_transform(stored)
    assert frame.columns.tolist() == ["nmf0", "nmf1", "nmf2", "nmf3"]
    assert frame.shape == (240, 4)


@pytest.mark.parametrize(
    ("stored_as", "computed"),
    [("float32", "float32"), ("float64", "float64"), ("uint8", "float64")],
)
def test_stored_dtypes_follow_scikit_learn(tmp_path: Path, stored_as: str, computed: str) -> None:
    zarr.create_array(str(tmp_path / "V.zarr"), data=counts().astype(stored_as), chunks=(50, 30))
    model = NMF(4, random_state=0, tol=1e-2)
    assert model.fit_transform(tmp_path / "V.zarr").dtype == computed
    assert model.components_.dtype == computed


def test_a_stored_matrix_with_other_columns_is_refused(stored: str) -> None:
    model = NMF(4, random_state=0).fit(counts()[:, :29])
    with pytest.raises(ValueError, match="X has 30 features, but NMF is expecting 29"):
        model.transform(stored)


def test_a_stored_matrix_starts_from_given_factors(stored: str) -> None:
    rng = np.random.default_rng(0)
    start = {"W": rng.random((240, 4)), "H": rng.random((4, 30))}
    here, there = (NMF(init="custom").fit(V, **start) for V in (counts(), stored))
    assert there.reconstruction_err_ == pytest.approx(here.reconstruction_err_, rel=1e-6)
    with pytest.raises(ValueError, match="wrong first dimension"):
        NMF(init="custom").fit(stored, W=start["W"][1:], H=start["H"])


def test_a_cluster_computes_what_this_process_computes(
    stored: str, client: Client, tmp_path: Path
) -> None:
    model = NMF(4, random_state=0, client=client, out=tmp_path / "out.zarr")
    W = model.fit_transform(stored)
    alone = NMF(4, random_state=0)
    np.testing.assert_array_equal(W[:], alone.fit_transform(stored)[:])
    np.testing.assert_array_equal(model.components_, alone.components_)
    assert isinstance(W, zarr.Array)
    new = model.transform(stored, out=tmp_path / "new.zarr")
    np.testing.assert_array_equal(new[:], alone.transform(stored)[:])


def test_a_client_may_be_given_for_data_in_memory(client: Client, tmp_path: Path) -> None:
    model = NMF(4, random_state=0, client=client, out=tmp_path / "out.zarr")
    W = model.fit_transform(counts())
    assert isinstance(W, np.ndarray)
    assert model.reconstruction_err_ == pytest.approx(reference()[0].reconstruction_err_, rel=1e-6)


def test_a_cluster_needs_a_place(stored: str, client: Client, temporary: Path) -> None:
    with pytest.raises(OptionError, match="out"):
        NMF(4, random_state=0, client=client).fit(stored)
    assert list(temporary.iterdir()) == []


def test_data_in_memory_ignore_an_active_client(client: Client) -> None:
    with client.as_current():
        model = NMF(4, random_state=0)
        W = model.fit_transform(counts())
    np.testing.assert_array_equal(W, reference()[1])
