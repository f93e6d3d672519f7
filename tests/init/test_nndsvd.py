"""NNDSVD: singular vectors from few products, and starts that trap nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import zarr

import dnmf
from dnmf.errors import OptionError
from dnmf.init.nndsvd import NNDSVD, nndsvd_H, singular_vectors
from dnmf.planning import limits
from dnmf.steps.serial import Serial
from dnmf.testing.counting import CountingStore
from dnmf.testing.problems import planted_poisson


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    return planted_poisson(200, 50, 5, dtype="float64").V


def test_singular_vectors_are_those_of_the_matrix(counts: np.ndarray) -> None:
    exact = np.linalg.svd(counts, compute_uv=False)
    for V in (counts, sp.csr_array(counts)):
        U, S, Vt = singular_vectors(V, 5, seed=0)
        np.testing.assert_allclose(S, exact[:5], rtol=1e-6)
        np.testing.assert_allclose(U.T @ U, np.eye(5), atol=1e-10)
        left = np.linalg.norm(counts - U * S @ Vt)
        assert left == pytest.approx(np.linalg.norm(exact[5:]), rel=1e-6)


def test_H_is_scikit_learns(counts: np.ndarray) -> None:
    """Up to what scikit-learn's start of W carries, row by row."""
    from sklearn.decomposition._nmf import _initialize_nmf

    _, theirs = _initialize_nmf(counts, 5, init="nndsvd", random_state=0)
    ours = nndsvd_H(counts, 5, 0, "nndsvd", positive=False)
    scaled = [X / np.linalg.norm(X, axis=1, keepdims=True) for X in (ours, theirs)]
    np.testing.assert_allclose(scaled[0], scaled[1], atol=1e-3)


@pytest.mark.parametrize("variant", NNDSVD)
def test_zeros_are_filled_where_steps_cannot_leave_them(counts: np.ndarray, variant: str) -> None:
    V = counts.copy()
    V[:, 7] = 0
    H = nndsvd_H(V, 5, 0, variant, positive=True)
    assert (np.delete(H, 7, axis=1) > 0).all()
    assert not H[:, 7].any()
    assert nndsvd_H(V, 60, 0, variant, positive=True).shape == (60, 50)  # beyond the rank


@pytest.mark.parametrize("variant", NNDSVD)
@pytest.mark.parametrize(
    "options",
    [{}, {"loss": "kullback-leibler"}, {"solver": "mu"}, {"loss": "itakura-saito"}, {"loss": 0.5}],
    ids=str,
)
def test_fits_start_from_it(counts: np.ndarray, variant: str, options: dict[str, Any]) -> None:
    given = {"k": 5, "tol": 1e-4, "max_passes": 60, **options}
    if options.get("loss") in ("itakura-saito", 0.5):
        counts = counts + 0.5  # zeros are many local optima, or none are allowed
    fits = [dnmf.fit(counts, init=init, seed=0, **given) for init in (variant, "random")]
    objectives = [fit.objective for fit in fits]
    assert objectives[0] != objectives[1]
    assert objectives[0] <= 1.01 * objectives[1]
    kinds = [dnmf.fit(counts, init=variant, seed=s, **given).objective for s in (0, 1)]
    assert kinds[0] == pytest.approx(kinds[1], rel=5e-3)  # the seed hardly matters


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_it_takes_no_read_of_its_own(tmp_path: Path, share: float) -> None:
    """The scan's sample is what singular vectors are taken of."""
    V = planted_poisson(1000, 50, 5, dtype="float64").V
    store = CountingStore(zarr.storage.LocalStore(tmp_path / "V.zarr"))
    node = zarr.create_array(store, shape=V.shape, chunks=(25, 50), dtype="f8")
    node[:] = V
    store.reset()
    options: dict[str, Any] = {"sample_bytes": int(share * V.nbytes), "block_size": 10_000}
    options |= {"out": tmp_path / "out", "executor": Serial()}
    fit = dnmf.fit(node, 5, init="nndsvda", seed=0, tol=0, max_passes=3, **options)
    reads = 1 if share == 1 else 1 + len(fit.history)  # all rows in memory need no other
    assert set(store.chunk_reads().values()) == {reads}


@pytest.mark.parametrize("options", [{}, {"loss": "kullback-leibler"}], ids=str)
def test_a_part_of_the_rows_is_as_good_as_all(options: dict[str, Any]) -> None:
    """Singular vectors of a fifth of the rows, in the sample, start fits that end as low."""
    V = planted_poisson(2000, 50, 5, dtype="float64").V
    ends = [
        dnmf.fit(V, 5, init="nndsvda", seed=0, sample_bytes=int(share * V.nbytes), **options)
        for share in (0.2, 1.0)
    ]
    assert ends[0].objective is not None
    assert ends[0].objective <= 1.003 * ends[1].objective


def test_missing_entries_without_room_for_gram_matrices() -> None:
    """Steps of H multiply then: its zeros would stay for ever."""
    rng = np.random.default_rng(0)
    V = rng.gamma(0.3, size=(300, 6)) @ (rng.gamma(0.3, size=(6, 40)) * (rng.random((6, 40)) < 0.6))
    V[rng.random(V.shape) < 0.3] = np.nan
    with limits.using(losses={"curvature_bytes": 0}):
        fit = dnmf.fit(V, 6, init="nndsvd", missing="nan", seed=0, tol=1e-6, max_passes=300)
    assert fit.objective is not None
    assert fit.objective < 1  # 20 with zeros


def test_without_a_sample_it_is_refused(counts: np.ndarray) -> None:
    with pytest.raises(OptionError, match=r"init is 'nndsvd'.*but the sample is empty"):
        dnmf.fit(counts, 3, init="nndsvd", sample=0)
    with pytest.raises(OptionError, match="init is 'svd'; it must be 'random', 'nndsvd'"):
        dnmf.fit(counts, 3, init="svd")
