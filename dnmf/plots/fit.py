"""Figures of one fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dnmf.config import FitConfig
from dnmf.losses import loss_class
from dnmf.plots.canvas import BLUE, GREY, ORANGE, SEQUENTIAL, axes_or_new, literal, thin_ticks
from dnmf.plots.checks import check_names, check_shape, checked_component

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = [
    "decreases",
    "draw_images",
    "plot_H",
    "plot_W",
    "plot_features",
    "plot_kkt",
    "plot_objective",
    "plot_rounds",
    "plot_rows",
    "plot_share",
    "shares",
]

WIDE = 400
"""Most columns of a heat map: more are taken together by their largest entry."""

ROWS = 50_000
"""Most rows of W that are looked at."""


def plot_objective(fit: Any, ax: Axes | None = None) -> Axes:
    """Draw the objective after every pass over V; rejected passes are crosses."""
    ax = axes_or_new(ax)
    rows = fit.history
    accepted = [row for row in rows if row["accepted"]]
    rejected = [row for row in rows if not row["accepted"]]
    ax.plot(*_course(accepted, "objective"), "o-", color=BLUE, ms=4, label="accepted")
    if rejected:
        ax.plot(*_course(rejected, "objective"), "x", color=ORANGE, label="tried and rejected")
        ax.legend(frameon=False)
    ax.set_xlabel("pass over V (number)")
    ax.set_ylabel(f"objective ({_unit(fit)})")
    _whole_numbers(ax)
    return ax


def plot_kkt(fit: Any, ax: Axes | None = None) -> Axes:
    """Draw how far W and H are from optimal after every pass: 0 at a stationary point."""
    ax = axes_or_new(ax)
    accepted = [row for row in fit.history if row["accepted"]]
    for name, color in (("kkt_W", BLUE), ("kkt_H", ORANGE)):
        rows = [row for row in accepted if row.get(name, 0) > 0]
        if rows:
            ax.plot(*_course(rows, name), "o-", color=color, ms=4, label=name[-1])
    if ax.lines:
        ax.set_yscale("log")
    else:
        why = "0 after every pass: neither W nor H can be improved" if accepted else "no pass yet"
        ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center", color=GREY)
        ax.set_xlim(0.5, max(len(fit.history), 1) + 0.5)
        ax.set_yticks([])
    ax.set_xlabel("pass over V (number)")
    ax.set_ylabel("optimality gap, KKT (share of |V|)")
    if ax.lines:
        ax.legend(frameon=False)
    _whole_numbers(ax)
    return ax


def plot_rounds(fit: Any, ax: Axes | None = None) -> Axes:
    """Draw what rounds between two reads predicted of the next pass, and what it brought.

    Passes that raised the objective brought nothing, and are crosses at what was predicted.
    """
    ax = axes_or_new(ax)
    found = [row for row in decreases(fit.history) if row["predicted"] > 0]
    kept = [row for row in found if row["accepted"] and row["brought"] > 0]
    refused = [row for row in found if not row["accepted"]]
    ax.plot(*_course(found, "predicted"), "o", mfc="none", color=GREY, label="predicted")
    ax.plot(*_course(kept, "brought"), "o", color=BLUE, ms=4, label="brought")
    if refused:
        ax.plot(*_course(refused, "predicted"), "x", color=ORANGE, label="rejected")
    if found:
        ax.set_yscale("log")
        ax.legend(frameon=False)
    else:
        ax.text(0.5, 0.5, "no rounds", transform=ax.transAxes, ha="center", color=GREY)
    ax.set_xlabel("pass over V (number)")
    ax.set_ylabel(f"decrease of the objective ({_unit(fit)})")
    _whole_numbers(ax)
    return ax


def decreases(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the passes at what rounds had made: pass, accepted, rounds, predicted, brought.

    Parameters
    ----------
    history : sequence of dict
        Of one model.

    Returns
    -------
    list of dict
        ``predicted`` and ``brought`` are decreases of the objective; what is rejected brings none.
    """
    found, best = [], None
    for row in history:
        if row.get("rounds") and best is not None:
            brought = best - row["objective"] if row["accepted"] else 0.0
            some = {name: row[name] for name in ("pass", "accepted", "rounds", "predicted")}
            found.append({**some, "brought": brought})
        best = row["objective"] if row["accepted"] else best
    return found


