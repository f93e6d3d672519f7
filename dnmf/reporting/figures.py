"""A figure of a page: drawn, and turned into SVG that stands alone."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dnmf.plots.canvas import bare_figure, matplotlib

__all__ = ["Panel", "as_svg", "draw"]

STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and read aloud
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
}
DPI = 130
"""Of the parts that are pixels: heat maps, clouds of points."""


@dataclass(frozen=True)
class Panel:
    """One figure of the page.

    Attributes
    ----------
    title : str
    svg : str
    reading : str
        What to read from it: a sentence or two.
    """

    title: str
    svg: str
    reading: str


def draw(
    title: str,
    reading: str,
    how: Callable[[Any], Any],
    size: tuple[float, float] = (6.4, 3.6),
    *,
    whole: bool = False,
) -> Panel:
    """Draw a panel.

    Parameters
    ----------
    how : callable
        Draws on the Axes that it is given, or on the figure where ``whole``.
    size : (float, float)
        Inches.
    """
    with matplotlib("style").context(STYLE):
        figure = bare_figure(*size)
        how(figure if whole else figure.subplots())
        return Panel(title, as_svg(figure, title), reading)


def as_svg(figure: Any, title: str) -> str:
    """Turn the figure into an element of a page, with ids of its own and its title as label."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", dpi=DPI, metadata={"Date": None, "Creator": None})
    text = stream.getvalue().decode()
    text = text[text.index("<svg") :]
    own = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    text = re.sub(r'\bid="([^"]+)"', rf'id="{own}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{own}-\1)", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{own}-\1"', text)
    label = title.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
