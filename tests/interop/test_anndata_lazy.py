"""AnnData that is read lazily from its Zarr store: the fit of the same data in memory."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

import dnmf

X = np.random.default_rng(0).poisson(1.0, (120, 20)).astype("f4")
NAMES = [f"gene{i}" for i in range(20)]


@pytest.mark.filterwarnings("ignore")  # of AnnData and Zarr about their own formats
@pytest.mark.parametrize("matrix", ["X", "layer", "whole"])
def test_it_is_the_fit_of_the_same_data_in_memory(tmp_path: Path, matrix: str) -> None:
    data = anndata.AnnData(sp.csr_matrix(X))
    data.var_names = NAMES
    data.layers["dense"] = X
    data.write_zarr(tmp_path / "cells.zarr")
    lazy = anndata.experimental.read_lazy(tmp_path / "cells.zarr")
    given = {"X": lazy.X, "layer": lazy.layers["dense"], "whole": lazy}[matrix]
    found = dnmf.fit(given, 3, seed=0, max_passes=4)
    wanted = dnmf.fit(X if matrix == "layer" else sp.csr_array(X), 3, seed=0, max_passes=4)
    np.testing.assert_array_equal(found.W, wanted.W)
    np.testing.assert_array_equal(found.H, wanted.H)
    if matrix == "whole":
        assert list(found.column_names) == NAMES
