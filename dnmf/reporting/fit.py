"""The panels of one fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dnmf.config import FitConfig
from dnmf.plots import fit as plots
from dnmf.reporting.figures import Panel, draw
from dnmf.reporting.rows import RowErrors
from dnmf.values import format_bytes

__all__ = ["fit_facts", "fit_panels"]

MOST_COMPONENTS = 24
"""Components whose top features are drawn."""

MOST_LETTERS = 20
"""Of a feature's name: longer ones would leave no room for their bars."""

LONG_NAME = 12
"""Letters that three figures in a row have room for."""


def fit_panels(
    fit: Any,
    found: RowErrors,
    shape: tuple[int, int] | None = None,
    names: Sequence[str] | None = None,
) -> list[Panel]:
    """Draw every figure of a fit, in the order of the page; ``found`` is what was read of V."""
    panels = [_objective(fit), _kkt(fit), *_rounds(fit), _shares(fit)]
    panels += [_heat(fit, names)]
    if shape is not None:
        panels.append(_images(fit, shape))
    if names is not None:
        panels.append(_features(fit, names))
    panels.append(_weights(fit))
    if not found.reason:
        panels.append(_rows(found))
    return panels


def _objective(fit: Any) -> Panel:
    rows = [row for row in fit.history if row["accepted"]]
    reading = "The objective must never rise from one accepted pass to the next."
    if len(rows) > 1 and rows[-2]["objective"] > 0:
        fell = max(0.0, 1 - rows[-1]["objective"] / rows[-2]["objective"])  # it may round up
        reading = (
            f"The curve should be flat at its end: the last pass lowered the objective by "
            f"{fell:.2g} of itself. If it still falls steeply, give {_more(fit)}."
        )
    elif rows and _cut_short(fit):
        reading = "It was allowed one pass, so there is no course to see; give a larger max_passes."
    elif rows:
        reading = "One pass was enough, so there is no course to see."
    return draw("Objective by pass", reading, lambda ax: plots.plot_objective(fit, ax))


def _cut_short(fit: Any) -> bool:
    """Tell whether the fit ended because it was allowed no more passes."""
    return bool(fit.passes >= fit.config["max_passes"] and "before tol" in (fit.stop_reason or ""))


def _more(fit: Any) -> str:
    return "a larger max_passes" if _cut_short(fit) else "a smaller tol"


def _kkt(fit: Any) -> Panel:
    reading = (
        "The gap is 0 where neither W nor H can be improved by itself. It should fall by orders of "
        "magnitude; a gap that stays level says that the fit stopped on its way."
    )
    return draw("Optimality by pass", reading, lambda ax: plots.plot_kkt(fit, ax))


def _rounds(fit: Any) -> list[Panel]:
    """Draw what rounds predicted and what came, where there were some."""
    found = plots.decreases(fit.history)
    if not any(row["predicted"] > 0 for row in found):
        return []
    total, refused = sum(row["rounds"] for row in found), sum(not row["accepted"] for row in found)
    reading = (
        f"Between reads of V, {total:,} rounds went on by a compressed V, and told how much the "
        f"next pass would gain: the nearer the two are, the better that told. {_rejected(refused)}"
    )
    return [draw("Rounds between reads", reading, lambda ax: plots.plot_rounds(fit, ax))]


def _rejected(passes: int) -> str:
    if not passes:
        return "No pass rejected what they made."
    count = f"{passes} {'pass' if passes == 1 else 'passes'}"
    return f"{count} rejected what they made, and went on from the H before."


def _shares(fit: Any) -> Panel:
    share = np.sort(plots.shares(fit))[::-1]
    some = int(np.searchsorted(np.cumsum(share), 0.9) + 1)
    reading = (
        f"How much of the reconstruction each component makes up: {min(some, share.size)} of "
        f"{share.size} carry nine tenths of it. A component near 0 could be left out."
    )
    return draw("Share of every component", reading, lambda ax: plots.plot_share(fit, ax))


def _heat(fit: Any, names: Sequence[str] | None) -> Panel:
    reading = (
        "Bright columns are what a component is made of. Two rows of the same pattern are one "
        "component split in two: k may be too large."
    )
    height = min(9.0, max(2.6, 1.6 + 0.18 * fit.k))  # of the colour bar's label, too
    return draw(
        "H, component by column", reading, lambda ax: plots.plot_H(fit, ax, names), (8.0, height)
    )


