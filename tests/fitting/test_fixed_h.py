"""Rows of H that are held: where they are, how large they are, and what is learned beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from scipy.optimize import nnls

import dnmf
from dnmf.errors import OptionError

OPTIONS: list[dict[str, Any]] = [
    {},
    {"sample": 0.3, "sample_bytes": 30_000},
    {"init": "nndsvda"},
    {"solver": "mu"},
    {"alpha_W": 0.001, "l1_ratio": 0.5},
    {"missing": "nan"},
    {"loss": "kullback-leibler"},
    {"loss": "kullback-leibler", "weights": True},
    {"loss": "itakura-saito"},
    {"loss": 0.5},
]


def planted(offset: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """V, and H of which it was made."""
    rng = np.random.default_rng(0)
    W, H = rng.gamma(0.5, 1.0, (300, 4)), rng.gamma(0.5, 1.0, (4, 40))
    return W @ H + offset, H


def held_rows(H: np.ndarray) -> np.ndarray:
    """Two of them, neither in order of size nor of unit norm."""
    rows: np.ndarray = H[[2, 0]] * np.array([[3.0], [0.1]])
    return rows


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_they_keep_position_and_scale(options: dict[str, Any]) -> None:
    V, H = planted()
    F = held_rows(H)
    given = {**options, "weights": np.ones(V.shape)} if "weights" in options else options
    fit = dnmf.fit(V, 4, fixed_H=F, seed=0, max_passes=8, **given)
    np.testing.assert_array_equal(np.asarray(fit.H)[:2], F)
    objectives = [row["objective"] for row in fit.history if row["accepted"]]
    assert (np.diff(objectives) <= 1e-9 * objectives[0]).all()
    if not options:
        W = np.asarray(dnmf.transform(V, fit))
        np.testing.assert_allclose(W, np.asarray(fit.W), atol=0.05 * W.max())


def test_the_others_are_learned_beside_them() -> None:
    """Of an exact product the missing rows are found, up to their scale."""
    V, H = planted(offset=0.0)
    fit = dnmf.fit(V, 4, fixed_H=held_rows(H), seed=0, tol=1e-9, max_passes=300)
    assert fit.relative_error is not None
    assert fit.relative_error < 1e-3
    found, wanted = (X / np.linalg.norm(X, axis=1)[:, None] for X in (np.asarray(fit.H), H))
    likeness = found[2:] @ wanted[[1, 3]].T
    assert (likeness.max(axis=1) > 0.99).all()
    wrong = dnmf.fit(V, 4, fixed_H=np.ones((2, 40)), seed=0, tol=1e-9, max_passes=300)
    assert wrong.relative_error > 10 * fit.relative_error


def test_the_free_rows_are_optimal() -> None:
    """Each column of them solves its least squares problem beside what is held."""
    V, H = planted()
    F = held_rows(H)
    fit = dnmf.fit(V, 4, fixed_H=F, seed=0, tol=1e-10, max_passes=400)
    W, found = np.asarray(fit.W), np.asarray(fit.H)
    best = np.array([nnls(W[:, 2:], v)[0] for v in (V - W[:, :2] @ F).clip(None).T]).T
    np.testing.assert_allclose(found[2:], best, atol=2e-3 * found[2:].max())


def test_a_start_gives_the_free_rows() -> None:
    V, H = planted()
    fit = dnmf.fit(V, 4, fixed_H=H[:2], init=np.ones((4, 40)), seed=0, max_passes=2)
    np.testing.assert_array_equal(np.asarray(fit.H)[:2], H[:2])


def test_a_run_in_progress_shows_them_in_place(tmp_path: Path) -> None:
    """And goes on with them to the same bits, but with no others."""
    V, H = planted()
    F, out = held_rows(H), tmp_path / "out"
    np.save(tmp_path / "V.npy", V)
    options: dict[str, Any] = {"seed": 0, "max_passes": 6, "tol": 0, "sample": 0.3}
    options |= {"sample_bytes": 30_000, "block_size": 3200}

    def interrupt(event: Any) -> None:
        rows = getattr(event, "rows", [])
        if getattr(event, "kind", "") == "pass" and rows and rows[-1].get("pass") == 3:
            raise KeyboardInterrupt

    path = str(tmp_path / "V.npy")
    with pytest.raises(KeyboardInterrupt):
        dnmf.fit(path, 4, fixed_H=F, out=out, on_event=interrupt, **options)
    np.testing.assert_array_equal(np.asarray(dnmf.open(out).H)[:2], F)
    again: dict[str, Any] = {"out": out, "resume": True, **options}
    with pytest.raises(OptionError, match=r"fixed_H was .* now"):
        dnmf.fit(path, 4, fixed_H=2 * F, **again)
    with pytest.raises(OptionError, match=r"fixed_H was '2 .*', now None"):
        dnmf.fit(path, 4, **again)
    resumed = dnmf.fit(path, 4, fixed_H=F, **again)
    whole = dnmf.fit(path, 4, fixed_H=F, **options)
    np.testing.assert_array_equal(np.asarray(resumed.H), np.asarray(whole.H))
    np.testing.assert_array_equal(np.asarray(resumed.W), np.asarray(whole.W))


def test_rows_cannot_be_held_where_columns_are_read(tmp_path: Path) -> None:
    V, H = planted()
    array = zarr.create_array(str(tmp_path / "V.zarr"), data=V, chunks=(300, 4))
    with pytest.raises(OptionError, match=r"read by columns.*\(fixed_H\)"):
        dnmf.fit(array, 4, fixed_H=H[:1], max_block=20_000, block_size=20_000)