def plot_H(fit: Any, ax: Axes | None = None, names: Sequence[str] | None = None) -> Axes:
    """Draw H as a heat map, every component scaled to its largest entry."""
    H = np.asarray(fit.H, np.float64)
    k, d = H.shape
    check_names(names, d)
    ax = axes_or_new(ax)
    together = -(-d // WIDE)
    if together > 1:  # the largest of neighbours: thin features stay visible
        padded = np.pad(H, ((0, 0), (0, -d % together)))
        H = padded.reshape(k, -1, together).max(axis=2)
    peak = H.max(axis=1, keepdims=True)
    image = ax.imshow(
        H / np.where(peak > 0, peak, 1.0),
        aspect="auto",
        interpolation="nearest",
        cmap=SEQUENTIAL,
        extent=(-0.5, d - 0.5, k - 0.5, -0.5),
        vmin=0,
        vmax=1,
    )
    ax.figure.colorbar(image, ax=ax, label="H (share of its largest)")
    ax.set_ylabel("component (number)")
    ax.set_xlabel("column of V (number)")
    if names is not None and d <= 60:
        ax.set_xticks(range(d), [literal(name) for name in names], rotation=90, fontsize=6)
        ax.set_xlabel("column of V (name)")
    _whole_numbers(ax, "y")
    return ax


def plot_features(
    fit: Any,
    component: int,
    ax: Axes | None = None,
    names: Sequence[str] | None = None,
    top: int = 10,
) -> Axes:
    """Draw the largest entries of one row of H, with their names."""
    k, d = fit.H.shape
    component = checked_component(component, k)
    check_names(names, d)
    ax = axes_or_new(ax)
    h = np.asarray(fit.H[component], np.float64)
    order = np.argsort(-h, kind="stable")[: min(top, h.size)][::-1]
    labels = [str(c) if names is None else literal(names[c]) for c in order]
    total = h.sum()
    ax.barh(range(order.size), 100 * h[order] / (total if total > 0 else 1.0), color=BLUE)
    ax.set_yticks(range(order.size), labels, fontsize=7)
    ax.locator_params(axis="x", nbins=3)
    ax.set_xlabel("part of the component's sum (percent)", fontsize=8)
    ax.set_ylabel("column of V (name)" if names is not None else "column of V (number)", fontsize=8)
    ax.set_title(f"component {component}", fontsize=9)
    return ax


def draw_images(
    fit: Any, shape: tuple[int, int], figure: Figure | SubFigure, across: int = 7
) -> np.ndarray:
    """Draw rows of H as images of ``shape`` (rows x columns of pixels); returns their Axes."""
    H = np.asarray(fit.H, np.float64)
    check_shape(shape, H.shape[1])
    down = -(-H.shape[0] // across)
    grid = figure.subplots(down, min(across, H.shape[0]), squeeze=False)
    for number, ax in enumerate(grid.flat):
        if number >= H.shape[0]:
            ax.set_axis_off()
            continue
        ax.imshow(H[number].reshape(shape), cmap="gray_r", interpolation="nearest", vmin=0)
        ax.set_title(str(number), fontsize=7, pad=2)
        ax.set_xticks([0, shape[1] - 1], ["0", str(shape[1] - 1)], fontsize=5)
        ax.set_yticks([0, shape[0] - 1], ["0", str(shape[0] - 1)], fontsize=5)
    figure.supxlabel("column of pixels (number)", fontsize=8)
    figure.supylabel("row of pixels (number)", fontsize=8)
    return np.asarray(grid)


def plot_W(fit: Any, ax: Axes | None = None) -> Axes:
    """Draw how each component's weights are spread over the rows of V: quartiles, extremes."""
    ax = axes_or_new(ax)
    W = _some_rows(fit.W)
    peak = W.max(initial=0.0)
    ax.boxplot(
        [W[:, j] for j in range(W.shape[1])],
        positions=range(W.shape[1]),
        whis=(5, 95),
        sym="",
        medianprops={"color": ORANGE},
    )
    low, high = np.percentile(W, [5, 95], axis=0)
    if high.max(initial=0.0) > 10 * low.min(initial=np.inf):
        ax.set_yscale("symlog", linthresh=peak * 1e-3)
        ax.set_ylabel("weight W (units of V; linear near 0, then log)")
    else:  # a logarithmic axis of less than a decade has no ticks to read it by
        ax.set_ylabel("weight W (units of V)")
    ax.set_xlabel("component (number)")
    thin_ticks(ax, range(W.shape[1]))
    return ax


def plot_share(fit: Any, ax: Axes | None = None) -> Axes:
    """Draw how much of W H each component makes up, in percent of its sum."""
    ax = axes_or_new(ax)
    share = 100 * shares(fit)
    ax.bar(range(share.size), share, color=BLUE)
    ax.set_xlabel("component (number)")
    ax.set_ylabel("part of the sum of W H (percent)")
    _whole_numbers(ax)
    return ax


def shares(fit: Any) -> np.ndarray:
    """Compute every component's part of the sum of W H, (k,), from up to `ROWS` rows of W."""
    mass = _some_rows(fit.W).sum(axis=0, dtype=np.float64)
    mass *= np.asarray(fit.H, np.float64).sum(axis=1)
    total = mass.sum()
    return np.asarray(mass / total if total > 0 else mass)


def plot_rows(numbers: np.ndarray, errors: np.ndarray, label: str, ax: Axes | None = None) -> Axes:
    """Draw the reconstruction error of rows of V by their number; the worst are named."""
    ax = axes_or_new(ax)
    ax.plot(numbers, errors, ".", ms=2, color=BLUE, alpha=0.5, rasterized=True)
    finite = np.flatnonzero(np.isfinite(errors))
    if finite.size:
        middle = float(np.median(errors[finite]))
        ax.axhline(middle, color=GREY, lw=1, ls="--", label=f"median {middle:.3g}")
        worst = finite[np.argsort(-errors[finite], kind="stable")[:5]]
        ax.plot(numbers[worst], errors[worst], "o", ms=5, mfc="none", color=ORANGE, label="worst 5")
        ax.legend(frameon=False, fontsize=8)
    ax.set_xlabel("row of V (number)")
    ax.set_ylabel(label)
    ax.set_ylim(bottom=0)
    return ax


def _course(rows: list[dict[str, Any]], name: str) -> tuple[list[float], list[float]]:
    return [row["pass"] for row in rows], [row[name] for row in rows]


def _unit(fit: Any) -> str:
    """Return the unit of the objective."""
    return loss_class(fit.config.get("loss", FitConfig.loss)).unit


def _whole_numbers(ax: Axes, axis: str = "x") -> None:
    from matplotlib.ticker import MaxNLocator

    locator = MaxNLocator(integer=True, min_n_ticks=1)  # else a single pass has parts of one
    (ax.xaxis if axis == "x" else ax.yaxis).set_major_locator(locator)


def _some_rows(W: Any) -> np.ndarray:
    """Read W, or evenly spaced runs of its rows where it is long."""
    n = W.shape[0]
    if n <= ROWS:
        return np.asarray(W[:])
    runs = 50
    size = ROWS // runs
    starts = [math.floor(i * (n - size) / (runs - 1)) for i in range(runs)]
    return np.concatenate([np.asarray(W[a : a + size]) for a in starts])
