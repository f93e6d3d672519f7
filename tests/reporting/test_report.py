"""The page: whole, self-contained, every figure with axes, units and a reading."""

from __future__ import annotations

import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from matplotlib.backends.backend_agg import FigureCanvasAgg

import dnmf
from dnmf.cli.main import cli
from dnmf.errors import MissingDependencyError, OptionError, OutputExistsError
from dnmf.reporting import figures
from dnmf.reporting import fit as fit_page
from dnmf.steps.serial import Serial

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Checks that tags nest, and collects what the page consists of."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.inside: dict[str, list[str]] = {"figcaption": [], "h3": [], "svg": []}
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "action", "data"):
                self.references.append(value or "")
        if tag in self.inside:
            self.inside[tag].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        for tag in self.inside:
            if tag in self.open:
                self.inside[tag][-1] += data


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """V with 2 x 6 pixels, a fit of it and a study of it."""
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    V = rng.poisson(6 * rng.gamma(0.4, size=(150, 3)) @ rng.gamma(0.4, size=(3, 12))).astype("f4")
    zarr.create_array(str(folder / "V.zarr"), data=V, chunks=(50, 12))
    path = str(folder / "V.zarr")
    dnmf.fit(path, 3, out=folder / "fit", executor=Serial(), seed=0)
    dnmf.fit_many(path, [2, 3, 4], 2, out=folder / "study", executor=Serial(), folds=2)
    (folder / "names.txt").write_text("\n".join(f"<w&{c}>" for c in range(12)))
    command = ["report", str(folder / "fit"), "-o", str(folder / "fit.html"), "--shape", "2x6"]
    run = CliRunner().invoke(cli, [*command, "--names", str(folder / "names.txt")])
    assert run.exit_code == 0, run.output
    run = CliRunner().invoke(
        cli, ["report", str(folder / "study"), "-o", str(folder / "study.html")]
    )
    assert run.exit_code == 0, run.output
    return folder


FIT = [
    *("Objective by pass", "Optimality by pass", "Share of every component"),
    *("H, component by column", "Components as images", "Top features", "Distribution of W"),
    "Reconstruction error by rows",
]
STUDY = ["Held-out error over k", "Stability over k", "Objective over k", "Consensus at k ="]


@pytest.mark.parametrize(("name", "titles"), [("fit", FIT), ("study", STUDY)])
def test_every_figure_is_there_and_is_read(made: Path, name: str, titles: list[str]) -> None:
    page = Page(made / f"{name}.html")
    shown = [title for title in page.inside["h3"] if title != "In numbers"]
    for title in titles:
        assert any(one.startswith(title) for one in shown), title
    captions = page.inside["figcaption"]
    assert len(shown) == len(captions) == len(page.inside["svg"]) == page.tags.count("figure")
    for caption, drawing in zip(captions, page.inside["svg"], strict=True):
        assert caption.strip().endswith(".")  # a sentence
        assert len(caption.split()) > 10
        assert drawing.count("(") >= 1  # axes with units
    assert page.ids
    assert len(set(page.ids)) == len(page.ids)


@pytest.mark.parametrize("name", ["fit", "study"])
def test_the_page_needs_nothing_else(made: Path, name: str) -> None:
    page = Page(made / f"{name}.html")
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    outside = [r for r in page.references if not r.startswith(("#", "data:"))]
    assert outside == []
    assert "@import" not in (made / f"{name}.html").read_text()
    inner = {f"#{one}" for one in page.ids}
    assert {r for r in page.references if r.startswith("#")} <= inner


def test_facts_and_the_recommendation_are_said(made: Path) -> None:
    fit, study = Page(made / "fit.html"), Page(made / "study.html")
    text = " ".join(fit.text)
    for fact in ("Reads of V", "Bytes read", "Seconds in passes", "Memory", "Versions", "numba"):
        assert fact in text
    assert "<w&3>" in text  # escaped in the source, whole on the page
    assert str(dnmf.open(made / "study").recommend()) in " ".join(study.text)


