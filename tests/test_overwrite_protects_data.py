"""A result never replaces the data it is computed from."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

import dnmf
from dnmf.errors import OutputExistsError


def test_an_output_that_contains_the_data_is_not_overwritten(tmp_path: Path) -> None:
    V = np.random.default_rng(0).random((30, 6))
    zarr.create_array(tmp_path / "V.zarr", data=V, chunks=(10, 6))
    dnmf.fit(tmp_path / "V.zarr", 2, out=tmp_path / "run", seed=0)
    inside = tmp_path / "run" / "V.zarr"
    shutil.copytree(tmp_path / "V.zarr", inside)
    with pytest.raises(OutputExistsError):
        dnmf.fit(inside, 2, out=tmp_path / "run", overwrite=True, seed=0)
    assert np.array_equal(np.asarray(zarr.open_array(inside)), V)
    with pytest.raises(OutputExistsError):
        dnmf.fit(tmp_path / "run" / "W", 2, out=tmp_path / "run", overwrite=True, seed=0)
    assert (tmp_path / "run" / "W").is_dir()
