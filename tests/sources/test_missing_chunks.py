"""A chunk that is gone is never taken for zeros, whatever reads the matrix and for what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from click.testing import CliRunner

import dnmf
from dnmf.cli.main import cli
from dnmf.errors import CorruptDataError, OptionError
from dnmf.reporting.rows import row_errors

RNG = np.random.default_rng(0)
FULL = RNG.poisson(3, (40, 20)).astype("f4") + 1
THIN = np.where(RNG.random((40, 20)) < 0.5, FULL, 0)
H = RNG.random((2, 20)).astype("f4") + 0.1
QUICK: dict[str, Any] = {"seed": 0, "max_passes": 2, "n_init": 1}


def dense(path: Path, A: np.ndarray = FULL, chunks: tuple[int, int] = (10, 20)) -> str:
    zarr.create_array(str(path), data=A, chunks=chunks)
    return str(path)


def compressed(path: Path, layout: str, A: np.ndarray = THIN) -> str:
    matrix = sp.csr_array(A) if layout == "csr" else sp.csc_array(A)
    group = zarr.create_group(str(path))
    group.attrs.update({"encoding-type": f"{layout}_matrix", "shape": list(A.shape)})
    for name in ("data", "indices", "indptr"):
        values = getattr(matrix, name)
        group.create_array(name, data=values, chunks=(10 if name == "indptr" else 100,))
    return str(path)


def lose(path: str, *keys: str) -> None:
    for key in keys:
        Path(path, key).unlink()


USES = {
    "fit": lambda V, to: dnmf.fit(V, 2, **QUICK),
    "study": lambda V, to: dnmf.fit_many(V, [2], 1, holdout=None, max_passes=2),
    "transform": lambda V, to: dnmf.transform(V, H),
    "convert": lambda V, to: dnmf.convert(V, to),
    "other layout": lambda V, to: dnmf.convert(V, to, to="csr"),
    "estimator": lambda V, to: dnmf.NMF(2, init="random").fit(V),
}
STORES = {
    "dense": (dense, "c/2/0"),
    "csr data": (lambda path: compressed(path, "csr"), "data/c/1"),
    "csr indices": (lambda path: compressed(path, "csr"), "indices/c/0"),
    "csr indptr": (lambda path: compressed(path, "csr"), "indptr/c/2"),
    "csc data": (lambda path: compressed(path, "csc"), "data/c/2"),
    "csc indices": (lambda path: compressed(path, "csc"), "indices/c/1"),
    "csc indptr": (lambda path: compressed(path, "csc"), "indptr/c/1"),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("store", STORES)
def test_no_reader_takes_a_missing_chunk_for_zeros(store: str, use: str, tmp_path: Path) -> None:
    if store.startswith("csc") and use == "transform":
        pytest.skip("rows of CSC cannot be read, and are refused for that")
    make, key = STORES[store]
    path = make(tmp_path / "V.zarr")
    lose(path, key)
    with pytest.raises(CorruptDataError) as refused:
        USES[use](path, tmp_path / "copy.zarr")
    text = str(refused.value)
    assert key in text
    assert "1 of " in text
    assert f"{path}/{key}" in text
    assert [p.name for p in tmp_path.iterdir()] == ["V.zarr"]


def test_they_count_as_filled_where_the_caller_says_so(tmp_path: Path) -> None:
    path = dense(tmp_path / "V.zarr")
    lose(path, "c/2/0")
    filled = FULL.copy()
    filled[20:30] = 0
    said = {"missing_chunks": "fill"}
    assert not dnmf.fit(path, 2, **QUICK, **said).W[20:30].any()
    assert not dnmf.transform(path, H, **said)[20:30].any()
    assert not dnmf.NMF(2, init="random", **said).fit_transform(zarr.open(path))[20:30].any()
    dnmf.convert(path, tmp_path / "copy.zarr", **said)
    np.testing.assert_array_equal(zarr.open(tmp_path / "copy.zarr")[:], filled)
    with pytest.raises(OptionError, match="missing_chunks"):
        dnmf.convert(path, tmp_path / "other.zarr", missing_chunks="ignore")


@pytest.mark.parametrize("V", [FULL, "stored", sp.csr_array(THIN)])
@pytest.mark.parametrize("layout", ["dense", "csr"])
def test_missing_chunks_of_weights(V: Any, layout: str, tmp_path: Path) -> None:
    if layout == "dense" and sp.issparse(V):
        pytest.skip("dense weights of a sparse V are refused for that")
    V = dense(tmp_path / "V.zarr") if isinstance(V, str) else V
    weights = str(tmp_path / "weights.zarr")
    if layout == "dense":
        dense(Path(weights))
        lose(weights, "c/1/0")
    else:
        compressed(Path(weights), "csr", FULL)
        lose(weights, "data/c/3")
    for use in (dnmf.fit, dnmf.transform):
        with pytest.raises(CorruptDataError, match=r"weights.zarr are missing"):
            use(V, H if use is dnmf.transform else 2, weights=weights)
        with pytest.raises(CorruptDataError, match=r"weights.zarr are missing"):
            use(V, H if use is dnmf.transform else 2, weights=weights, missing_chunks="error")
    dnmf.fit(V, 2, weights=weights, missing_chunks="fill", **QUICK)


@pytest.mark.parametrize("name", ["init", "init_W", "fixed_H", "transform"])
def test_missing_chunks_of_given_matrices(name: str, tmp_path: Path) -> None:
    given = np.ones((40, 2)) if name == "init_W" else H
    path = dense(tmp_path / "given.zarr", given, (given.shape[0] // 2, given.shape[1]))
    lose(path, "c/1/0")
    array = zarr.open(path, mode="r")
    uses = {
        "transform": lambda: dnmf.transform(FULL, array),
        "init_W": lambda: dnmf.fit(FULL, 2, init=H, init_W=array),
        "init": lambda: dnmf.fit(FULL, init=array),
        "fixed_H": lambda: dnmf.fit(FULL, 3, fixed_H=array),
    }
    with pytest.raises(CorruptDataError, match=r"1 of 2 chunks of .*given.zarr.*c/1/0"):
        uses[name]()


def test_missing_chunks_of_v_on_the_command_line(tmp_path: Path) -> None:
    path = dense(tmp_path / "V.zarr")
    dnmf.fit(path, 2, out=tmp_path / "fit", **QUICK)
    lose(path, "c/2/0")
    h_path = dense(tmp_path / "H.zarr", H, (1, 20))
    lose(h_path, "c/1/0")
    fit, copy = str(tmp_path / "fit"), str(tmp_path / "copy.zarr")
    commands = {
        "c/2/0": [["transform", path, fit, "--out", copy], ["convert", path, copy]],
        "c/1/0": [["fit", path, "-k", "3", "--out", copy, "--fixed-H", h_path]],
    }
    for key, some in commands.items():
        for command in some:
            done = CliRunner().invoke(cli, [*command, "--workers", "0"])
            assert done.exit_code
            assert key in done.output + str(done.exception)
    said = ["convert", path, copy, "--missing-chunks", "fill"]
    assert CliRunner().invoke(cli, [*said, "--workers", "0"]).exit_code == 0


def test_a_report_reads_no_missing_chunk(tmp_path: Path) -> None:
    path = dense(tmp_path / "V.zarr")
    fit = dnmf.fit(path, 2, out=tmp_path / "fit", **QUICK)
    assert len(row_errors(fit).numbers) == 40
    lose(path, "c/1/0")
    found = row_errors(fit)
    assert not len(found.numbers)
    assert "1 of 4 chunks" in found.reason


def test_nothing_is_found_at_all(tmp_path: Path) -> None:
    path = dense(tmp_path / "V.zarr", np.ones((30, 20), "f4"), (5, 7))
    Path(path, "c").rename(Path(path, "C"))
    for use in (lambda: dnmf.fit(path, 2), lambda: dnmf.convert(path, tmp_path / "copy.zarr")):
        with pytest.raises(CorruptDataError) as refused:
            use()
        assert "18 of 18 chunks" in str(refused.value)
        assert "V.zarr/c/0/0. Nothing of it is stored" in str(refused.value)


@pytest.mark.parametrize("layout", ["csr", "csc"])
@pytest.mark.parametrize("part", ["data", "indices", "indptr"])
def test_a_part_of_a_sparse_matrix_is_gone(layout: str, part: str, tmp_path: Path) -> None:
    path = compressed(tmp_path / "V.zarr", layout)
    chunks = len(list(Path(path, part, "c").iterdir()))
    total = sum(len(list(Path(path, p, "c").iterdir())) for p in ("data", "indices", "indptr"))
    Path(path, part, "c").rename(Path(path, part, "C"))
    for use in (USES["fit"], USES["study"], USES["convert"]):
        with pytest.raises(CorruptDataError) as refused:
            use(path, tmp_path / "copy.zarr")
        assert f"{chunks} of {total} chunks" in str(refused.value)
        assert f"V.zarr/{part}/c/0" in str(refused.value)


def rare(share: float) -> np.ndarray:
    """Chunks of 10 x 10 of which about e^(-100 share) have no entry."""
    rng = np.random.default_rng(1)
    return np.where(rng.random((200, 100)) < share, 1.0, 0).astype("f4")


def test_as_many_as_the_density_predicts_are_zeros(tmp_path: Path) -> None:
    path = dense(tmp_path / "V.zarr", rare(0.03), (10, 10))  # about 10 of 200 have no entry
    there = sorted(Path(path).glob("c/*/*"))
    assert 0 < 200 - len(there) < 30
    dnmf.convert(path, tmp_path / "copy.zarr")
    dnmf.transform(path, np.ones((2, 100), "f4"))
    dnmf.fit(path, 2, **QUICK)
    with pytest.raises(CorruptDataError):
        dnmf.fit(path, 2, missing_chunks="error")


def test_more_than_the_density_predicts_are_lost(tmp_path: Path) -> None:
    path = dense(tmp_path / "V.zarr", rare(0.03), (10, 10))
    for chunk in sorted(Path(path).glob("c/*/*"))[::2]:
        chunk.unlink()
    for use in (USES["fit"], USES["convert"]):
        with pytest.raises(CorruptDataError, match=r"1\d\d of 200 chunks"):
            use(path, tmp_path / "copy.zarr")
    with pytest.raises(CorruptDataError, match=r"1\d\d of 200 chunks"):
        dnmf.transform(path, np.ones((2, 100), "f4"))


def test_empty_rows_predict_empty_chunks(tmp_path: Path) -> None:
    A = np.repeat(np.random.default_rng(2).random(400) < 0.5, 20).reshape(400, 20).astype("f4")
    path = dense(tmp_path / "V.zarr", A, (2, 20))
    assert len(list(Path(path).glob("c/*/*"))) < 180
    assert dnmf.fit(path, 2, **QUICK).shape == (400, 20)
    full = dense(tmp_path / "full.zarr", np.ones((400, 20), "f4"), (2, 20))
    lose(full, "c/7/0")
    with pytest.raises(CorruptDataError, match="1 of 200 chunks"):
        dnmf.fit(full, 2)
