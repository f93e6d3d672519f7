"""Models that share their reads stay within what the plan predicts for all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from marks import slow
from test_memory import _measured

from dnmf.config import MIB
from dnmf.fitting.data.context import Context
from dnmf.losses import nonzeros
from dnmf.planning.memory import BASELINE, predict_memory
from dnmf.planning.plan import make_plan
from dnmf.runs.folder import FolderStore
from dnmf.sources import open_source
from dnmf.study.fit import study_config
from dnmf.testing.layouts import write_compressed, write_dense

OBJECTS = 1 << 18
"""Bytes of Python's own objects, more for more models; a worker's baseline has room for them."""

CASES: dict[str, tuple[str, list[int], int, dict[str, Any]]] = {
    "dense": ("tall", [2, 4, 6, 8, 10], 2, {}),
    "dense, left out": ("tall", [4, 8], 2, {"holdout": "bicv", "folds": 3}),
    "sample": ("tall", [4, 8], 2, {"sample": 0.2, "sample_bytes": 4 * MIB, "n_init": 2}),
    "sparse": ("sparse", [4, 8, 12], 2, {}),
    "sparse, left out": ("sparse", [4, 8], 1, {"holdout": "bicv", "folds": 3}),
    "Kullback-Leibler": ("sparse", [4, 8], 2, {"loss": "kullback-leibler"}),
    "k x d large": ("wide", [20, 40], 2, {"slab_size": MIB}),
}
LONG = ("dense, left out", "sparse, left out", "Kullback-Leibler", "sample", "k x d large")


def write(path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    if kind == "sparse":
        V = sp.random_array((20_000, 1000), density=0.02, rng=rng, dtype="f4", format="csr")
        write_compressed(path, V, 50_000)
    elif kind == "tall":
        write_dense(path, rng.integers(0, 9, (20_000, 300)).astype("f4"), (1000, 300))
    else:
        write_dense(path, rng.integers(0, 9, (300, 6000)).astype("f4"), (100, 1000))


@pytest.mark.parametrize("name", [*(x for x in CASES if x not in LONG), *slow(*LONG)])
def test_a_batch_stays_within_its_prediction(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nonzeros, "TILE_ENTRIES", 1 << 14)  # small data, small tiles
    kind, ks, seeds, options = CASES[name]
    write(tmp_path / "V.zarr", kind)
    given = {"sample": 0.0, "block_size": MIB, "segments": 4, "max_passes": 2, "tol": 0.0}
    given |= options
    held = given.pop("holdout", None), given.pop("folds", 5)
    config = study_config(ks, seeds, *held, given)
    plan, oriented = make_plan(open_source(tmp_path / "V.zarr"), config)
    folder = FolderStore.create_new(tmp_path / "run", plan.to_json())
    measured = _measured(Context(folder, plan, oriented))
    predicted = predict_memory(plan, 1).total - BASELINE
    assert measured <= predicted + OBJECTS, (measured, predicted)
    assert measured > predicted / 4, "a prediction far too high makes groups for nothing"
