"""``reads --hard``: its data are the same every time, and its figures say what fits did."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from click.testing import CliRunner

import dnmf
from dnmf.steps.serial import Serial


def _makers() -> list[Any]:
    from benchmarks.planted_hard import ScaledCounts, SpectralScene, TrafficWeeks

    counts, scene = ScaledCounts(2_300, 80, 4), SpectralScene(16, 25, 3)
    return [counts, scene, TrafficWeeks(1, 15, 3, per_day=24)]


@pytest.mark.parametrize("which", range(3))
def test_generated_data_depend_on_the_seed_alone(which: int) -> None:
    data = _makers()[which]
    first, again, other = (data.make(seed).V for seed in (0, 0, 1))
    arrays = [X.toarray() if sp.issparse(X) else X for X in (first, again, other)]
    np.testing.assert_array_equal(arrays[0], arrays[1])
    assert (arrays[0] != arrays[2]).any()
    assert arrays[0].dtype == np.float32
    assert np.isfinite(arrays[0]).all()
    assert arrays[0].min() >= 0


def test_these_are_the_numbers_of_every_machine() -> None:
    """Sums that were written down once: a generator that changes makes figures incomparable."""
    sums = [float(data.make(0).V.sum(dtype=np.float64)) for data in _makers()]
    assert sums == pytest.approx(SUMS, rel=1e-5)


SUMS = [166746.739868, 6743.991032, 195.404542]


def test_scaled_counts_are_noise_mostly_and_hold_their_programmes() -> None:
    from benchmarks.courses import components_found
    from benchmarks.planted_hard import ScaledCounts

    made = ScaledCounts(3_000, 300, 4).make(0)
    dense = made.V.toarray().astype(np.float64)
    np.testing.assert_allclose(dense.std(axis=0, ddof=1), 1, rtol=1e-4)
    assert made.H is not None
    assert made.H.shape == (4, 300)
    fit = dnmf.fit(dense, 4, seed=0, executor=Serial())
    assert fit.relative_error is not None
    assert fit.relative_error > 0.7
    assert components_found(np.asarray(fit.H), made.H) == 4
    assert components_found(np.repeat(made.H[:1], 4, axis=0), made.H) == 1, "one told four times"


def test_neighbours_in_a_scene_are_alike_and_spectra_have_a_background() -> None:
    from benchmarks.planted_hard import SpectralScene

    V = SpectralScene(40, 30, 3).make(0).V.reshape(40, 40, 30)
    unit = V / np.linalg.norm(V, axis=2, keepdims=True)
    assert np.sum(unit[:, 1:] * unit[:, :-1], axis=2).mean() > 0.99
    assert np.median(V) == pytest.approx(1, abs=0.3)


def test_traffic_has_days_and_weekends() -> None:
    from benchmarks.planted_hard import TrafficWeeks

    V = TrafficWeeks(4, 20, 3, per_day=48).make(0).V
    total = V.sum(axis=1).reshape(28, 48)
    working = total[np.arange(28) % 7 < 5]
    assert working.mean() > 1.1 * total[np.arange(28) % 7 >= 5].mean()
    hours = working.mean(axis=0)
    assert hours[14:20].mean() > 2 * hours[:8].mean(), "mornings against nights"


def test_entries_are_taken_out_of_a_copy() -> None:
    from benchmarks.planted_hard import take_out

    V = np.ones((200, 50), np.float32)
    gaps = np.isnan(take_out(V, 0.05))
    assert gaps.mean() == pytest.approx(0.05, abs=0.01)
    np.testing.assert_array_equal(gaps, np.isnan(take_out(V, 0.05)))
    assert (gaps != np.isnan(take_out(V, 0.05, seed=1))).any()
    assert not np.isnan(V).any()


def test_absent_data_are_skipped_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Callable[..., Any]
) -> None:
    """A folder without the files, too."""
    monkeypatch.setenv("DNMF_DATA", str(tmp_path))
    ran = bench("reads", "--hard", "--only", "pmf St. Louis", "--only", "piano")
    assert ran.exit_code == 0
    assert [line["case"] for line in ran.lines] == ["piano", "pmf St. Louis", "piano, 5% missing"]
    assert all(line["value"] is None and "DNMF_DATA" in line["skipped"] for line in ran.lines)


NAMES = (
    "reads until within 0.1% of the end", "reads until within 0.0001%", "reads until the default",
    "above the end at tol", "seeds that say converged", "share of seeds within 0.03%",
    "seeds cut off", "gap of the end", "best default objective", "median default objective",
)  # fmt: skip


def test_every_set_has_its_figures(bench: Callable[..., Any], tmp_path: Path) -> None:
    picture = tmp_path / "new" / "reads.svg"
    ran = bench(
        "reads", "--hard", "--seeds", "2", "--only", "scaled", "--only", "traffic",
        "--against", "max_passes=3", "--picture", str(picture),
    )  # fmt: skip
    assert ran.exit_code == 0, ran.output
    for case in ("scaled counts", "traffic"):
        for way in ("default", "max_passes=3"):
            for name in NAMES:
                line = ran.line(f"{case}, {way}", name)
                assert line["value"] is not None
                assert way == "default" or line["goal"] is None
    near = ran.line("traffic, default", "reads until within 0.1%")
    assert len(near["details"]["by_seed"]) == 2
    assert min(near["details"]["by_seed"]) >= 2, "a scan and a pass at least"
    assert ran.line("scaled counts, max_passes=3", "reads until the default")["value"] == 4
    assert ran.line("scaled counts, default", "planted components found")["details"]["k"] == 3
    sentences = ran.line("traffic, max_passes=3", "seeds that say")["details"]["sentences"]
    assert all("max_passes = 3" in sentence for sentence in sentences)
    svg = picture.read_text()
    assert svg.startswith("<svg")
    for text in ("dnmf, default", "dnmf, max_passes=3", "scikit-learn", "traffic, k = 3"):
        assert text in svg


def test_missing_entries_have_no_peer(bench: Callable[..., Any], shared_data: Path) -> None:
    """And real data are read."""
    ran = bench("reads", "--hard", "--seeds", "1", "--only", "pmf Baton Rouge")
    names = {(line["case"], line["name"]) for line in ran.lines}
    peer = "best default objective above scikit-learn's best of as many starts"
    assert ("pmf Baton Rouge", peer) in names
    assert ("pmf Baton Rouge, 5% missing", peer) not in names
    assert "5% missing" in ran.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--option", "rank=3"), "is not KEY=VALUE of"),
        (("--option", "tol"), "is not KEY=VALUE of"),
        (("--picture", "reads.png"), "must end in .svg"),
        (("--against", "tol=1e-3", "--option", "tol=0.001"), "the same options"),
        (("--loss", "kullback-leibler"), "--hard is of frobenius"),
        (("--reference",), "--hard is of frobenius"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple[str, ...], text: str) -> None:
    from benchmarks.cli import cli

    done = CliRunner().invoke(cli, ["reads", "--hard", "--size", "tiny", *arguments])
    assert done.exit_code == 2
    assert text in done.output


def test_options_of_hard_sets_need_them() -> None:
    from benchmarks.cli import cli

    done = CliRunner().invoke(cli, ["reads", "--size", "tiny", "--only", "piano"])
    assert done.exit_code == 2
    assert "--only needs --hard" in done.output


def test_a_name_that_no_set_has_is_refused(bench: Callable[..., Any]) -> None:
    from dnmf.errors import OptionError

    with pytest.raises(OptionError, match=r"no set is named like violin.*piano"):
        bench("reads", "--hard", "--only", "violin")


def test_a_peer_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """A few iterations at a time are the same iterations."""
    from benchmarks.courses import peer_course
    from benchmarks.references import sklearn_run
    from benchmarks.stores import write_csr, write_dense

    rng = np.random.default_rng(0)
    V = rng.random((60, 12), np.float32)
    dense = peer_course(write_dense(tmp_path / "V.zarr", V, (20, 12)), 3, 1, 13)
    sparse = peer_course(write_csr(tmp_path / "S.zarr", sp.csr_array(V)), 3, 1, 13)
    assert dense.reads == [2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 26]
    error = sklearn_run(V, 3, 1, "frobenius", tol=0, max_iter=13)
    expected = 0.5 * error**2 * np.sum(V.astype(float) ** 2)
    assert dense.end == pytest.approx(expected, rel=1e-6)
    assert sparse.end == pytest.approx(expected, rel=1e-6)
    assert dense.values == sorted(dense.values, reverse=True)


def test_an_end_is_true_or_untold() -> None:
    from benchmarks.courses import Course
    from benchmarks.reads_hard_figures import Measured

    def measured(objective: float, sentence: str) -> Measured:
        course = Course([2.0, 3.0, 4.0], [20.0, 10.005, 10.0])
        return Measured(0, course, True, 3.0, objective, sentence, None)

    fit = measured(10.002, "converged after 3 passes")
    assert (fit.near, fit.nearer) == (3, 4)
    assert fit.above == pytest.approx(2)
    assert fit.true
    assert not measured(10.005, "converged after 3 passes").true
    assert measured(10.005, "stopped after max_passes = 3 passes").true


def test_of_several_draws_the_worst_is_told() -> None:
    from benchmarks.courses import Course
    from benchmarks.problems_hard import HardSet
    from benchmarks.reads_hard_figures import Measured, SetResult, beside_peers

    ends = ((0, 10.0), (0, 9.99), (1, 20.02))
    fits = [Measured(d, Course([2.0], [f]), True, 2.0, f, "converged", None) for d, f in ends]
    peers = [(draw, Course([2.0], [end])) for draw, end in ((0, 10.0), (1, 20.0), (1, 21.0))]
    result = SetResult(HardSet("made up", 3, lambda draw: None, draws=2), {"default": fits}, peers)
    best, middle = beside_peers(result, fits)
    assert best == pytest.approx(10, rel=1e-6), "the second draw is .1% above"
    assert middle == pytest.approx(0, abs=1e-6)
    assert result.best(0) == 9.99
    assert math.isclose(result.best(1), 20.0)
