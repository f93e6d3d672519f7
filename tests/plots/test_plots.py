"""Figures: on the Axes that are given, with labels and units, of the numbers of the result."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import dnmf
from dnmf.cli.report import history_table
from dnmf.errors import MissingDependencyError, OptionError
from dnmf.plots.canvas import bare_figure, thin_ticks
from dnmf.plots.fit import decreases, plot_kkt, plot_rounds, plot_rows, plot_W, shares

V = np.random.default_rng(0).gamma(0.5, size=(60, 12))


@pytest.fixture(scope="module")
def fit() -> Any:
    return dnmf.fit(V, 3, seed=0)


@pytest.fixture(scope="module")
def study() -> Any:
    return dnmf.fit_many(V, [2, 3, 4], 3, folds=2, max_passes=20)


def axes() -> Any:
    return bare_figure(4, 3).subplots()


@pytest.mark.parametrize("name", ["objective", "kkt", "H", "W", "share"])
def test_figures_of_a_fit_have_labels_and_units(fit: Any, name: str) -> None:
    ax = axes()
    assert getattr(fit, f"plot_{name}")(ax) is ax
    assert ax.get_xlabel().endswith(")")  # (number), (name), ...
    assert "(" in ax.get_ylabel()
    ax.figure.canvas.draw()


@pytest.mark.parametrize("name", ["held_out", "stability", "objectives"])
def test_figures_of_a_study(study: Any, name: str) -> None:
    ax = axes()
    assert getattr(study, f"plot_{name}")(ax) is ax
    assert ax.get_xlabel() == "k (number of components)"
    assert "(" in ax.get_ylabel()
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["2", "3", "4"]
    ax.figure.canvas.draw()


def test_the_consensus_is_that_of_the_runs(study: Any) -> None:
    ax = study.plot_consensus(3, axes())
    shown = ax.images[0].get_array()
    assert shown.shape == (12, 12)
    np.testing.assert_allclose(
        np.sort(shown, axis=None), np.sort(study.stability(3).consensus, axis=None)
    )


def test_the_numbers_are_those_of_the_result(fit: Any) -> None:
    line = fit.plot_objective(axes()).lines[0]
    accepted = [row["objective"] for row in fit.history if row["accepted"]]
    np.testing.assert_array_equal(line.get_ydata(), accepted)
    product = fit.W @ fit.H
    assert shares(fit).sum() == pytest.approx(1)
    np.testing.assert_allclose(
        shares(fit)[0], np.outer(fit.W[:, 0], fit.H[0]).sum() / product.sum()
    )
    bars = fit.plot_features(1, axes(), [f"word {c}" for c in range(12)], top=4)
    assert bars.get_yticklabels()[-1].get_text() == f"word {np.argmax(fit.H[1])}"
    wide = dnmf.fit(np.random.default_rng(1).gamma(1, size=(9, 1000)), 2, seed=0)
    assert wide.plot_H(axes()).images[0].get_array().shape == (2, 334)


def test_images_need_the_shape_of_a_row(fit: Any) -> None:
    assert fit.plot_images((3, 4), bare_figure(4, 3)).size >= 3
    with pytest.raises(OptionError, match="5 x 5 has 25 pixels, but V has 12"):
        fit.plot_images((5, 5), bare_figure(4, 3))


def test_rows_of_zeros_and_the_worst_row() -> None:
    ax = plot_rows(np.arange(4), np.array([0.1, np.nan, 0.9, 0.2]), "error (share)", axes())
    assert 2 in ax.lines[2].get_xdata()
    plot_rows(np.arange(1), np.array([np.nan]), "error (share)", axes())


def test_without_matplotlib_the_command_is_said(fit: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'dnmf\[plot\]'"):
        fit.plot_objective()


def test_what_was_not_measured_is_not_drawn() -> None:
    study = dnmf.fit_many(V, [2, 3], 1, holdout=None, max_passes=5)
    with pytest.raises(OptionError, match="left nothing out"):
        study.plot_held_out(axes())


def test_ticks_are_whole_components_and_passes() -> None:
    one = dnmf.fit(V, 1, seed=0, max_passes=1)
    for name, axis in (("share", "x"), ("H", "y"), ("objective", "x"), ("kkt", "x")):
        ax = getattr(one, f"plot_{name}")(axes())
        ax.figure.canvas.draw()
        ticks = ax.get_xticks() if axis == "x" else ax.get_yticks()
        assert len(ticks) > 0
        assert all(tick == round(tick) for tick in ticks), (name, ticks)


def test_weights_within_a_decade_are_drawn_on_a_linear_axis() -> None:
    rng = np.random.default_rng(0)
    near = SimpleNamespace(W=rng.uniform(1, 3, size=(50, 2)))
    assert plot_W(near, axes()).get_yscale() == "linear"
    assert plot_W(SimpleNamespace(W=np.zeros((5, 2))), axes()).get_yscale() == "linear"
    far = plot_W(SimpleNamespace(W=rng.uniform(0, 3, size=(50, 2)) ** 4), axes())
    assert far.get_yscale() == "symlog"
    assert "log" in far.get_ylabel()


def test_an_exact_fit_says_that_its_gap_is_zero() -> None:
    rows = [{"pass": 1, "accepted": True, "kkt_W": 0.0, "kkt_H": 0.0}]
    ax = plot_kkt(SimpleNamespace(history=rows), axes())
    assert "0 after every pass" in ax.texts[0].get_text()
    ax.figure.canvas.draw()
    assert "no pass" in plot_kkt(SimpleNamespace(history=[]), axes()).texts[0].get_text()


def test_many_k_have_ticks_that_can_be_read() -> None:
    ax = axes()
    thin_ticks(ax, list(range(2, 102)))
    assert [tick.get_text() for tick in ax.get_xticklabels()][:3] == ["2", "7", "12"]
    assert len(ax.get_xticks()) == 20


def test_what_does_not_fit_the_result_is_said(fit: Any) -> None:
    with pytest.raises(OptionError, match="2 names, but V has 12 columns"):
        fit.plot_H(axes(), ["a", "b"])
    with pytest.raises(OptionError, match="2 names, but V has 12 columns"):
        fit.plot_features(0, axes(), ["a", "b"])
    with pytest.raises(OptionError, match="give a list"):
        fit.plot_features(0, axes(), "abcdefghijkl")
    for component in (3, -1, "x", 0.5):
        with pytest.raises(OptionError, match="there are components 0 to 2"):
            fit.plot_features(component, axes())
    for shape in ("3x4", 12, (3, 4, 1), (3.0, 4.0)):
        with pytest.raises(OptionError, match="give rows and columns of pixels"):
            fit.plot_images(shape, bare_figure(4, 3))


def rounds_history() -> list[dict]:
    """Two passes at what rounds had made, of which the second one raised the objective."""
    rows = [(1, 10.0, 0, 0.0, True), (2, 7.0, 12, 2.5, True), (3, 8.0, 9, 1.0, False)]
    names = ("pass", "objective", "rounds", "predicted", "accepted")
    return [dict(zip(names, row, strict=True)) for row in [*rows, (4, 6.5, 0, 0.0, True)]]


def test_rounds_show_what_was_predicted_and_what_came():
    assert decreases(rounds_history()) == [
        {"pass": 2, "accepted": True, "rounds": 12, "predicted": 2.5, "brought": 3.0},
        {"pass": 3, "accepted": False, "rounds": 9, "predicted": 1.0, "brought": 0.0},
    ]
    ax = plot_rounds(SimpleNamespace(history=rounds_history(), config={}), axes())
    drawn = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert drawn == {"predicted": [[2, 2.5], [3, 1]], "brought": [[2, 3]], "rejected": [[3, 1]]}
    assert ax.get_ylabel() == "decrease of the objective (units of V squared)"
    none = plot_rounds(SimpleNamespace(history=[], config={}), axes())
    assert none.texts[0].get_text() == "no rounds"


def test_the_table_of_passes_says_it_too():
    lines = history_table([{**row, "relative_error": 0.1, "bytes_read": 5, "seconds": 1.0}
                           for row in rounds_history()]).splitlines()  # fmt: skip
    assert "after 12 rounds, 2.5 predicted, 3 brought" in lines[2]
    assert "after 9 rounds, 1 predicted, rejected" in lines[3]
    assert "rounds" not in lines[4]
