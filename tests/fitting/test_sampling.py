"""Which rows the sample has: by row alone, evenly, whatever the layout of V."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import zarr

import dnmf
from dnmf.fitting.data.context import Context
from dnmf.fitting.data.rows import open_rows
from dnmf.fitting.data.sample import draw
from dnmf.steps.events import Committed
from dnmf.steps.serial import Serial
from dnmf.testing.layouts import write_dense
from dnmf.testing.problems import planted_poisson

ROWS, SHARE = 200_000, 0.2


@pytest.fixture(scope="module")
def plan():
    return SimpleNamespace(plan=SimpleNamespace(sample=SHARE))


@pytest.fixture(scope="module")
def drawn(plan):
    return draw(plan, 0, ROWS)


def test_rows_are_drawn_one_by_one(plan, drawn):
    """However they are cut into blocks and segments."""
    cuts = [0, 1, 7, 1000, 1001, 65_536, 199_999, ROWS]
    parts = [draw(plan, a, b) for a, b in pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(parts), drawn)


@pytest.mark.parametrize("pieces", [1, 10, 100])
def test_every_part_of_v_has_its_share(drawn, pieces):
    """Data are sorted: a segment without its share would be a kind of rows that is not seen."""
    counts = drawn.reshape(pieces, -1).sum(axis=1)
    rows = ROWS // pieces
    spread = np.sqrt(rows * SHARE * (1 - SHARE))
    assert abs(counts - rows * SHARE).max() < 4.5 * spread


def test_rows_are_drawn_independently(drawn):
    """Distances between neighbours that are drawn are geometric; whole blocks would be not."""
    gaps = np.diff(np.flatnonzero(drawn))
    seen = np.bincount(gaps, minlength=12)[1:12]
    expected = len(gaps) * SHARE * (1 - SHARE) ** np.arange(11)
    rest = len(gaps) - seen.sum(), len(gaps) - expected.sum()
    test = scipy.stats.chisquare([*seen, rest[0]], [*expected, rest[1]])
    assert test.pvalue > 1e-3


class _ScannedError(Exception):
    pass


def _rows_of_sample(V, where, **options):
    """The numbers of the rows that a scan of V keeps, and their sums."""

    def stop(event):
        if isinstance(event, Committed) and event.kind == "scan":
            raise _ScannedError

    with pytest.raises(_ScannedError):
        dnmf.fit(V, 3, seed=0, out=where, executor=Serial(), on_event=stop, **options)
    context = Context.open(str(where))
    rows = open_rows(context, context.state(0).scanned, "sample")
    segments = range(len(rows.starts) - 1)
    blocks = [V for segment in segments for _, V, _ in rows.blocks(segment, None)]
    sums = np.concatenate([block.sum(axis=1, dtype=np.float64) for block in blocks])
    return np.concatenate([rows.numbers(segment) for segment in segments]), sums


def test_the_sample_is_the_same_for_every_layout(tmp_path):
    V = planted_poisson(n=3000, d=20).dense
    found = []
    for i, (chunks, options) in enumerate(
        [((3000, 20), {}), ((7, 20), {"block_size": 8000}), ((100, 3), {"segments": 30})]
    ):
        write_dense(zarr.storage.LocalStore(tmp_path / f"{i}.zarr"), V, chunks)
        path, part = tmp_path / f"{i}.zarr", {"sample_bytes": V.nbytes // 4}
        found.append(_rows_of_sample(path, tmp_path / f"{i}", **part, **options))
    numbers, sums = found[0]
    assert 0.2 < len(numbers) / 3000 < 0.3
    np.testing.assert_allclose(sums, V[numbers].sum(axis=1, dtype=np.float64))
    for other, of_rows in found[1:]:
        np.testing.assert_array_equal(other, numbers)
        np.testing.assert_allclose(of_rows, sums)
