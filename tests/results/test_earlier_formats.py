"""Finished results that dnmf 0.1.0 wrote (format 1) open in full.

``data/format-1.tar.xz`` has a fit and a study of the V below, as that version published them::

    dnmf.fit(V, 2, out="fit.zarr", seed=1, tol=0, max_passes=4, n_init=1, segments=2)
    dnmf.fit_many(V, [2, 3], 2, out="study.zarr", max_passes=3, tol=0, folds=2, sample=0)
"""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import numpy as np
import pytest

import dnmf

V = (np.arange(24 * 8).reshape(24, 8) % 7).astype(float)
V[3] = 0

MODELS = {  # k, then digests of W and H, and the objective, of each seed
    2: [
        ("4ced7cd4716daf05", "836fdfdeb4bc61c9", 217.8038203906924),
        ("8867e8e90b3618d7", "c713ce5d7791057e", 232.31187047119548),
    ],
    3: [
        ("ff581175788616a4", "686bf846168b966b", 136.43976149215726),
        ("1f75e6ab3de108d0", "16530fd9344e3310", 121.93149286382919),
    ],
}


@pytest.fixture
def folder(tmp_path):
    with tarfile.open(Path(__file__).parent / "data" / "format-1.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    return tmp_path


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def check(fit, W, H, objective):
    assert fit.done
    assert (digest(fit.W[:]), digest(fit.H[:])) == (W, H)
    assert fit.objective == objective
    assert fit.objective == pytest.approx(0.5 * np.sum((V - fit.W[:] @ fit.H[:]) ** 2))


def test_a_fit(folder):
    fit = dnmf.open(folder / "fit.zarr")
    check(fit, "211b6ec7005ba704", "a784c06eed6cc809", 221.13669618803561)
    assert (fit.shape, fit.k, fit.passes) == ((24, 8), 2, 4)
    assert [row["pass"] for row in fit.history] == [1, 2, 3, 4]
    assert fit.history[-1]["objective"] == fit.objective
    assert fit.history[-1]["relative_error"] == fit.relative_error == 0.43271849667535023
    assert {"kkt_W", "kkt_H", "accepted", "seconds", "bytes_read"} <= set(fit.history[0])
    assert fit.stop_reason == "stopped after max_passes = 4 passes, before tol = 0 was met"
    assert fit.fingerprint == "444ffe511fc30032ebda316c0517972f"
    assert fit.config["models"] == [{"k": 2, "seed": 1, "fold": None}]
    assert fit.versions["dnmf"] == "0.1.0"
    assert len(fit.details["share"]) == 2
    assert fit.inspect()["passes"] == 4


def test_a_fit_serves_a_transform(folder):
    fit = dnmf.open(folder / "fit.zarr")
    W = dnmf.transform(V[:5], fit)
    assert np.linalg.norm(V[:5] - W @ fit.H[:]) < 0.6 * np.linalg.norm(V[:5])


def test_a_study(folder):
    study = dnmf.Study.open(folder / "study.zarr")
    assert study.ks == [2, 3]
    for k, models in MODELS.items():
        for fit, model in zip(study.runs(k), models, strict=True):
            check(fit, *model)
            assert fit.passes == 3
    assert len(study.models) == 8  # two folds of each
    assert study.held_out.errors == pytest.approx(
        np.array([[0.57465378, 0.38103829], [0.44764397, 0.31239492]])
    )
    assert study.recommend().k == 3


@pytest.mark.parametrize(("name", "said"), [("fit.zarr", "221.1367"), ("study.zarr", "k = 3")])
def test_its_report(folder, name, said):
    dnmf.report(folder / name, folder / "report.html")
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "24 x 8" in text
    assert "dnmf 0.1.0" in text
    assert said in text
