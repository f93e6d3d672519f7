"""The H-step in parts is that of the whole slab, wherever the parts run."""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import pytest

import dnmf
from dnmf.executors.threads import Threads
from dnmf.fitting.models.h_step import parts_of, update_H
from dnmf.losses import get_loss
from dnmf.losses.frobenius import Frobenius
from dnmf.losses.values import Penalties, SmallStats
from dnmf.planning import limits
from dnmf.planning.limits import Limits

K, D = 3, 100
PART = Limits().h_part_bytes

LOSSES = {
    "frobenius": ({}, K),
    "lee-seung": ({"solver": "mu"}, K),
    "masked": ({"masked": True}, K + K * (K + 1) // 2),
    "kullback-leibler": ({"solver": "mu"}, K),
    "curvature": ({}, K + K * (K + 1) // 2),
    "beta": ({"beta": 1.5}, 2 * K),
}
NAMES = {"lee-seung": "frobenius", "masked": "frobenius", "curvature": "kullback-leibler"}


def _problem(kind):
    options, rows = LOSSES[kind]
    loss = get_loss(NAMES.get(kind, kind), penalties=Penalties(l1_H=0.1, l2_H=0.05), **options)
    rng = np.random.default_rng(0)
    W, H = rng.random((50, K)), rng.random((K, D)).astype(np.float32)
    V = W @ rng.random((K, D))
    stats = SmallStats(W.T @ W, W.sum(axis=0))
    wide = W.T @ V if rows <= K or kind == "masked" else rng.random((rows, D)) * 10
    if kind == "masked":  # a Gram matrix for each column, its lower triangle packed by rows
        packed = (W.T @ W)[np.tril_indices(K)]
        wide = np.concatenate([wide, packed[:, None] * rng.uniform(0.5, 1, D)])
    return loss, wide, stats, H, np.stack([V.sum(axis=0), (V**2).sum(axis=0)])


def test_parts_cover_the_slab_whatever_runs_them():
    for k, width in ((1, 1), (3, 10**6), (50, 30_000), (200_000, 3)):
        cuts = parts_of(k, width, PART)
        assert (cuts[0], cuts[-1]) == (0, width)
        assert all(0 < b - a <= max(1, PART // (8 * k)) for a, b in pairwise(cuts))


@pytest.mark.parametrize("kind", LOSSES)
def test_parts_are_those_of_the_whole(kind):
    problem = _problem(kind)
    whole, small = update_H(*problem, map, PART), 8 * K * 30
    parts, elsewhere = update_H(*problem, map, small), update_H(*problem, Threads(3).each, small)
    for name in ("H", "kkt", "gain", "share", "extrapolated", "extrapolated_gain"):
        one, other, third = (getattr(step, name) for step in (whole, parts, elsewhere))
        if one is None:
            assert other is None
            continue
        np.testing.assert_allclose(other, one, rtol=1e-6)
        np.testing.assert_array_equal(third, other)
    assert (whole.extrapolated is not None) == (kind == "curvature")


def test_parts_run_side_by_side_in_a_fit(monkeypatch):
    """Two that wait for each other end only so."""
    met, update = threading.Barrier(2, timeout=20), Frobenius.update_H

    def waiting(*given):
        met.wait()
        return update(*given)

    monkeypatch.setattr(Frobenius, "update_H", waiting)
    V = np.random.default_rng(0).random((20, D))
    options = {"seed": 0, "sample": 0, "max_passes": 2, "tol": 0}
    with limits.using(h_part_bytes=8 * K * D // 2):
        assert dnmf.fit(V, K, executor=Threads(2), **options).passes == 2
