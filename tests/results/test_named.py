"""Names of columns in what a result gives and draws."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dnmf
from dnmf.errors import MissingDependencyError

GENES = [f"gene{i}" for i in range(12)]
V = np.random.default_rng(0).poisson(2.0, (60, 12)).astype(float)


@pytest.fixture(params=["in memory", "stored"])
def fit(request: pytest.FixtureRequest, tmp_path: Path) -> dnmf.Result:
    out = {"out": tmp_path / "fit"} if request.param == "stored" else {}
    return dnmf.fit(pd.DataFrame(V, columns=GENES), 3, seed=0, max_passes=5, **out)


def test_components_are_h_by_name(fit: dnmf.Result) -> None:
    found = fit.components()
    assert found.dims == ("component", "column")
    np.testing.assert_array_equal(found.values, fit.H)
    assert found.coords["column"].values.tolist() == GENES
    np.testing.assert_array_equal(found.sel(column="gene7").values, np.asarray(fit.H)[:, 7])
    frame = found.to_pandas()
    assert frame.shape == (3, 12)
    assert list(frame.columns) == GENES


def test_without_names_columns_have_numbers() -> None:
    found = dnmf.fit(V, 2, seed=0, max_passes=2).components()
    assert found.coords["column"].values.tolist() == list(range(12))


def test_figures_show_them(fit: dnmf.Result) -> None:
    from matplotlib.figure import Figure

    shown = [
        text.get_text() for text in fit.plot_features(0, Figure().add_subplot()).get_yticklabels()
    ]
    assert set(shown) <= set(GENES)
    ticks = fit.plot_H(Figure().add_subplot()).get_xticklabels()
    assert [text.get_text() for text in ticks] == GENES
    own = [f"n{i}" for i in range(12)]
    ticks = fit.plot_H(Figure().add_subplot(), own).get_xticklabels()
    assert [text.get_text() for text in ticks] == own


def test_reports_show_them(fit: dnmf.Result, tmp_path: Path) -> None:
    dnmf.report(fit, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "Top features" in page


def test_without_xarray(fit: dnmf.Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'dnmf\[xarray\]'"):
        fit.components()
