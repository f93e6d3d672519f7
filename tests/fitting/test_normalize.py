"""Where the scale of a result is: the product is the same wherever it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import dnmf
from dnmf.errors import OptionError
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


def test_another_word_is_refused() -> None:
    with pytest.raises(OptionError, match="normalize is 'both'; it must be one of None, comp"):
        dnmf.fit(np.eye(4), 2, normalize="both")