def _images(fit: Any, shape: tuple[int, int]) -> Panel:
    across = 7
    down = -(-fit.k // across)
    height = min(20.0, 0.6 + down * 1.1 * max(0.5, min(shape[0] / shape[1], 2.0)) + down * 0.15)
    reading = (
        "Each row of H as an image; dark pixels are large. Local dark patches are parts; an image "
        "that is whole and blurred mixes several."
    )

    def how(figure: Any) -> None:
        plots.draw_images(fit, shape, figure, across)

    return draw("Components as images", reading, how, (8.0, height), whole=True)


def _features(fit: Any, names: Sequence[str]) -> Panel:
    shown = min(fit.k, MOST_COMPONENTS)
    short = [_shortened(str(name)) for name in names]
    across = 3 if max(map(len, short)) <= LONG_NAME else 2
    down = -(-shown // across)
    reading = "The columns of V that weigh most in each component, by name: what it is about."
    if shown < fit.k:
        reading += f" The first {shown} of {fit.k} components."

    def how(figure: Any) -> None:
        grid = figure.subplots(down, across, squeeze=False)
        for place, ax in enumerate(grid.flat):
            if place < shown:
                plots.plot_features(fit, place, ax, short)
                ax.set(xlabel="", ylabel="")
            else:
                ax.set_axis_off()
        figure.supxlabel("part of the component's sum (percent)", fontsize=8)
        figure.supylabel("column of V (name)", fontsize=8)

    return draw("Top features", reading, how, (9.0, 0.4 + 2.2 * down), whole=True)


def _shortened(name: str) -> str:
    """Shorten a name and keep both its ends: names often begin alike."""
    return name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 8]}…{name[-7:]}"


def _weights(fit: Any) -> Panel:
    reading = (
        "The box holds the middle half of the rows of V, the line in it is the median, the "
        "whiskers reach from 5% to 95%. A box at 0 with long whiskers belongs to few rows, one "
        "off 0 to most of them."
    )
    return draw("Distribution of W", reading, lambda ax: plots.plot_W(fit, ax), (8.0, 3.6))


def _rows(found: Any) -> Panel:
    finite = found.errors[np.isfinite(found.errors)]
    worst = found.numbers[int(np.nanargmax(found.errors))] if finite.size else 0
    reading = (
        f"Each point is a row of V that was read again ({found.numbers.size:,} of them). Rows far "
        f"above the others are not explained by these components; the worst is row {worst}. A "
        f"trend says that rows in some places differ from the rest."
    )
    label = "error of the row (share of its norm)"
    return draw(
        "Reconstruction error by rows",
        reading,
        lambda ax: plots.plot_rows(found.numbers, found.errors, label, ax),
        (8.0, 3.4),
    )


def fit_facts(fit: Any) -> list[tuple[str, str]]:
    """List label and value of what ran."""
    details, config = fit.details, fit.config
    layout = details.get("layout") or {}
    shape = fit.shape
    whole = details.get("source", "in memory")
    facts = [
        ("Result", fit.path or "in memory"),
        ("Data", str(whole)),
        ("V", f"{shape[0]:,} x {shape[1]:,}" if shape else "unknown"),
        ("k", str(fit.k)),
        ("Loss", _loss(config)),
        ("Objective", "-" if fit.objective is None else f"{fit.objective:.8g}"),
        ("Relative error", "-" if fit.relative_error is None else f"{fit.relative_error:.5g}"),
        ("Stopped", fit.stop_reason or "in progress"),
    ]
    if apart := (details.get("starts") or {}).get("remark"):
        facts.append(("Starts", apart))
    if open_rows := fit.open_rows_remark:
        facts.append(("Open rows", open_rows))
    if clipped := details.get("clipped"):
        facts.append(("Clipped", f"{clipped:,} negative entries of V count as 0"))
    read = sum(int(row.get("bytes_read", 0)) for row in fit.history)
    once = int(layout.get("bytes_per_read", 0))
    seconds = sum(float(row.get("seconds", 0.0)) for row in fit.history)
    batch = bool(config.get("batch"))
    passes = f"{fit.passes}" + (" (shared with the study's other models)" if batch else "")
    facts += [("Passes over V", passes)]
    if once:
        facts.append(("Reads of V", f"{1 + read / once:.3g}, the scan included"))
        facts.append(("Bytes read", format_bytes(once + read)))
    return [*facts, ("Seconds in passes", f"{seconds:,.1f}"), *shared_facts(details, fit)]


def shared_facts(details: dict[str, Any], run: Any) -> list[tuple[str, str]]:
    """List label and value of what a fit and a study both have."""
    versions = details.get("versions") or getattr(run, "versions", {}) or {}
    layout, facts = details.get("layout") or {}, []
    memory = details.get("memory_per_worker")
    if memory:
        facts.append(("Memory", f"{format_bytes(memory)} predicted for a worker of one thread"))
    if layout:
        blocks = f"{layout['blocks']:,} blocks in {layout['segments']:,} segments"
        facts.append(("Layout", blocks))
    if versions:
        facts.append(("Versions", ", ".join(f"{n} {v}" for n, v in sorted(versions.items()))))
    return facts


def _loss(config: dict[str, Any]) -> str:
    beta = config.get("beta")
    return f"{config.get('loss', FitConfig.loss)}" + (
        f" (beta = {beta:g})" if beta is not None else ""
    )
