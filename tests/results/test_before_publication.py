"""Right before a run is published, ``dnmf.open`` shows what will be, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import dnmf
from dnmf.steps.events import Committed
from dnmf.steps.serial import Serial
from dnmf.testing.problems import planted_poisson

PASSES = 3
V = planted_poisson(240, 30, 4).dense
LAYOUT: dict[str, Any] = {
    "seed": 0,
    "tol": 0,
    "max_passes": PASSES,
    "sample": 0,
    "segments": 24,
    "slab_size": 8 * 4 * 16,  # 16 of 30 columns
}
BY_COLUMNS = {"max_block": 240 * 4 * 4, "block_size": 240 * 4 * 4}
CASES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "components": {"normalize": "components"},
    "weights": {"normalize": "weights"},
    "sums of components": {"normalize": "components", "loss": "kullback-leibler"},
    "sums of weights": {"normalize": "weights", "loss": "kullback-leibler"},
    "penalties": {"alpha_W": 0.01, "l1_ratio": 0.5},
    "fixed rows": {"fixed_H": np.ones((1, 30))},
}


def interrupted(kind: str, passes: int) -> Any:
    """A listener that interrupts after so many steps of a kind."""
    seen = []

    def listen(event: object) -> None:
        if isinstance(event, Committed) and event.kind == kind:
            seen.append(event)
            if len(seen) == passes:
                raise KeyboardInterrupt

    return listen


def write(folder: Path, chunks: tuple[int, int]) -> str:
    path = str(folder / "V.zarr")
    zarr.create_array(path, shape=V.shape, chunks=chunks, dtype="f4")[:] = V
    return path


@pytest.mark.parametrize("axis", ["rows", "columns"])
@pytest.mark.parametrize("case", CASES)
def test_a_fit(tmp_path: Path, axis: str, case: str) -> None:
    if axis == "columns" and "fixed_H" in CASES[case]:
        pytest.skip("rows of H cannot be fixed where V is read by columns")
    path = write(tmp_path, (10, 30) if axis == "rows" else (240, 2))
    options = {**LAYOUT, **CASES[case], **(BY_COLUMNS if axis == "columns" else {})}
    assert dnmf.plan(path, 4, **options).plan.axis == axis
    with pytest.raises(KeyboardInterrupt):
        dnmf.fit(
            path,
            4,
            out=tmp_path / "out",
            executor=Serial(),
            on_event=interrupted("pass", PASSES),
            **options,
        )
    shown = dnmf.open(tmp_path / "out")
    arrays = np.asarray(shown.W), np.asarray(shown.H)  # before their objects are dropped
    finished = dnmf.resume(tmp_path / "out")
    np.testing.assert_array_equal(arrays[0], finished.W[:])
    np.testing.assert_array_equal(arrays[1], finished.H[:])
    assert (shown.objective, shown.stop_reason) == (finished.objective, finished.stop_reason)
    assert (shown.done, finished.done) == (False, True)
    assert arrays[0].dtype == finished.W.dtype


def test_many_models(tmp_path: Path) -> None:
    path = write(tmp_path, (10, 30))
    options = {**LAYOUT, "holdout": None, "executor": Serial()}
    seeds = options.pop("seed") + 2
    with pytest.raises(KeyboardInterrupt):
        dnmf.fit_many(
            path,
            [2, 3],
            seeds,
            out=tmp_path / "out",
            on_event=interrupted("pass", PASSES),
            **options,
        )
    shown = dnmf.open(tmp_path / "out").results
    arrays = [(np.asarray(one.W), np.asarray(one.H)) for one in shown]
    finished = dnmf.resume(tmp_path / "out").results
    assert len(finished) == len(arrays) == 4
    for (W, H), one in zip(arrays, finished, strict=True):
        np.testing.assert_array_equal(W, one.W[:])
        np.testing.assert_array_equal(H, one.H[:])


def test_a_transform(tmp_path: Path) -> None:
    path = write(tmp_path, (10, 30))
    fit = dnmf.fit(V, 4, executor=Serial(), **LAYOUT)
    with pytest.raises(KeyboardInterrupt):
        dnmf.transform(
            path, fit, out=tmp_path / "W", executor=Serial(), on_event=interrupted("transform", 1)
        )
    shown = dnmf.open(tmp_path / "W")
    W = np.asarray(shown.W)
    finished = dnmf.resume(tmp_path / "W")
    np.testing.assert_array_equal(W, finished.W[:])
    assert shown.objective == finished.objective
