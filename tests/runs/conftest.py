"""What tests of run folders share."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def V(tmp_path_factory):
    """A stored matrix of 100 x 12, outside of ``tmp_path``."""
    path = tmp_path_factory.mktemp("data") / "V.npy"
    np.save(path, np.random.default_rng(0).random((100, 12)))
    return path
