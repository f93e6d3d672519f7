"""Matplotlib, where it is installed, and Axes to draw on."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dnmf.errors import MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "BLUE",
    "GREY",
    "ORANGE",
    "SEQUENTIAL",
    "axes_or_new",
    "bare_figure",
    "matplotlib",
    "new_figure",
    "plain_logs",
    "thin_ticks",
]

BLUE, ORANGE, GREY = "#1f77b4", "#d9720b", "#6b6b6b"
SEQUENTIAL = "viridis"


def matplotlib(name: str) -> Any:
    """Import a module of matplotlib.

    Raises
    ------
    MissingDependencyError
        It is not installed; the message has the command that installs it.
    """
    try:
        return import_module(f"matplotlib.{name}")
    except ImportError as error:
        raise MissingDependencyError(
            "figures need matplotlib, which is not installed; install it with: "
            "python -m pip install 'dnmf[plot]'"
        ) from error


def axes_or_new(ax: Axes | None) -> Axes:
    """Return the Axes given, or those of a new figure of pyplot's."""
    if ax is not None:
        return ax
    made: Axes = matplotlib("pyplot").subplots(layout="constrained")[1]
    return made


def literal(text: object) -> str:
    """Escape a text of the user: matplotlib takes what is between dollars for a formula."""
    return str(text).replace("$", r"\$")


def plain_logs(ax: Axes) -> None:
    """Write numbers such as 0.2 on a logarithmic y axis that spans little."""
    ticker = matplotlib("ticker")
    for which in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
        which(ticker.FuncFormatter(lambda value, _: f"{value:.3g}"))
    ax.yaxis.set_minor_locator(ticker.LogLocator(subs=(2, 3, 5)))


def thin_ticks(ax: Axes, numbers: Sequence[int], most: int = 20) -> None:
    """Set ticks of the x axis at these numbers, or at every so many of them."""
    shown = list(numbers)[:: -(-len(numbers) // most) or 1]
    ax.set_xticks(shown, [str(number) for number in shown])


def new_figure() -> Figure:
    """Make a figure of pyplot's."""
    made: Figure = matplotlib("pyplot").figure(layout="constrained")
    return made


def bare_figure(width: float, height: float) -> Figure:
    """Make a figure that no window and no global state knows; sizes in inches."""
    made: Figure = matplotlib("figure").Figure(figsize=(width, height), layout="constrained")
    return made
