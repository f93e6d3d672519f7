"""What fits of real data say of their end is true: little is left, and the objective is exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.io import wavfile
from scipy.signal import stft

import dnmf
from dnmf.steps.serial import Serial


def cells(folder: Path) -> sp.csr_array:
    """Counts of every 16th gene."""
    genes = sp.load_npz(folder / "pbmc1k" / "counts_genes_x_cells.npz").tocsr()[::16]
    return sp.csr_array(genes.T).astype(np.float32)


def piano(folder: Path) -> np.ndarray:
    rate, sound = wavfile.read(folder / "piano" / "Piano.wav")
    magnitudes = np.abs(stft(sound.astype(float), rate, nperseg=1024, noverlap=512)[2].T)
    return np.ascontiguousarray(magnitudes / magnitudes.max(), np.float32)


def air(folder: Path) -> np.ndarray:
    path = folder / "pmf" / "Dataset-StLouis-con.csv"
    return np.genfromtxt(path, delimiter=",", skip_header=1)[:, 1:].astype(np.float32)


DATA: dict[str, tuple[Any, int, dict[str, Any], float]] = {
    "cells": (cells, 9, {"loss": "kullback-leibler"}, 1e-4),
    "air": (air, 6, {}, 3e-4),  # too few columns for rounds
    "piano": (lambda folder: piano(folder)[::2], 8, {"rounds": 0}, 1e-4),
}
"""How V is made, k, options, and how far above its end a fit may say that it has converged."""


@pytest.mark.parametrize("name", DATA)
def test_a_slow_tail_is_followed(shared_data: Path, name: str) -> None:
    """By the last rates of decreases they ended after 3 to 27 passes, 0.015 to 0.5% too high."""
    make, k, options, most = DATA[name]
    V = make(shared_data)
    found = dnmf.fit(V, k, seed=1, executor=Serial(), **options)
    tight = {"tol": 1e-9, "max_passes": found.passes + 60, "executor": Serial()}
    end = dnmf.fit(V, k, seed=1, **tight, **options)
    assert found.details["stop_kind"] == "converged"
    assert found.objective is not None
    assert end.objective is not None
    assert found.objective <= (1 + most) * end.objective


@pytest.mark.parametrize("seed", [1, 2])
def test_the_objective_is_that_of_the_result(shared_data: Path, seed: int) -> None:
    """Summed by products in float32 it was 0.02% off, more than tol."""
    V = piano(shared_data)
    found = dnmf.fit(V, 8, seed=seed, executor=Serial())
    W, H = found.W.astype(np.float64), found.H.astype(np.float64)
    exact = 0.5 * float(np.sum((V.astype(np.float64) - W @ H) ** 2))
    assert found.objective == pytest.approx(exact, rel=1e-6)
