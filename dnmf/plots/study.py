"""Figures of a study: what its models say of k."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dnmf.errors import OptionError
from dnmf.plots.canvas import (
    BLUE,
    GREY,
    ORANGE,
    SEQUENTIAL,
    axes_or_new,
    plain_logs,
    thin_ticks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_consensus", "plot_held_out", "plot_objectives", "plot_stability"]


def plot_held_out(study: Any, ax: Axes | None = None) -> Axes:
    """Draw the held-out error over k: every fold, their mean, and the k that is recommended."""
    held_out = study.held_out
    if held_out is None:
        raise OptionError("the study left nothing out; fit it with holdout='bicv'")
    ax = axes_or_new(ax)
    for fold in held_out.errors.T:
        ax.plot(held_out.ks, fold, "-", color=GREY, lw=0.7, alpha=0.6)
    ax.plot([], [], "-", color=GREY, lw=0.7, label="each fold")
    ax.errorbar(
        held_out.ks,
        held_out.mean,
        yerr=held_out.mean * held_out.standard_error,
        fmt="o-",
        color=BLUE,
        capsize=3,
        label="mean, and the standard error of its excess",
    )
    _mark(study, ax)
    ax.set_yscale("log")
    plain_logs(ax)
    ax.set_xlabel("k (number of components)")
    ax.set_ylabel("held-out error (share of V there)")
    thin_ticks(ax, held_out.ks)
    ax.legend(frameon=False, fontsize=8)
    return ax


def plot_stability(study: Any, ax: Axes | None = None) -> Axes:
    """Draw how alike the runs of every k are: 1 is the same components every time."""
    ax = axes_or_new(ax)
    found = [study.stability(k) for k in study.ks]
    ax.plot(study.ks, [s.mean for s in found], "o-", color=BLUE, label="matched cosine, mean")
    ax.plot(study.ks, [s.silhouette for s in found], "s-", color=ORANGE, label="silhouette, mean")
    ax.plot(study.ks, [s.least for s in found], "s:", color=ORANGE, label="silhouette, least")
    label = f"cophenetic correlation ({found[0].clusters})"
    ax.plot(study.ks, [s.cophenetic for s in found], "^-", color="#2a8a4a", label=label)
    _mark(study, ax)
    ax.set_xlabel("k (number of components)")
    ax.set_ylabel("stability (no unit, 1 is best)")
    thin_ticks(ax, study.ks)
    ax.legend(frameon=False, fontsize=8)
    return ax


def plot_objectives(study: Any, ax: Axes | None = None) -> Axes:
    """Draw the objective of every run over k, against the best run of the smallest k."""
    ax = axes_or_new(ax)
    lines = [x for x in study.models if x["fold"] is None and x["objective"] is not None]
    smallest = min(x["k"] for x in lines)
    unit = min(x["objective"] for x in lines if x["k"] == smallest) or 1.0
    ax.plot([x["k"] for x in lines], [x["objective"] / unit for x in lines], "o", color=BLUE, ms=4)
    ax.set_xlabel("k (number of components)")
    ax.set_ylabel(f"objective (share of the best at k = {smallest})")
    thin_ticks(ax, study.ks)
    return ax


def plot_consensus(study: Any, k: int, ax: Axes | None = None) -> Axes:
    """Draw which rows or columns are together in how many runs, ordered by average linkage."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    ax = axes_or_new(ax)
    found = study.stability(k)
    distance = 1.0 - found.consensus
    np.fill_diagonal(distance, 0.0)
    order = np.arange(distance.shape[0])
    if order.size > 2:
        order = leaves_list(linkage(squareform(distance, checks=False), method="average"))
    shown = found.consensus[np.ix_(order, order)]
    image = ax.imshow(
        shown, cmap=SEQUENTIAL, vmin=0, vmax=1, interpolation="nearest", rasterized=True
    )
    ax.figure.colorbar(image, ax=ax, label="runs in which both are together (share)")
    which = found.clusters if found.clusters == "columns" else "rows sampled"
    ax.set_xlabel(f"{which} of V (in clustered order)")
    ax.set_ylabel(f"{which} of V (in clustered order)")
    return ax


def _mark(study: Any, ax: Axes) -> None:
    answer = study.recommend()
    if answer.k is not None:
        text = f"recommended: k = {answer.k}" + (" (weak)" if answer.weak else "")
        ax.axvline(answer.k, color="black", lw=1, ls="--", label=text)