def test_errors_of_rows_are_right(made: Path) -> None:
    from dnmf.reporting.rows import row_errors

    fit = dnmf.open(made / "fit")
    found = row_errors(fit)
    V = zarr.open_array(str(made / "V.zarr"), mode="r")[:]
    np.testing.assert_array_equal(found.numbers, np.arange(150))
    product = np.asarray(fit.W[:], float) @ np.asarray(fit.H[:], float)
    V = V.astype(float)
    sizes = np.linalg.norm(V, axis=1)
    sizes[sizes == 0] = np.nan  # a row of zeros has no relative error
    expected = np.linalg.norm(V - product, axis=1) / sizes
    np.testing.assert_allclose(found.errors, expected, rtol=1e-9)
    held = dnmf.fit(V, 2, seed=0, max_passes=3)
    assert "only in memory" in row_errors(held).reason


def test_what_cannot_be_drawn_is_refused(made: Path, monkeypatch: Any) -> None:
    with pytest.raises(OutputExistsError, match="exists"):
        dnmf.report(made / "fit", made / "fit.html")
    with pytest.raises(OutputExistsError, match="is a folder"):
        dnmf.report(made / "fit", made)
    with pytest.raises(OptionError, match="4 x 4 has 16 pixels, but V has 12"):
        dnmf.report(made / "fit", made / "x.html", shape=(4, 4))
    with pytest.raises(OptionError, match="3 names, but V has 12"):
        dnmf.report(made / "fit", made / "x.html", names=["a", "b", "c"])
    with pytest.raises(OptionError, match="shape is '2x6'; give rows and columns"):
        dnmf.report(made / "fit", made / "x.html", shape="2x6")
    with pytest.raises(OptionError, match="run is 5; give a result, a study, or the path"):
        dnmf.report(5, made / "x.html")
    with pytest.raises(OptionError, match="no models of k = 9"):
        dnmf.report(made / "study", made / "x.html", k=9)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"dnmf\[plot\]"):
        dnmf.report(made / "fit", made / "x.html")
    assert not (made / "x.html").exists()


WORDS = ["G", "temperature", "precipitation", "internationalization of representations"]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("k", [1, 5, 8])
def test_every_text_lies_within_its_figure(monkeypatch: Any, k: int, word: str) -> None:
    """Drawn as pixels, since only then the sizes of texts are known."""
    outside, narrow, drawn = [], [], []

    def look(figure: Any, title: str) -> str:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        width, height = figure.get_size_inches()
        ends = figure.get_tightbbox(canvas.get_renderer())  # of all that shows, in inches
        if ends.x0 < -0.01 or ends.x1 > width + 0.01:
            outside.append((title, "x", ends.x0, ends.x1, width))
        if ends.y0 < -0.01 or ends.y1 > height + 0.01:
            outside.append((title, "y", ends.y0, ends.y1, height))
        for ax in figure.axes:
            wide = ax.get_window_extent().width / figure.dpi
            if ax.axison and title == "Top features" and wide < 1:
                narrow.append((title, wide))
            drawn.append(ax)
        return "<svg/>"

    monkeypatch.setattr(figures, "as_svg", look)
    rng = np.random.default_rng(0)
    fit = SimpleNamespace(H=rng.gamma(0.5, size=(k, 64)), k=k)
    fit_page._heat(fit, None)
    fit_page._features(fit, [f"{word}{c}" for c in range(64)])
    assert drawn
    assert outside == narrow == []


def test_the_last_pass_never_lowers_the_objective_by_less_than_nothing() -> None:
    rows = [{"pass": n, "accepted": True, "objective": x} for n, x in ((1, 1.0), (2, 1 + 1e-9))]
    config = {"max_passes": 5}
    fit = SimpleNamespace(history=rows, passes=2, config=config, stop_reason="converged")
    assert "lowered the objective by 0 of itself" in fit_page._objective(fit).reading


