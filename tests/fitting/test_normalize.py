"""Where the scale of a result is: the product is the same wherever it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import zarr

import dnmf
from dnmf.testing.problems import planted_poisson


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
@pytest.mark.parametrize("normalize", ["components", "weights"])
@pytest.mark.parametrize("axis", ["rows", "columns"])
def test_one_factor_has_unit_size(loss: str, normalize: str, axis: str, tmp_path: Path) -> None:
    counts = planted_poisson(60, 40, 3, dtype="float64").V
    path = str(tmp_path / "V.zarr")
    chunks = (10, 40) if axis == "rows" else (60, 5)
    zarr.create_array(path, shape=(60, 40), chunks=chunks, dtype="f8")[:] = counts
    given: dict[str, Any] = {"loss": loss, "seed": 0, "max_passes": 5}
    given |= {} if axis == "rows" else {"max_block": 5000, "block_size": 5000}
    plain = dnmf.fit(path, 3, out=tmp_path / "plain", **given)
    fit = dnmf.fit(path, 3, out=tmp_path / "out", normalize=normalize, **given)
    W, H = np.asarray(fit.W), np.asarray(fit.H)
    factor = H.T if normalize == "components" else W
    sizes = np.linalg.norm(factor, axis=0) if loss == "frobenius" else factor.sum(axis=0)
    np.testing.assert_allclose(sizes, 1, rtol=1e-12)
    np.testing.assert_allclose(W @ H, np.asarray(plain.W) @ np.asarray(plain.H), rtol=1e-10)
    memory = dnmf.fit(counts, 3, normalize=normalize, seed=0, loss=loss, max_passes=5)
    sizes = np.asarray(memory.H).T if normalize == "components" else np.asarray(memory.W)
    found = np.linalg.norm(sizes, axis=0) if loss == "frobenius" else sizes.sum(axis=0)
    np.testing.assert_allclose(found, 1, rtol=1e-12)


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("itakura-saito", {}),
        (1.5, {}),
        ("kullback-leibler", {"sparse": True}),
        ("frobenius", {"sparse": True, "missing": "zeros"}),
        ("kullback-leibler", {"alpha_W": 0.01, "l1_ratio": 0.5}),
    ],
)
@pytest.mark.parametrize("normalize", ["components", "weights"])
def test_whatever_the_loss(loss: Any, options: dict[str, Any], normalize: str) -> None:
    V: Any = planted_poisson(60, 40, 3, dtype="float64").V + 0.5
    given = {"loss": loss, "seed": 0, "max_passes": 5, **options}
    if given.pop("sparse", False):
        V = sp.csr_array(np.where(V > 1, V, 0))
    plain, fit = (dnmf.fit(V, 3, normalize=n, **given) for n in (None, normalize))
    factor = fit.H[:].T if normalize == "components" else fit.W[:]
    sizes = np.linalg.norm(factor, axis=0) if loss == "frobenius" else factor.sum(axis=0)
    np.testing.assert_allclose(sizes, 1, rtol=1e-12)
    np.testing.assert_allclose(fit.W[:] @ fit.H[:], plain.W[:] @ plain.H[:], rtol=1e-10)


@pytest.mark.parametrize(
    ("loss", "normalize"),
    [
        ("frobenius", None),
        ("frobenius", "components"),
        ("kullback-leibler", None),
        ("kullback-leibler", "weights"),
        ("itakura-saito", None),
        ("itakura-saito", "components"),
        (0.5, None),
        (0.5, "weights"),
    ],
)
def test_components_come_in_the_order_of_their_share(loss: Any, normalize: str | None) -> None:
    """From any start, whatever the order and size in which it named them."""
    rng = np.random.default_rng(0)
    shares = np.array([1.0, 9.0, 3.0])
    W, H = rng.gamma(0.5, size=(300, 3)) * shares, rng.gamma(0.5, size=(3, 40))
    V = W @ H + 0.01
    given: dict[str, Any] = {"loss": loss, "normalize": normalize, "tol": 1e-7, "max_passes": 100}
    found = []
    for start in (H[[0, 1, 2]], 5 * H[[1, 0, 2]], H[[2, 0, 1]] * [[1.0], [7.0], [0.1]]):
        fit = dnmf.fit(V, init=start + 0.01, seed=0, **given)
        of_W, of_H = np.asarray(fit.W), np.asarray(fit.H)
        mass = np.sum((of_W.T @ V) * of_H, axis=1)
        size = mass if loss == "frobenius" else of_W.sum(axis=0) * of_H.sum(axis=1)
        assert (np.diff(size) < 0).all(), size
        found.append(of_H / np.linalg.norm(of_H, axis=1, keepdims=True))
    for other in found[1:]:
        np.testing.assert_allclose(np.sum(other * found[0], axis=1), 1, atol=1e-3)
