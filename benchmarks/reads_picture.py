"""The picture of ``reads --hard``: how far above the best, after how many reads of V."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.courses import Course
from dnmf.plots.canvas import BLUE, GREY, ORANGE, matplotlib
from dnmf.reporting.figures import draw

if TYPE_CHECKING:
    from benchmarks.reads_hard_figures import Measured, SetResult

__all__ = ["draw_courses"]

FLOOR = 1e-6
"""Nothing below this share of the best is drawn."""

ACROSS = 3
POINTS = 40
"""Of a line, at most."""

COLORS = (BLUE, ORANGE)
PEER = "scikit-learn, coordinate descent"
STOPS = "default rule stops"


def draw_courses(path: Path, results: list[SetResult]) -> None:
    """Write an SVG with a panel for each set, a line for each seed, a color for each way."""
    down = -(-len(results) // ACROSS)
    across = min(ACROSS, len(results))
    reading = "How far a fit is above the best objective known, after so many reads of V."

    def panels(figure: Any) -> None:
        grid = figure.subplots(down, across, squeeze=False, sharey=True)
        for ax in list(grid.flat)[len(results) :]:
            ax.set_axis_off()
        for ax, result in zip(grid.flat, results, strict=False):
            _panel(ax, result)
        for ax in grid[:, 0]:
            ax.set_ylabel("above the best objective (percent)")
        for column in range(across):
            last = max(row for row in range(down) if row * ACROSS + column < len(results))
            grid[last, column].set_xlabel("reads of V (number)")
        handles, labels = _legend(list(grid.flat))
        figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)

    size = (3.1 * across + 0.4, 2.5 * down + 0.5)
    panel = draw("Objective after reads of V", reading, panels, size, whole=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(panel.svg)


def _legend(axes: list[Any]) -> tuple[list[Any], list[str]]:
    """Every label of any panel, once."""
    found: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return list(found.values()), list(found)


def _panel(ax: Any, result: SetResult) -> None:
    for index, (draw_number, course) in enumerate(result.peers):
        label = PEER if index == 0 else None
        _line(ax, course, result.best(draw_number), color=GREY, lw=0.8, ls="--", label=label)
    for color, (way, fits) in zip(COLORS, result.fits.items(), strict=False):
        for index, fit in enumerate(fits):
            label = f"dnmf, {way}" if index == 0 else None
            _line(ax, fit.tight, result.best(fit.draw), color=color, lw=1, label=label)
            _stop(ax, fit, result.best(fit.draw), color, STOPS if index == 0 else None)
    ax.set_xscale("log")
    ax.set_yscale("log")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(matplotlib("ticker").FuncFormatter(_plain))
    ax.set_ylim(bottom=100 * FLOOR)
    ax.set_title(f"{result.hard.name}, k = {result.hard.k}", fontsize=9)


def _plain(value: float, _: Any) -> str:
    """0.01 instead of a power of ten."""
    return f"{value:.3g}" if value >= 1e-3 else f"{value:.4f}"


def _line(ax: Any, course: Course, best: float, **how: Any) -> None:
    reads = np.asarray(course.reads)
    # so many points that the eye sees all, and the file stays small
    shown = np.unique(np.searchsorted(reads, np.geomspace(reads[0], reads[-1], POINTS)))
    shown = shown[shown < reads.size]
    percent = 100 * np.maximum(np.asarray(course.values)[shown] / best - 1, FLOOR)
    ax.plot(reads[shown], percent, **how)


def _stop(ax: Any, fit: Measured, best: float, color: str, label: str | None) -> None:
    """A point where the default rule stopped."""
    above = 100 * max(fit.objective / best - 1, FLOOR)
    ax.plot([fit.stopped], [above], "o", color=color, ms=4, mec="white", mew=0.5, label=label)