def test_names_with_dollars_are_no_formulas(tmp_path: Path) -> None:
    fit = dnmf.fit(np.random.default_rng(0).gamma(1, size=(30, 8)), 2, seed=0)
    names = ["$\\foo$", "a $5 and $6", "$", "$$", "plain", "x_y", "^", "{"]
    dnmf.report(fit, tmp_path / "page.html", names=names)
    assert (tmp_path / "page.html").stat().st_size > 1000


def test_a_k_that_is_not_the_fits_is_refused(tmp_path: Path) -> None:
    fit = dnmf.fit(np.random.default_rng(0).gamma(1, size=(30, 8)), 2, seed=0)
    with pytest.raises(OptionError, match="k is 7, but this is one fit of k = 2"):
        dnmf.report(fit, tmp_path / "page.html", k=7)
    dnmf.report(fit, tmp_path / "page.html", k=2)


@pytest.mark.parametrize("passes", [1, 2])
def test_a_fit_that_was_cut_short_is_not_called_done(tmp_path: Path, passes: int) -> None:
    V = np.random.default_rng(0).gamma(1, size=(60, 8))
    fit = dnmf.fit(V, 3, seed=0, sample=0, max_passes=passes, tol=0)
    dnmf.report(fit, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "a larger max_passes" in text
    assert "One pass was enough" not in text


def test_a_result_in_memory_has_a_page_too(tmp_path: Path) -> None:
    fit = dnmf.fit(np.random.default_rng(0).gamma(1, size=(40, 6)), 2, seed=0, loss="itakura-saito")
    page = Page(Path(dnmf.report(fit, tmp_path / "memory.html")))
    assert "only in memory" in " ".join(page.text)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["fit", "study"])
def test_a_browser_shows_it(made: Path, name: str, tmp_path: Path) -> None:
    """Laid out by a browser, every figure has a size and nothing is fetched."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    browser = next((found for found in map(shutil.which, names) if found), None)
    if browser is None:
        pytest.skip(f"no browser ({', '.join(names)}) on this machine")
    picture = tmp_path / "page.png"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1100,5000"]
    url = (made / f"{name}.html").as_uri()
    subprocess.run(
        [*command, f"--screenshot={picture}", url], check=True, capture_output=True, timeout=60
    )
    from matplotlib.image import imread

    pixels = imread(picture)[:, :, :3]
    drawn = (pixels < 0.9).any(axis=2)
    assert drawn[:400].any()
    assert np.count_nonzero(drawn.any(axis=1)) > 1200  # a long page, not an error's few lines
    colours = {(0x1F, 0x77, 0xB4), (0xD9, 0x72, 0x0B)}
    whole = np.round(pixels * 255).astype(int)
    for colour in colours:  # the figures' own blue and orange
        assert (np.abs(whole - colour).max(axis=2) < 12).sum() > 50


def test_the_style_is_not_left_behind(made: Path) -> None:
    from matplotlib import rcParams

    before = dict(rcParams)
    dnmf.report(made / "fit", made / "again.html", overwrite=True)
    assert dict(rcParams) == before
    assert (made / "again.html").read_text().count("<svg") == 6


def test_rounds_between_reads_are_drawn_where_there_are_some(tmp_path: Path) -> None:
    x, rng = np.arange(100), np.random.default_rng(0)
    H = np.exp(-0.5 * ((x - np.linspace(5, 95, 8)[:, None]) / 12) ** 2) + 0.3
    V = rng.gamma(1.0, size=(300, 8)) @ H * (1 + 0.02 * rng.normal(size=(300, 100)))
    pages = {}
    for rounds in (0, 10):
        fit = dnmf.fit(np.maximum(V, 0), 8, seed=0, max_passes=8, tol=0, rounds=rounds)
        dnmf.report(fit, tmp_path / f"{rounds}.html")
        pages[rounds] = (tmp_path / f"{rounds}.html").read_text()
    assert "Rounds between reads" not in pages[0]
    assert "Rounds between reads" in pages[10]
    assert "told how much the next pass would gain" in pages[10].replace("\n", " ")
